"""What a project's `invoke test` asks of the site itself."""

import pytest
from portico_site import health
from portico_site.self_check import complaints


def test_a_site_that_answers_has_no_complaints_and_a_probe_that_fails_is_named(db: None) -> None:
    health.Asked.forget()
    assert complaints(["/readyz", "/"]) == []
    assert complaints(["/nowhere", "/readyz"]) == ["/nowhere: 404"]


def test_readiness_says_what_is_missing(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    health.Asked.forget()
    monkeypatch.setitem(health.CHECKS, "broker", lambda: "is asleep")
    [said] = complaints(["/readyz"])
    assert said.startswith("/readyz: 503 ")
    assert '"broker": "is asleep"' in said
