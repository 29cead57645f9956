"""nginx in front of the replicas."""

from __future__ import annotations

import pytest

from deploy.compose import front
from deploy.core.errors import Failure
from deploy.core.shell import Result
from tests.unit.stacks import Engine


def test_an_nginx_that_does_not_take_a_reload_is_a_failure_and_not_a_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "RELOAD_SECONDS", 0.2)
    Engine(monkeypatch, {"docker top": Result(0, "PID COMMAND\n7 nginx: worker process\n")})
    with pytest.raises(Failure, match="nginx-1 did not load its configuration"):
        front.reload("nginx-1", wait=True)


def test_an_nginx_whose_processes_are_not_told_has_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = [Result(0, f"PID COMMAND\n{each}") for each in ("7 nginx: worker process", "8 nginx: worker process")]
    Engine(monkeypatch, {"docker top": [workers[0], Result(1, "", "no top"), workers[1]]})
    with pytest.raises(Failure, match="no top"):
        front.reload("nginx-1", wait=True)
