"""Releases on plain hosts: decisions, compared by value."""

import io
import json
import os
import subprocess
import tarfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.core.errors import Failure
from deploy.hosts.environment import file
from deploy.hosts.layout import RELEASE
from deploy.hosts.release import archive, deploy, phases, release, state
from deploy.hosts.release.state import HostState
from deploy.hosts.ssh.channel import script
from deploy.project import config, workers
from tests.support import ROOT

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OLD, MIDDLE, NEW = "20260101-000000-aaaaaaa", "20260102-000000-bbbbbbb", "20260103-000000-ccccccc"
FILE = """\
domain: shop.example
drain: 30
secrets: {SECRET_KEY: env:KEY, API_TOKEN: env:TOKEN}
settings: {LOG_LEVEL: INFO, GREETING: "it's $HOME"}
hosts:
  web1: {roles: [web], workers: 3}
  web2: {roles: [web]}
  jobs1: {roles: [worker, beat]}
  data1: {roles: [database, broker]}
"""


@pytest.fixture(scope="module")
def site() -> phases.Target:
    values = {"name": "portico", "site": "site", "port": "8000", "samples": "", "run": ".run"}
    project = config.load(ROOT, {**values, "probes": "/readyz /", "free_gigabytes": "3"})
    return phases.choose(project, file.parse(FILE, "x", ROOT))


def made(id: str) -> release.Release:
    return release.Release(id, id[-7:] * 5, "main", "a change", "jan@laptop", "2026-01-01T00:00:00+00:00")


def host(
    name: str,
    current: str,
    *served: str,
    never: tuple[str, ...] = (),
    left: tuple[str, ...] = (),
    arrived: tuple[str, ...] = (),
    **more: object,
) -> HostState:
    """A host that has activated releases in this order; by default they arrived in the order of their ids."""
    kept = {each: state.Kept(made(each), at + 1, each in left) for at, each in enumerate(served)}
    kept |= {each: state.Kept(made(each), 0) for each in never}
    kept = {each: kept[each] for each in arrived or sorted(kept)}
    known = HostState(name, setup="digest", roles=("web",), current=current, free=10**7, kept=list(kept.values()))
    for key, value in more.items():
        setattr(known, key, value)
    return known


def states(*hosts: HostState) -> dict[str, HostState]:
    return {each.name: each for each in hosts}


def refusal(call: object, *arguments: object) -> str:
    assert callable(call)
    with pytest.raises(Failure) as raised:
        call(*arguments)
    return raised.value.message


# --- What a release is ---


def test_ids_are_what_the_root_helper_takes_and_sort_by_time() -> None:
    first, second = (release.new_id("abcdef0123456789", NOW.replace(second=each)) for each in (5, 6))
    assert first == "20260102-030405-abcdef0"
    assert RELEASE.fullmatch(first)
    assert first < second


def test_a_release_is_read_back_as_it_was_written() -> None:
    one = made(NEW)
    assert release.parse(one.json) == one
    with pytest.raises(ValueError, match="other"):
        release.parse('{"other": 1}')


def test_a_shell_reads_each_variable_as_it_is() -> None:
    odd = {"A": "it's", "B": "$HOME `id` \\", "C": "two\nlines", "D": '"quoted" # no comment', "E": ""}
    text = release.environment_file(odd)
    python = "import json, os; print(json.dumps({k: os.environ[k] for k in 'ABCDE'}))"
    ran = subprocess.run(
        ["sh", "-c", f'set -a; eval "$(cat)"; exec python3 -c "{python}"'],
        check=True,
        input=text,
        capture_output=True,
        text=True,
    )
    assert json.loads(ran.stdout) == odd


def test_the_site_is_told_its_names_socket_and_sizes(site: phases.Target) -> None:
    one, two = (deploy.variables(site, each, NEW, HostState("", cores=4)) for each in site.hosts[:2])
    assert one["WEB_CONCURRENCY"] == "3"
    assert two["WEB_CONCURRENCY"] == two["CONCURRENCY"] == "4"  # cores
    assert one["BIND"] == f"unix:/run/portico-x/web-{NEW}/sock"
    assert one["STATIC_ROOT"] == f"/srv/portico-x/releases/{NEW}/static"
    assert one["ALLOWED_HOSTS"] == "shop.example"
    assert one["HTTPS_ONLY"] == "0"
    assert one["WORKER_STOP_SECONDS"] == "30"
    assert one["UNKNOWN_TASK_SECONDS"] == "180"
    assert one["GREETING"] == "it's $HOME"
    assert "SECRET_KEY" not in one


KINDS = workers.parse(
    {
        "mail": {"queues": ["mail", "post"], "concurrency": 2, "celery": "--pool threads"},
        "billing": {"queues": ["billing"], "alone": True},
    }
)


def with_kinds(site: phases.Target, **kinds: tuple[str, ...]) -> phases.Target:
    """The site with kinds of workers, and workers on all hosts; ``kinds`` are those of a host that names some."""
    hosts = [
        each.model_copy(update={"roles": ("web", "worker"), "kinds": kinds.get(each.name)})
        for each in site.environment.hosts
    ]
    environment = site.environment.model_copy(update={"hosts": tuple(hosts)})
    return phases.choose(replace(site.project, workers=KINDS), environment)


def test_a_release_brings_the_kinds_of_its_workers_and_one_that_must_be_alone_runs_on_one_host(
    site: phases.Target,
) -> None:
    several = with_kinds(site)
    one, two = (deploy.variables(several, each, NEW, HostState("", cores=4)) for each in several.hosts[:2])
    assert one["PORTICO_WORKERS"] == "worker,worker_mail,worker_billing"
    assert two["PORTICO_WORKERS"] == "worker,worker_mail"
    assert one["PORTICO_ALONE"] == two["PORTICO_ALONE"] == "worker_billing"
    assert one["PORTICO_WORKER"] == "-c 4 --loglevel=info"
    assert one["PORTICO_WORKER_mail"] == "-c 2 -Q mail,post --pool=threads --loglevel=info"
    assert one["PORTICO_WORKER_billing"] == "-c 1 -Q billing --loglevel=info"
    assert one["PORTICO_KINDS"] == "default,mail,billing"
    assert several.alone["worker_billing"] == "web1"


def test_a_host_may_name_the_kinds_of_its_workers(site: phases.Target) -> None:
    some = with_kinds(site, web1=("default", "mail"), web2=("billing",), jobs1=("mail",))
    names = [deploy.variables(some, each, NEW, HostState("", cores=4))["PORTICO_WORKERS"] for each in some.hosts[:3]]
    assert names == ["worker,worker_mail", "worker_billing", "worker_mail"]
    few = dict.fromkeys(("web1", "web2", "jobs1", "data1"), ("default", "mail"))
    assert "no host runs workers of the kind billing" in refusal(lambda: with_kinds(site, **few))
    wrong = "hosts.web1.kinds: 'mial' does not run there; there are: default, mail, billing"
    assert wrong in refusal(lambda: with_kinds(site, web1=("mial",)))


def test_what_should_run_on_a_host_is_what_its_release_has(site: phases.Target) -> None:
    found = state.parse("web1", f"current {NEW}\nworkers worker worker_mail\nunit worker_mail {NEW} active\n")
    assert state.missing(found, ("web", "worker", "broker")) == ["web", "worker"]
    before = state.parse("web1", f"current {NEW}\n")
    assert state.missing(before, ("worker",)) == ["worker"], "a release of an earlier version names no kinds"
    assert state.missing(state.parse("web1", f"current {NEW}\nworkers \n"), ("worker",)) == []


def test_what_scripts_read_has_a_line_for_each_value(site: phases.Target) -> None:
    assert phases.ship_header(site, made(NEW), {"A": "1\n2"}).count("\n") == 6
    lines = phases.activate_header(site, NEW, {"who": 'a "b"'}, leave=True).splitlines()
    assert lines[:4] == [NEW, "shop.example", "http", "/readyz /"]
    assert json.loads("{" + lines[4] + "}") == {"who": 'a "b"'}
    assert lines[5:] == ["leave", ""]


# --- Which hosts ---


def test_hosts_without_a_part_of_the_site_get_no_release(site: phases.Target) -> None:
    assert site.names == ["web1", "web2", "jobs1"]
    assert site.batches == [["web1", "jobs1"], ["web2"]]
    assert site.beat == "jobs1"


def test_only_names_hosts_of_the_site(site: phases.Target) -> None:
    few = phases.choose(site.project, site.environment, "web2")
    assert (few.names, few.batches, few.beat) == (["web2"], [["web2"]], "")
    assert "--only data1: no host of" in refusal(phases.choose, site.project, site.environment, "data1")


def test_a_dirty_work_tree_is_refused_by_name() -> None:
    said = refusal(deploy.require_clean, " M site/a.py\n?? new file\n")
    assert said == "not committed: site/a.py, new file. Commit it, or leave it out with --ref HEAD"
    deploy.require_clean("")


# --- What hosts say ---


def test_facts_are_read_and_torn_lines_left_out() -> None:
    text = (
        f"setup abc\nroles web beat\ncores 4\nunit web {NEW} active\ncurrent {NEW}\nfree 1000\n"
        f"release {NEW} 1700000000 left {made(NEW).json}\nrelease {OLD} 0 - {made(OLD).json}\n"
        f"release {MIDDLE} 1700000000 - {{\n"
        'ledger {"action": "deploy", "outcome": "in service"}\nledger {"act\n'
    )
    found = state.parse("web1", text)
    assert (found.setup, found.cores, found.current, found.free) == ("abc", 4, NEW, 1000)
    assert found.units == [state.RunningUnit("web", NEW, "active")]
    assert [(each.release.id, each.served, each.left) for each in found.kept] == [
        (NEW, 1700000000, True),
        (OLD, 0, False),
    ]
    assert found.roles == ("web", "beat")
    assert found.served == {NEW}
    assert found.ledger == [{"action": "deploy", "outcome": "in service"}]
    assert state.parse("web1", "setup -\n").setup == ""


def test_a_host_says_its_releases_in_the_order_in_which_it_got_them(tmp_path: Path) -> None:
    """By its own clock: ids come from the clients' clocks, one of which is behind."""
    srv, etc, bin_folder = (tmp_path / each for each in ("srv/shop-x", "etc/shop-x", "bin"))
    for folder in (srv / "releases", srv / "state", etc, bin_folder):
        folder.mkdir(parents=True)
    (etc / "roles").write_text("web\n")
    for name in ("shop-x-helper", "sudo"):
        (bin_folder / name).write_text("#!/bin/sh\n")
        (bin_folder / name).chmod(0o755)
    for at, each in enumerate((NEW, OLD, MIDDLE)):
        (srv / "releases" / each).mkdir()
        (record := srv / "releases" / each / "release.json").write_text(made(each).json)
        os.utime(record, ns=(0, 1_700_000_000_000_000_000 + at))
    text = script("look.sh")
    for real, ours in (("/usr/local/sbin", bin_folder), ("/srv/$name", srv), ("/etc/$name", etc)):
        text = text.replace(real, str(ours))
    words = ["sh", "-c", text]
    path = f"{bin_folder}:{os.environ['PATH']}"
    said = subprocess.run(words, env={"PATH": path, "name": "shop-x"}, capture_output=True, text=True, check=True)
    assert [each.release.id for each in state.parse("web1", said.stdout).kept] == [NEW, OLD, MIDDLE]


def test_hosts_that_are_not_ready_for_a_release_are_all_named() -> None:
    hosts = states(host("web1", ""), host("web2", "", setup="", roles=()), host("web3", "", setup=""), host("web4", ""))
    said = refusal(state.require_ready, hosts, {"web4": ("web", "beat")}, {}, "x").splitlines()
    assert said == [
        "web2: is not set up: run `invoke remote-setup --env x`",
        "web3: its last setup did not finish: run `invoke remote-setup --env x`",
        "web4: was set up as web, but must be web beat: run `invoke remote-setup --env x`",
    ]
    ready = states(host("web1", ""))
    assert state.require_ready(ready, {}, {"web1": "digest"}, "x") == []
    assert "remote-setup --env x" in state.require_ready(ready, {}, {"web1": "another"}, "x")[0]


def test_another_certificate_is_told_where_it_can_be_compared_and_stops_no_deploy() -> None:
    with_mark, before_marks = host("web1", "", setup="digest CERT"), host("web2", "", setup="old")
    hosts = states(with_mark, before_marks)
    marks = {"web1": "digest CERT", "web2": "digest CERT"}
    # web2 was set up by an earlier version, whose digest differs.
    remedy = "`invoke remote-setup --env x`"
    advice = f"web2: its setup is out of date: {remedy}"
    assert state.require_ready(hosts, {}, marks, "x") == [advice]
    renewed = {"web1": "digest NEW"}
    assert state.require_ready(states(with_mark), {}, renewed, "x") == [
        f"web1: its certificate differs from the file in tls: {remedy}"
    ]
    assert state.require_ready(states(with_mark), {}, {"web1": "digest"}, "x") == [], "the certificate is not here"


@pytest.mark.parametrize(
    "line",
    [
        *("free ", "free df: error", "cores", "unit web", "unit"),
        *("release x", "release x y - {}", "ledger [1]", "ledger {"),
    ],
)
def test_a_torn_fact_of_a_host_takes_no_other_with_it(line: str) -> None:
    found = state.parse("web1", f"{line}\nsetup abc\ncurrent {NEW}\n")
    assert (found.setup, found.current, found.free) == ("abc", NEW, None)


# --- Where back to ---


def test_back_is_to_what_served_before() -> None:
    both = states(host("web1", NEW, OLD, MIDDLE, NEW), host("web2", NEW, OLD, MIDDLE, NEW))
    assert state.target(both, "") == MIDDLE


def test_a_release_that_never_served_is_not_gone_back_to() -> None:
    one = states(host("web1", NEW, OLD, NEW, never=(MIDDLE,)))
    assert state.target(one, "") == OLD
    assert "matches no release that has served" in refusal(state.target, one, MIDDLE)


def test_back_is_by_when_a_release_served_last_and_past_those_that_were_rolled_back_from() -> None:
    # MIDDLE was bad, so OLD served again; then NEW, which is bad too.
    again = states(host("web1", NEW, MIDDLE, OLD, NEW, left=(MIDDLE,)))
    assert state.target(again, "") == OLD
    assert state.target(again, MIDDLE) == MIDDLE
    assert state.going_back(again, MIDDLE) == {"web1"}
    assert not state.going_back(states(host("web1", OLD, MIDDLE, OLD, left=(MIDDLE,))), MIDDLE)


def test_a_client_whose_clock_is_behind_rolls_back_from_what_it_deployed() -> None:
    # MIDDLE served; then a client whose clock is a day behind deployed a release that it named OLD.
    arrived = (MIDDLE, OLD)
    bad = states(*(host(name, OLD, MIDDLE, OLD, arrived=arrived) for name in ("web1", "web2")))
    assert state.target(bad, "") == MIDDLE
    assert state.going_back(bad, MIDDLE) == {"web1", "web2"}, "so that it is marked, and not gone forward to"
    back = states(host("web1", MIDDLE, OLD, MIDDLE, arrived=arrived, left=(OLD,)))
    assert "no earlier release" in refusal(state.target, back, "")
    assert not state.going_back(back, OLD), "--to it is the way forward again"


def test_a_host_that_serves_what_is_older_than_the_target_does_not_roll_back_from_it() -> None:
    torn = states(host("web1", NEW, OLD, MIDDLE, NEW), host("web2", OLD, MIDDLE, OLD))
    assert state.going_back(torn, MIDDLE) == {"web1"}


def test_what_served_last_is_by_each_host_s_own_clock_and_never_by_ids() -> None:
    # web2's clock is far ahead of the others; only web2 was rolled back to OLD, and then to NEW again.
    ahead = host("web2", NEW, MIDDLE, OLD, NEW)
    ahead.kept = [state.Kept(each.release, each.served + 1000, each.left) for each in ahead.kept]
    others = [host(name, NEW, OLD, MIDDLE, NEW) for name in ("web1", "web3")]
    assert state.target(states(others[0], ahead, others[1]), "") == MIDDLE
    twice = host("web1", NEW, OLD, MIDDLE, NEW, arrived=(MIDDLE, OLD, NEW))
    twice.kept = [state.Kept(each.release, 7, each.left) for each in twice.kept]  # within one second
    assert state.target(states(twice), "") == OLD


def test_what_was_rolled_back_from_is_said_to_be_there_when_nothing_else_is() -> None:
    said = refusal(state.target, states(host("web1", OLD, NEW, OLD, left=(NEW,))), "")
    assert "no earlier release" in said
    assert "except releases that were rolled back, which --to can name" in said


def test_after_a_rollback_that_was_cut_off_back_is_where_it_went() -> None:
    torn = states(host("web1", MIDDLE, NEW, MIDDLE, left=(NEW,)), host("web2", NEW, MIDDLE, NEW))
    assert state.target(torn, "") == MIDDLE


def test_a_new_host_is_named_when_it_is_in_the_way_of_a_rollback() -> None:
    found = states(host("web1", NEW, OLD, NEW), host("web2", NEW, OLD, NEW), host("web3", ""))
    assert "web3: no release to roll back to; to roll back the others: --only web1,web2" in refusal(
        state.target, found, ""
    )


def test_after_a_deploy_that_was_cut_off_back_is_to_what_the_others_serve() -> None:
    torn = states(host("web1", NEW, MIDDLE, NEW), host("web2", MIDDLE, MIDDLE))
    assert state.target(torn, "") == MIDDLE


def test_a_release_may_be_named_by_its_commit() -> None:
    one = states(host("web1", NEW, OLD, MIDDLE, NEW))
    assert state.target(one, "aaaaaaa") == OLD
    assert state.target(one, OLD) == OLD
    assert "matches more than one release" in refusal(state.target, one, "2026")
    assert "serves on all of these hosts already" in refusal(state.target, one, NEW)


def test_without_an_earlier_release_it_is_said() -> None:
    assert "no earlier release" in refusal(state.target, states(host("web1", NEW, NEW)), "")


def test_rows_say_where_each_release_serves() -> None:
    found = state.rows([host("web1", NEW, OLD, NEW), host("web2", OLD, OLD, never=(NEW,))])
    assert [(each.id, serves, kept) for each, serves, kept in found] == [(NEW, ["web1"], []), (OLD, ["web2"], ["web1"])]


def test_rows_are_in_the_order_in_which_hosts_got_the_releases_newest_first() -> None:
    hosts = [
        host("web1", OLD, MIDDLE, OLD, arrived=(MIDDLE, OLD)),
        host("web2", OLD, MIDDLE, NEW, OLD, arrived=(MIDDLE, NEW, OLD)),
    ]
    assert [each.id for each, _, _ in state.rows(hosts)] == [OLD, NEW, MIDDLE]
    assert [each.id for each, _, _ in state.rows(hosts[::-1])] == [OLD, NEW, MIDDLE]


def test_what_several_ledgers_have_alike_is_one_line() -> None:
    entry = {"at": "1", "release": NEW, "action": "deploy", "who": "jan", "outcome": "in service", "run": "7"}
    other = {**entry, "outcome": "failed: x", "at": "2"}
    found = state.ledger(
        [host("web1", NEW, ledger=[entry]), host("web2", NEW, ledger=[{**entry, "at": "1"}, other])], 5
    )
    assert [(each["outcome"], each["hosts"]) for each in found] == [("in service", "web1 web2"), ("failed: x", "web2")]


# --- The code ---


def git(folder: Path, *words: str) -> str:
    own = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always"]
    return subprocess.run(
        ["git", "-C", str(folder), *own, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def repository(folder: Path, **files: str) -> Path:
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    for name, text in files.items():
        (folder / name).write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    return folder


def unpacked(root: Path, commit: str, more: dict[str, Path] | None = None) -> dict[str, tarfile.TarInfo]:
    with archive.packed(root, commit, more) as (file, size):
        data = b"".join(archive.pieces(file, size))
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz", ignore_zeros=True) as tar:
        return {each.name: each for each in tar.getmembers()}


def test_a_built_front_end_is_packed_at_its_place(tmp_path: Path) -> None:
    root = repository(tmp_path / "root", one="1")
    (tmp_path / "built").mkdir()
    (tmp_path / "built" / "a.js").write_text("x")
    (tmp_path / "built" / "a.js").chmod(0o600)
    found = unpacked(root, "HEAD", {"static/dist": tmp_path / "built"})
    assert {"one", "static/dist/a.js"} <= found.keys()
    assert (found["static/dist/a.js"].mode, found["static/dist/a.js"].uid) == (0o644, 0)


def test_a_commit_is_packed_with_its_submodules_odd_names_and_modes(tmp_path: Path) -> None:
    inner = repository(tmp_path / "inner", deep="deep\n")
    library = repository(tmp_path / "library", part="part\n")
    git(library, "submodule", "--quiet", "add", str(inner), "in ner")
    git(library, "commit", "-qm", "inner")
    root = repository(tmp_path / "root", **{"a file": "1", "two\nlines": "2"})
    (root / "run").write_text("#!/bin/sh\n")
    (root / "run").chmod(0o755)
    git(root, "submodule", "--quiet", "add", str(library), "lib/one")
    git(root, "submodule", "--quiet", "update", "--init", "--recursive")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "second")
    (root / "left").write_text("not committed")
    found = unpacked(root, "HEAD")
    assert {"a file", "two\nlines", "lib/one/part", "lib/one/in ner/deep"} <= found.keys()
    assert "left" not in found
    assert found["run"].mode & 0o111
    assert not found["a file"].mode & 0o111


def test_a_submodule_that_is_not_here_is_named_with_its_remedy(tmp_path: Path) -> None:
    library = repository(tmp_path / "library", part="part\n")
    root = repository(tmp_path / "root", file="1")
    git(root, "submodule", "--quiet", "add", str(library), "lib")
    git(root, "commit", "-qm", "second")
    git(tmp_path, "clone", "-q", str(root), "clone")
    said = refusal(unpacked, tmp_path / "clone", "HEAD")
    assert said.startswith("lib: the submodule's commit")
    assert "git submodule update --init --recursive" in said
