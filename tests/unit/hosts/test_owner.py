"""Whose host a host is: what its mark says to whom, before anything runs there."""

import base64
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.core.errors import Failure
from deploy.hosts.environment.owner import OTHERS_CODE, SETUP, Mark, Owner, others
from deploy.hosts.layout import OWNER
from deploy.hosts.release import state
from deploy.hosts.setup import converge
from deploy.hosts.setup.desired import desired, setup_digest
from deploy.hosts.setup.diff import Desired, Entry, Facts, File, diff
from deploy.hosts.setup.refusal import not_ours
from deploy.hosts.setup.site import Learned
from deploy.hosts.ssh.channel import BEGIN, after_begin, script
from tests.support import ROOT
from tests.unit.hosts.test_setup import PROJECT, environment, host, site

FIRST, OTHER = "1" * 40, "2" * 40
OURS = Owner("shop", "production", (FIRST,))
MARK = OURS.mark()


# --- What a mark says ---


def test_a_mark_is_read_back_and_names_project_environment_commit_and_version() -> None:
    assert Mark.parse(MARK.text) == MARK == Mark("shop", "production", FIRST, SETUP)
    for text in ("", "shop production", f"{MARK}\n{MARK}", "shop production zzz 1", "../x y - 1"):
        with pytest.raises(ValueError):  # noqa: PT011 # the text itself
            Mark.parse(text)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (MARK, ""),
        (replace(MARK, commit="-"), ""),
        (
            replace(MARK, project="blog"),
            "this host is production of blog; yours is production of shop: check name in invoke.yaml",
        ),
        (
            replace(MARK, environment="staging"),
            "this host is staging of shop; yours is production of shop: use another",
        ),
        (
            replace(MARK, commit=OTHER),
            "another repository (its first commit is 222222222222, yours 1111",
        ),
        (replace(MARK, setup=SETUP + 1), "a newer Portico has set this host up"),
    ],
)
def test_another_s_host_is_refused_by_name_with_the_remedy(found: Mark, said: str) -> None:
    refused = OURS.refusal(found)
    assert said in refused
    assert bool(refused) == bool(said)


def test_who_does_not_know_the_first_commit_keeps_the_one_of_the_mark() -> None:
    unknown = replace(OURS, commits=())
    assert unknown.refusal(MARK) == ""
    assert unknown.mark(MARK) == MARK
    assert unknown.mark().commit == "-"


# --- Before a script runs ---


def frame(tmp_path: Path, asking: str, mark: str | None) -> subprocess.CompletedProcess[str]:
    """What comes of a script that says `ran`, on a host with a mark."""
    path = tmp_path / "owner"
    path.unlink(missing_ok=True)
    if mark is not None:
        path.write_text(mark)
    text = script("frame.sh").replace(str(OWNER), str(path))
    sent = f"20\n{asking}\n{base64.b64encode(b'read -r said; echo ran $said').decode()}\nsecret\n"
    return subprocess.run(
        ["sh", "-c", text], input=sent, capture_output=True, text=True, timeout=30, check=False, start_new_session=True
    )


@pytest.mark.parametrize(
    ("found", "asking", "runs"),
    [
        (MARK.text, OURS, True),
        (replace(MARK, commit="-").text, OURS, True),
        (MARK.text, replace(OURS, commits=()), True),
        (MARK.text, replace(OURS, commits=(OTHER, FIRST)), True),
        (None, OURS, True),
        (MARK.text, None, True),
        (replace(MARK, project="blog").text, OURS, False),
        (replace(MARK, environment="staging").text, OURS, False),
        (replace(MARK, commit=OTHER).text, OURS, False),
        (replace(MARK, setup=SETUP + 1).text, OURS, False),
        ("", OURS, False),
        ("* * * *", OURS, False),
    ],
)
def test_another_s_host_runs_nothing_and_reads_nothing(
    tmp_path: Path, found: str | None, asking: Owner | None, runs: bool
) -> None:
    done = frame(tmp_path, asking.line if asking else "-", found)
    said = after_begin(done.stdout.encode()).decode()
    assert (done.returncode, said) == ((0, "ran secret\n") if runs else (OTHERS_CODE, ""))
    refused = others("web1", asking, done.stderr)
    assert bool(refused) != runs
    if refused and found:
        assert refused.message.startswith("web1: ")
        assert "\n" not in refused.message


def test_what_a_start_up_file_prints_is_not_what_a_script_says() -> None:
    assert after_begin(b"*** Managed by IT ***" + BEGIN + b"fact\n") == b"fact\n"
    assert after_begin(b"This account is currently not available.\n") == b"This account is currently not available.\n"


# --- Setup ---


def facts(mark: Mark | None = None, sites: tuple[str, ...] = (), served: str = "") -> Facts:
    entries = {}
    if mark:
        entries[str(OWNER)] = Entry("file", "root", "root", "644", File(str(OWNER), mark.text).digest, mark.text)
    if served:
        entries["/etc/nginx/site/server.conf"] = Entry("file", "root", "root", "644", "0", f"server_name {served};\n")
    return Facts(("debian", "12"), entries=entries, sites=frozenset(sites))


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (facts(), ""),
        (facts(MARK), ""),
        (facts(sites=("shop",)), ""),
        (facts(sites=("shop",), served="shop.example www.shop.example"), ""),
        (facts(MARK, sites=("blog", "shop")), ""),
        (facts(replace(MARK, project="blog")), "this host is production of blog; yours is production of shop"),
        (facts(sites=("blog",)), "this host is blog's, by an earlier version; yours is production of shop"),
        (facts(sites=("shop",), served="old.example"), "an earlier version has set this host up for old.example"),
    ],
)
def test_setup_takes_a_bare_host_and_adopts_its_own_but_not_another_s(there: Facts, said: str) -> None:
    refused = not_ours(OURS, "shop.example", there, ())
    assert refused.startswith(said)
    assert bool(refused) == bool(said)


def test_a_host_is_handed_over_within_a_project_when_that_is_asked_for_by_name() -> None:
    for mark in (replace(MARK, environment="staging"), replace(MARK, commit=OTHER)):
        assert "--take-over owner" in not_ours(OURS, "shop.example", facts(mark), ())
        assert not_ours(OURS, "shop.example", facts(mark), ("owner",)) == ""
    assert not_ours(OURS, "shop.example", facts(sites=("shop",), served="old.example"), ("owner",)) == ""
    for mark in (replace(MARK, project="blog"), replace(MARK, setup=SETUP + 1)):
        assert not_ours(OURS, "shop.example", facts(mark), ("owner",))
    with pytest.raises(Failure, match=r"--take-over everything: is not one of: owner"):
        converge.setup(environment(), PROJECT, "", print, confirmed=True, take_over=["everything"])


def test_the_mark_is_written_first_and_the_plan_says_so() -> None:
    wanted = Desired(owner=File(str(OWNER), MARK.text), packages=("nginx",))

    def first(there: Facts) -> str:
        return diff(wanted, there)[0].title

    assert first(facts()) == "+ /etc/portico-owner: this host becomes production of shop"
    assert first(facts(sites=("shop",))).endswith("set up by an earlier version without this mark")
    assert first(facts(replace(MARK, environment="staging"))) == (
        "~ /etc/portico-owner: staging of shop → production of shop"
    )
    assert first(facts(MARK)) == "+ packages: nginx"


def test_the_digest_of_a_setup_is_the_same_from_a_clone_that_does_not_know_the_first_commit() -> None:
    here, unknown = replace(site(), owner=OURS), replace(site(), owner=replace(OURS, commits=()))
    assert setup_digest(here, host(here, "web1")) == setup_digest(unknown, host(unknown, "web1"))
    one = desired(here, host(here, "web1"), Learned())
    other = desired(unknown, host(unknown, "web1"), Learned(mark=MARK))
    assert one.owner == other.owner == File("/etc/portico-owner", MARK.text)


def test_a_host_without_a_mark_takes_no_release_and_names_the_remedy() -> None:
    there = state.parse("web1", "setup abc\nunmarked\nroles web\n")
    with pytest.raises(Failure, match=r"web1: an earlier version has set it up.*remote-setup --env production"):
        state.require_ready({"web1": there}, {}, {}, "production")
    bare = state.parse("web1", "setup -\nunmarked\n")
    with pytest.raises(Failure, match="web1: is not set up"):
        state.require_ready({"web1": bare}, {}, {}, "production")


def test_every_command_but_setup_and_trust_asks_as_its_owner() -> None:
    for path in ("release/deploy.py", "operate.py"):
        made = re.findall(r"(?<!: )\bConnections\((?=\w)(.*)", (ROOT / "deploy/hosts" / path).read_text())
        assert made
        assert all("owner=" in line for line in made), path
