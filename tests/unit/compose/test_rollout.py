"""The number of replicas, and the containers that an interrupted rollout left."""

from __future__ import annotations

from deploy.compose import journal, update
from deploy.compose.containers import Replica
from deploy.project import proxy
from tests.unit.stacks import replica, stack


def test_how_many_env_says_else_as_many_as_run_else_the_default() -> None:
    running = [replica("1"), replica("2"), replica("3"), replica("4", state="exited")]
    assert update.wanted(stack(), running) == {"app": 3, "celery_worker": 1}
    assert update.wanted(stack(), []) == {"app": 2, "celery_worker": 1}
    assert update.wanted(stack(APP_REPLICAS="5"), running) == {"app": 5, "celery_worker": 1}


def test_what_a_killed_command_left_is_known_by_whom_nginx_uses() -> None:
    some = [replica("app-1"), replica("app-2"), replica("app-3", state="created"), replica("w-1", "celery_worker")]
    assert journal.left_over(some, proxy.ALL, None) == [some[2]]
    assert journal.left_over(some, ["app-1"], None) == [some[1], some[2]]
    assert journal.left_over(some, ["gone"], None) == [some[2]], "whoever is left serves"


def generations() -> tuple[list[Replica], list[Replica]]:
    """An app, a worker and a beat of two releases."""
    services = {"app": "a", "celery_worker": "w", "celery_beat": "b"}
    old, new = ([replica(f"{short}{n}", service) for service, short in services.items()] for n in (1, 2))
    return old, new


def test_of_two_generations_the_one_that_serves_stays_with_its_workers_and_beat() -> None:
    old, new = generations()
    names = [each.name for each in old]
    assert journal.left_over([*old, *new], ["a1"], names) == new, "killed before nginx was switched"
    assert journal.left_over([*old, *new], ["a2"], names) == old, "killed after it"
    assert journal.left_over(old, proxy.ALL, names) == [], "killed before anything started"
    assert journal.left_over([*old, *new], proxy.ALL, names, new_serves=True) == old, "killed while the old one ended"


def test_a_beat_that_was_stopped_for_a_new_one_is_not_cleared_away_as_ended() -> None:
    old, new = generations()
    old[2] = replica("b1", "celery_beat", state="exited")
    assert journal.left_over([*old, *new], ["a1"], [each.name for each in old]) == new


def test_a_place_that_holds_beat_runs_none_and_takes_the_one_that_runs_away() -> None:
    held = stack(HOLD="mail,beat")
    assert held.site_services == ("app", "celery_worker")
    assert "celery_beat" not in held.alone
    assert stack().alone[0] == "celery_beat"
