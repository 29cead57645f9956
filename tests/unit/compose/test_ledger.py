"""The ledger, and the releases that are kept."""

from __future__ import annotations

import json

import pytest

from deploy.compose import ledger
from tests.unit.stacks import stack

# --- Releases and the ledger ---


def release(number: int, of: int = 0, image: str = "") -> ledger.Release:
    return ledger.Release(number, of or number, image or f"sha256:{number}", "a" * 40, "jan@laptop", "2026-01-01T10:00")


def test_images_of_releases_that_are_kept_stay_and_those_long_past_go() -> None:
    kept = [release(number) for number in (4, 5)]
    images = [("sha256:5", "latest"), ("sha256:5", "release-5"), ("sha256:5", "abc-changed"), ("sha256:4", "release-4")]
    old = [("sha256:3", "release-3"), *[(f"sha256:x{n}", f"tag{n}") for n in range(ledger.KEPT + 2)]]
    assert ledger.removable_tags([*images, *old], kept) == ["release-3", f"tag{ledger.KEPT}", f"tag{ledger.KEPT + 1}"]


def test_an_earlier_image_is_gone_back_to_with_its_env_and_that_which_serves_is_updated_with_the_one_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = [
        release(1, image="sha256:a"),
        release(2, image="sha256:b"),
        release(3, 1, "sha256:a"),
        release(4, image="c"),
    ]
    monkeypatch.setattr(ledger, "releases", lambda _: kept)
    found = [ledger.of_image(stack(), image) for image in ("sha256:a", "sha256:b", "c", "sha256:other", "")]
    assert found == [kept[2], kept[1], None, None, None]


def test_what_has_no_end_in_the_ledger_was_killed_or_is_in_progress() -> None:
    lines = [{"run": "1", "action": "deploy"}, {"run": "1", "outcome": "release 1 serves"}, {"run": "2"}, {"run": "3"}]
    text = "".join(f"{json.dumps(line)}\n" for line in lines) + '{"run": "4", "act'
    assert [each["outcome"] for each in ledger.entries(text, busy=True)] == [
        *["release 1 serves", "was killed", "in progress"]
    ]
    assert ledger.entries(text, busy=False)[-1]["outcome"] == "was killed"
