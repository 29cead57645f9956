"""Whose host a host is: what its mark says to whom, before anything runs there."""

import base64
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.core.errors import Failure
from deploy.hosts.environment.owner import OTHERS_CODE, SETUP, Mark, Owner, Place, Sites, others
from deploy.hosts.layout import MARKS, OWNER
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
BLOGS = Mark("blog", "production", "-", SETUP)


# --- What a mark says ---


def test_a_mark_is_read_back_and_names_project_environment_commit_and_version() -> None:
    assert Mark.parse(MARK.text) == MARK == Mark("shop", "production", FIRST, SETUP)
    for text in ("", "shop production", f"{MARK}\n{MARK}", "shop production zzz 1", "../x y - 1"):
        with pytest.raises(ValueError):  # noqa: PT011 # the text itself
            Mark.parse(text)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([MARK], ""),
        ([replace(MARK, commit="-")], ""),
        ([replace(MARK, project="blog"), MARK], ""),
        (
            [replace(MARK, project="blog")],
            "this host is production of blog; yours is production of shop, which is not set up here: check name in",
        ),
        (
            [replace(MARK, project="blog"), replace(MARK, environment="staging")],
            "which is not set up here: check --env and the host's address; to add it: `invoke remote-setup --env prod",
        ),
        ([replace(MARK, commit=OTHER)], "another repository (its first commit is 222222222222, yours 1111"),
        ([replace(MARK, setup=SETUP + 1)], "a newer Portico has set this host up"),
    ],
)
def test_a_host_without_our_site_is_refused_by_the_names_of_those_it_has(found: list[Mark], said: str) -> None:
    refused = OURS.refusal(found)
    assert said in refused
    assert bool(refused) == bool(said)


def test_who_does_not_know_the_first_commit_keeps_the_one_of_the_mark() -> None:
    unknown = replace(OURS, commits=())
    assert unknown.refusal([MARK]) == ""
    assert unknown.mark(MARK) == MARK
    assert unknown.mark().commit == "-"


# --- Before a script runs ---


SAYS = b'read -r said; echo "ran <$name> $said"'


def frame(tmp_path: Path, asking: str, marks: dict[str, str], earlier: str | None = None) -> tuple[int, str, str]:
    """What comes of a script that says `ran`, on a host with these marks, or with the one of a version before."""
    folder, path = tmp_path / "sites", tmp_path / "owner"
    folder.mkdir()
    for name, mark in marks.items():
        (folder / name).write_text(mark)
    if earlier is not None:
        path.write_text(earlier)
    text = script("frame.sh").replace(str(OWNER), str(path)).replace(str(MARKS), str(folder))
    sent = f"20\n{asking}\n{base64.b64encode(SAYS).decode()}\nsecret\n"
    done = subprocess.run(
        ["sh", "-c", text], input=sent, capture_output=True, text=True, timeout=30, check=False, start_new_session=True
    )
    return done.returncode, after_begin(done.stdout.encode()).decode(), done.stderr


BLOG = {"blog-production": replace(MARK, project="blog").text}


@pytest.mark.parametrize(
    ("marks", "asking", "called"),
    [
        ({"shop-production": MARK.text}, OURS, "shop-production"),
        ({**BLOG, "shop-production": replace(MARK, commit="-").text}, OURS, "shop-production"),
        ({"shop-production": MARK.text}, replace(OURS, commits=()), "shop-production"),
        ({"shop": MARK.text}, replace(OURS, commits=(OTHER, FIRST)), "shop"),
        ({}, OURS, "shop-production"),
        (BLOG, None, ""),
    ],
)
def test_a_script_learns_what_the_host_calls_its_site(
    tmp_path: Path, marks: dict[str, str], asking: Owner | None, called: str
) -> None:
    code, said, _ = frame(tmp_path, asking.line if asking else "-", marks)
    assert (code, said) == (0, f"ran <{called}> secret\n")


def test_a_host_of_an_earlier_version_keeps_the_project_s_name(tmp_path: Path) -> None:
    assert frame(tmp_path, OURS.line, {}, replace(MARK, setup=1).text)[:2] == (0, "ran <shop> secret\n")


@pytest.mark.parametrize(
    "marks",
    [
        BLOG,
        {"shop-staging": replace(MARK, environment="staging").text},
        {"shop-production": replace(MARK, commit=OTHER).text},
        {"shop-production": replace(MARK, setup=SETUP + 1).text},
        {"shop-production": ""},
        {"shop-production": "* * * *"},
    ],
)
def test_another_s_host_runs_nothing_and_reads_nothing(tmp_path: Path, marks: dict[str, str]) -> None:
    code, said, stderr = frame(tmp_path, OURS.line, marks)
    assert (code, said) == (OTHERS_CODE, "")
    refused = others("web1", OURS, stderr)
    assert refused
    assert refused.message.startswith("web1: ")
    assert "\n" not in refused.message


def test_what_a_start_up_file_prints_is_not_what_a_script_says() -> None:
    assert after_begin(b"*** Managed by IT ***" + BEGIN + b"fact\n") == b"fact\n"
    assert after_begin(b"This account is currently not available.\n") == b"This account is currently not available.\n"


# --- Setup ---


@pytest.mark.parametrize(
    ("there", "place"),
    [
        ("", Place("shop-production")),
        (f"mark shop-production {MARK}", Place("shop-production", MARK)),
        (
            f"mark blog-production blog production - {SETUP}",
            Place("shop-production", others={"blog-production": BLOGS}),
        ),
        (f"mark shop {MARK}\nmark blog-production {BLOGS}", Place("shop", MARK, {"blog-production": BLOGS})),
        ("mark shop shop production - 1", Place("shop", replace(MARK, commit="-", setup=1))),
        ("earlier shop", Place("shop")),
        ("mark shop-production torn", Place("shop-production")),
    ],
)
def test_a_site_has_a_place_on_a_host_beside_those_of_others(there: str, place: Place) -> None:
    assert OURS.place(Sites.parse(there)) == place


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (
            "earlier blog",
            "this host is blog, as an earlier version has set it up; yours is production of shop: check",
        ),
        ("mark blog blog production - 1", "run `remote-setup` for that site first: it makes room"),
        ("mark shop shop staging - 1", "this host is staging of shop, as an earlier version has set it up"),
        (f"mark shop-production shop-production x - {SETUP}", "this host calls x of shop-production shop-production"),
        ("mark blog-production torn", "/etc/portico.d/sites/blog-production is malformed: remove it"),
        (f"mark shop-production shop production {OTHER} {SETUP}", "of another repository"),
        (f"mark shop-production shop production - {SETUP + 1}", "a newer Portico"),
    ],
)
def test_a_site_that_a_host_cannot_have_is_refused_with_the_remedy(there: str, said: str) -> None:
    with pytest.raises(Failure) as refused:
        OURS.place(Sites.parse(there))
    assert said in refused.value.message


def test_a_site_is_handed_over_within_a_project_when_that_is_asked_for_by_name() -> None:
    staging = replace(MARK, environment="staging")
    found = OURS.place(Sites.parse(f"mark shop-staging {staging}"), handed=True)
    assert found == Place("shop-staging", staging), "it keeps its names"
    assert OURS.place(Sites.parse(f"mark shop-production {replace(MARK, commit=OTHER)}"), handed=True).name
    with pytest.raises(Failure, match="which is unclear"):
        OURS.place(Sites.parse(f"mark a shop a - {SETUP}\nmark b shop b - {SETUP}"), handed=True)
    blog = OURS.place(Sites.parse(f"mark blog-production {BLOGS}"), handed=True)
    assert blog == Place("shop-production", others={"blog-production": BLOGS}), "another project keeps its site"
    with pytest.raises(Failure, match=r"--take-over everything: is not one of: owner"):
        converge.setup(environment(), PROJECT, "", print, confirmed=True, take_over=["everything"])


def test_a_site_of_a_version_without_marks_is_adopted_if_it_serves_our_domain() -> None:
    here = replace(site(), owner=OURS, name="shop")
    served = Entry("file", "root", "root", "644", "0", "server_name old.example www.old.example;\n")
    there = Facts(("debian", "12"), entries={"/etc/nginx/site/server.conf": served})
    assert not_ours(here, there).startswith("an earlier version has set this host up for old.example; yours is")
    assert not_ours(replace(here, take_over=frozenset({"owner"})), there) == ""
    ours = replace(served, text="server_name shop.example;\n")
    assert not_ours(here, Facts(entries={"/etc/nginx/site/server.conf": ours})) == ""
    assert not_ours(replace(here, name="shop-x"), there) == "", "that file is another's"


def test_the_mark_is_written_first_and_the_plan_says_so() -> None:
    wanted = Desired(owner=File(f"{MARKS}/shop-production", MARK.text), packages=("nginx",))
    said = f"+ {MARKS}/shop-production: this host becomes production of shop"
    assert [change.title for change in diff(wanted, Facts())] == [said, "+ packages: nginx"]


def test_the_one_mark_of_earlier_versions_stays_with_the_first_site() -> None:
    """Their checkouts would not see the others."""
    here = replace(site(), owner=OURS)
    alone = desired(here, host(here, "web1"), Learned())
    assert alone.first_owner == File(str(OWNER), MARK.text)
    assert desired(here, host(here, "web1"), Learned(others={"blog": BLOGS})).first_owner is None


def test_the_digest_of_a_setup_is_the_same_from_a_clone_that_does_not_know_the_first_commit() -> None:
    here, unknown = replace(site(), owner=OURS), replace(site(), owner=replace(OURS, commits=()))
    assert setup_digest(here, host(here, "web1")) == setup_digest(unknown, host(unknown, "web1"))
    one = desired(here, host(here, "web1"), Learned())
    other = desired(unknown, host(unknown, "web1"), Learned(mark=MARK))
    assert one.owner == other.owner == File(f"{MARKS}/shop-x", MARK.text)


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
