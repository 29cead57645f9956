"""The containers of a stack, and an engine that does not answer."""

from __future__ import annotations

import json

import pytest

from deploy.compose import containers
from deploy.compose.dev import not_ready
from deploy.core.errors import Failure
from deploy.core.shell import Result
from tests.unit.stacks import Engine, replica

# --- what runs ---


def test_what_inspect_says_becomes_replicas_in_the_order_of_their_numbers() -> None:
    def container(name: str, oneoff: str = "False") -> dict[str, object]:
        labels = {"com.docker.compose.service": "app", "com.docker.compose.oneoff": oneoff}
        state = {"Status": "running", "ExitCode": 0, "StartedAt": "", "Health": {"Status": "starting"}}
        return {
            "Name": f"/{name}",
            "Config": {"Labels": labels},
            "State": state,
            "RestartCount": 0,
            "Image": "sha256:1",
        }

    text = json.dumps([container("s-app-10"), container("s-app-9"), container("s-app-run-1", "True")])
    assert [each.name for each in containers.parse_replicas(text)] == ["s-app-9", "s-app-10"]
    assert not containers.parse_replicas(text)[0].ready
    assert containers.parse_replicas("") == []


def test_a_replica_that_was_started_again_before_is_no_failure_of_now() -> None:
    assert not replica("a", restarts=2).failed(2)
    assert replica("a", restarts=3).failed(2) == "ended and was restarted"
    assert replica("a", state="exited").failed(0) == "ended with exit code 0"


def test_development_is_ready_when_every_worker_is() -> None:
    now = [replica("a"), replica("w1", "celery_worker"), replica("w2", "celery_worker", health="starting")]
    assert not_ready(now, ("app", "celery_worker", "celery_beat"), 2) == ["celery_worker", "celery_beat"]


def test_an_engine_that_may_not_be_asked_is_not_one_on_which_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    Engine(monkeypatch, {"docker ps": Result(1, "", "permission denied while trying to connect to the socket")})
    with pytest.raises(Failure, match="this user may not use the container engine"):
        containers.has_containers("shop")


DOCKER_27 = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
DOCKER_29 = (
    "failed to connect to the docker API at unix:///var/run/docker.sock; check if the path is correct and if the daemon"
    " is running: dial unix /var/run/docker.sock: connect: no such file or directory"
)


@pytest.mark.parametrize("said", [DOCKER_27, DOCKER_29])
def test_where_no_engine_runs_no_stack_does(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    Engine(monkeypatch, {"docker ps": Result(1, "", said)})
    assert not containers.has_containers("shop")


@pytest.mark.parametrize("said", ["", DOCKER_27.replace("unix:///var/run/docker.sock", "tcp://10.0.0.1:2375")])
def test_an_engine_elsewhere_that_does_not_answer_is_not_one_on_which_nothing_runs(
    monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    Engine(monkeypatch, {"docker ps": Result(1, "", said)})
    with pytest.raises(Failure, match="cannot tell whether the stack runs, because the container engine failed"):
        containers.has_containers("shop")


def test_containers_that_the_engine_does_not_tell_of_have_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    Engine(monkeypatch, {"docker inspect": Result(1, "", "Cannot connect to the Docker daemon")})
    with pytest.raises(Failure, match="cannot list the containers: Cannot connect"):
        containers.inspect([replica("a")])
    Engine(monkeypatch, {"docker inspect": Result(1, "[]", "Error: No such object: a")})
    assert [each.state for each in containers.inspect([replica("a")])] == ["dead"]


def test_replicas_that_do_not_stop_are_not_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch, {"docker stop": Result(1, "", "tried to kill container, but did not receive an exit")})
    with pytest.raises(Failure, match="did not stop the containers"):
        containers.stop_replicas([replica("a")])
    assert not any("docker rm" in line for line in engine.asked)
