"""remote-maintenance: what hosts are told, and what is said of hosts that differ."""

import base64

from deploy.hosts.release import maintenance, state
from deploy.project.maintenance import Record
from tests.unit.hosts.test_health import RELEASE

ON = Record("2026-11-28T15:00:59+00:00", "ann@laptop", "Back at <5>", ["203.0.113.4"], ["workers", "beat"])


def test_hosts_get_the_record_the_page_and_who_is_allowed_on_standard_input() -> None:
    step, *texts, hold, entry, last = maintenance.header("on", ON).splitlines()
    record, page, allow = (base64.b64decode(each).decode() for each in texts)
    assert (step, record, hold, entry, last) == ("on", ON.text, "worker beat", "", "end")
    assert "Back at &lt;5&gt;" in page
    assert allow.split() == ["127.0.0.1", "::1", "203.0.113.4"], "the host itself asks through nginx"


def test_an_entry_for_the_ledger_is_one_line() -> None:
    assert maintenance.header("off", None, {"action": "a\nb"}).splitlines()[-2] == '"action": "a\\nb"'


def test_status_says_it_once_and_names_hosts_without_it() -> None:
    assert maintenance.remarks({"web1": None, "jobs1": None}, "production") == []
    [said] = maintenance.remarks({"web1": ON, "jobs1": ON}, "production")
    assert said.startswith("maintenance since 2026-11-28 15:00 UTC, by ann@laptop: visitors get 503; ")
    assert said.endswith("`invoke remote-maintenance --env production --stop` ends it")
    _, differs = maintenance.remarks({"web1": ON, "web2": None}, "production")
    assert differs.startswith("maintenance is on web1, and not on web2: ")


def test_what_is_held_is_not_missing() -> None:
    text = (
        f"setup abc\nroles web worker beat\ncurrent {RELEASE}\nworkers worker worker_mail\nunit web {RELEASE} active\n"
    )
    roles = ("web", "worker", "beat")
    assert state.missing(state.parse("web1", text), roles) == ["worker", "worker_mail", "beat"]
    held = state.parse("web1", f"{text}maintenance {ON.text}\n")
    assert held.maintenance == ON
    assert state.missing(held, roles) == []
    broken = state.parse("web1", f"{text}maintenance nothing of ours\n")
    assert broken.maintenance is None
