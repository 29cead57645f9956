"""A rollout on a simulated engine: what remains if a part fails, or if the rollout is ended at any moment."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from deploy.compose import containers, dev, front, journal, rollout
from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.shell import Result, Run, Step, WriteSecret
from deploy.docker import env as server_env
from deploy.docker.stack import Stack
from deploy.project import proxy
from deploy.project.config import Project
from deploy.project.workers import Kind
from tests.support import ROOT
from tests.unit.examples import NAMES
from tests.unit.stacks import VALUES

#: The services of which there must never be two.
ALONE = ("celery_beat", "celery_worker_billing")
RELEASED = ("app", "celery_worker", *ALONE)
#: The files whose writing shows the progress of a rollout.
TELLING = ("http.conf", journal.JOURNAL, "release.json")
OLD = {
    **dict.fromkeys(("shop-app-1", "shop-app-2", "shop-celery_beat-1", "shop-celery_worker-1"), "v1"),
    "shop-celery_worker_billing-1": "v1",
}


class Killed(BaseException):
    """Simulates kill -9: from then on, nothing that the command does reaches the engine."""


@dataclass
class Container:
    """A simulated one."""

    service: str
    image: str
    state: str = "created"

    @property
    def alive(self) -> bool:
        return self.state in ("running", "restarting")


@dataclass
class Engine:
    """A simulated container engine with Compose, as far as a rollout uses them. It asserts what must never happen."""

    secrets: Path
    latest: str = "v1"
    containers: dict[str, Container] = field(default_factory=dict)
    #: The services of images that end as soon as they start.
    broken: set[tuple[str, str]] = field(default_factory=set)
    #: How a command fails, by a pattern of the command.
    failing: dict[str, Result] = field(default_factory=dict)
    nginx_takes: bool = True
    workers: set[int] = field(default_factory=lambda: {1})
    told: tuple[str, ...] = proxy.ALL
    log: list[str] = field(default_factory=list)
    #: The command before which the rollout is ended, and how.
    ends: tuple[int, type[BaseException]] | None = None
    clock: float = 0.0
    built: int = 1

    def build(self, *_: object) -> None:
        """Replaces `fetch_image`."""
        self.built += 1
        self.latest = f"v{self.built}"

    def run(self, command: Run, *, capture: bool = False, check: bool = True) -> Result:
        words = list(command.argv)
        line = " ".join(words)
        self.moment(line)
        result = next((each for pattern, each in self.failing.items() if re.search(pattern, line)), None)
        result = result or self.answer(words)
        for service in ALONE:
            alive = [name for name, each in self.containers.items() if each.service == service and each.alive]
            assert len(alive) <= 1, f"two of {service} at once: {line}"
        if check and result.code:
            raise Failure(f"`{line}` failed: {result.stderr}", code=result.code)
        return result

    def moment(self, line: str) -> None:
        """End the rollout before its next command, if that was requested."""
        if self.ends and len(self.log) >= self.ends[0]:
            error = self.ends[1]
            if error is not Killed:
                self.ends = None
            raise error(143)
        self.log.append(line)

    def perform(self, steps: Iterable[Step]) -> None:
        """Replaces `shell.perform`; a killed command writes no files."""
        for step in steps:
            if isinstance(step, WriteSecret) and step.path.name in TELLING:
                self.moment(f"write {step.path.name}")
            elif self.ends and self.ends[1] is Killed and len(self.log) >= self.ends[0]:
                raise Killed
            step.perform()

    def answer(self, words: list[str]) -> Result:  # noqa: PLR0911, PLR0912 - a line for each command
        if words[0] == "git":
            return Result(1)
        match words[1:]:
            case ["ps", flags, *_]:
                return Result(0, "\n".join(n for n, each in self.containers.items() if "a" in flags or each.alive))
            case ["inspect", *some]:
                found = [self.inspected(name) for name in some if name in self.containers]
                gone = "".join(f"Error: No such object: {name}\n" for name in some if name not in self.containers)
                return Result(1 if gone else 0, json.dumps(found), gone)
            case ["start", name]:
                self.start(name)
            case ["stop", *some]:
                for name in some:
                    self.stop(name)
            case ["rm", "--force", *some]:
                for name in some:
                    self.stop(name)
                    del self.containers[name]
            case ["tag", image, "registry.example/shop:latest"]:
                self.latest = image
            case ["image", "inspect", "-f", "{{.Id}}", _]:
                return Result(0, self.latest)
            case ["top", *_]:
                return Result(0, "".join(f"{pid} nginx: worker process\n" for pid in self.workers))
            case ["exec", _, "nginx", *_, "reload"]:
                if self.nginx_takes:
                    self.workers = {max(self.workers) + 1}
                    self.told = proxy.serving((self.secrets / "nginx" / "http.conf").read_text())
            case ["compose", *more]:
                return self.compose(more)
        return Result(0)

    def inspected(self, name: str) -> dict[str, object]:
        each = self.containers[name]
        health = {"Health": {"Status": "healthy"}} if each.state == "running" else {}
        return {
            "Name": f"/{name}",
            "Config": {"Labels": {"com.docker.compose.service": each.service}},
            "State": {"Status": each.state, "ExitCode": 1, "StartedAt": "", **health},
            "RestartCount": 0,
            "Image": each.image,
        }

    def compose(self, words: list[str]) -> Result:
        words = words[words.index("up") :] if "up" in words else []
        counts: dict[str, int] = {}
        services: list[str] = []
        rest = iter(words[1:])
        for word in rest:
            if word == "--scale":
                service, _, number = next(rest).partition("=")
                counts[service] = int(number)
            elif not word.startswith("-"):
                services.append(word)
        for service in services:
            mine = [name for name, each in self.containers.items() if each.service == service]
            last = max((int(name.rpartition("-")[2]) for name in mine), default=0)
            for more in range(counts.get(service, 1) - len(mine)):
                mine.append(f"shop-{service}-{last + 1 + more}")
                self.containers[mine[-1]] = Container(service, self.latest)
            for name in [each for each in mine if "--no-start" not in words and not self.containers[each].alive]:
                self.start(name)
        return Result(0)

    def start(self, name: str) -> None:
        each = self.containers[name]
        each.state = "restarting" if (each.image, each.service) in self.broken else "running"
        if each.service == "nginx":
            self.told = proxy.serving((self.secrets / "nginx" / "http.conf").read_text())

    def stop(self, name: str) -> None:
        each = self.containers[name]
        nginx = self.containers.get("shop-nginx-1")
        if each.service == "app" and each.state == "running" and nginx and nginx.alive:
            assert name not in self.told, f"nginx sends requests to {name}, which is stopped"
            assert self.told != proxy.ALL, f"nginx may send requests to {name}, which is stopped"
        each.state = "exited" if each.alive else each.state

    def released(self) -> dict[str, str]:
        """The images of the site's replicas, by name."""
        return {n: each.image for n, each in sorted(self.containers.items()) if each.service in RELEASED}

    def running(self) -> dict[str, str]:
        return {name: image for name, image in self.released().items() if self.containers[name].state == "running"}


class Clock:
    """A clock that advances only during waits."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def sleep(self, seconds: float) -> None:
        self.engine.clock += seconds

    def monotonic(self) -> float:
        return self.engine.clock


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    shutil.copytree(ROOT / "nginx", tmp_path / "nginx")
    project = Project(tmp_path, "shop", NAMES, 8000, "", ".run", ("/readyz",), 3)
    project = replace(project, workers=(Kind(), Kind("billing", ("billing",), alone=True)))
    path = tmp_path / ".env"
    path.write_text("".join(f"{name}={value}\n" for name, value in VALUES.items()))
    path.chmod(0o600)
    return Stack(project, "prod", server_env.load(path))


@pytest.fixture
def engine(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine on which the first release runs."""
    played = Engine(stack.secrets)
    monkeypatch.setattr(shell, "run", played.run)
    monkeypatch.setattr(shell, "perform", played.perform)
    monkeypatch.setattr(containers, "time", Clock(played))
    monkeypatch.setattr(front, "time", Clock(played))
    monkeypatch.setattr(rollout, "fetch_image", played.build)
    rollout.deploy(stack, "", lambda _: None)
    played.latest, played.built = "v1", 1
    for each in played.containers.values():
        each.image = "v1"
    assert played.running() == OLD
    played.log.clear()
    return played


def said() -> tuple[list[str], Callable[[str], None]]:
    lines: list[str] = []
    return lines, lines.append


def prod(stack: Stack) -> list[str]:
    lines, notify = said()
    rollout.deploy(stack, "", notify)
    return lines


def told(stack: Stack) -> tuple[str, ...]:
    return proxy.serving((stack.secrets / "nginx" / "http.conf").read_text())


def serves_alone(engine: Engine, stack: Stack, images: Sequence[str]) -> None:
    """Assert that one complete release of these images runs, and nothing else exists."""
    assert engine.released() == engine.running()
    assert set(engine.released().values()) == set(images)
    services = sorted(engine.containers[name].service for name in engine.released())
    assert services == ["app", *sorted(RELEASED)]
    assert (told(stack), engine.told) == (proxy.ALL, proxy.ALL)
    assert not (stack.secrets / journal.JOURNAL).exists()


def test_an_update_replaces_everything_and_never_runs_two_beats_or_two_workers_that_must_be_alone(
    stack: Stack, engine: Engine
) -> None:
    prod(stack)
    serves_alone(engine, stack, ["v2"])


@pytest.mark.parametrize("part", RELEASED)
def test_a_release_of_which_a_part_does_not_start_leaves_the_old_one_as_it_was(
    stack: Stack, engine: Engine, part: str
) -> None:
    engine.broken = {("v2", part)}
    with pytest.raises(Failure, match=rf"shop-{part}-\d ended with exit code 1; its last lines are above"):
        prod(stack)
    assert engine.running() == OLD
    serves_alone(engine, stack, ["v1"])
    assert engine.latest == "v1", "the next container gets the serving image"


def test_a_release_whose_beat_fails_never_gets_a_request(stack: Stack, engine: Engine) -> None:
    engine.broken = {("v2", "celery_beat")}
    served: set[str] = set()
    answer = engine.answer

    def watched(words: list[str]) -> Result:
        served.update(engine.told)
        return answer(words)

    engine.answer = watched  # type: ignore[method-assign]
    with pytest.raises(Failure, match="celery_beat"):
        prod(stack)
    assert served <= {*proxy.ALL, "shop-app-1", "shop-app-2"}


def test_nginx_that_does_not_take_the_new_release_leaves_the_old_one_serving(stack: Stack, engine: Engine) -> None:
    answer = engine.answer

    def stuck(words: list[str]) -> Result:
        # From the start of the new beat, nginx loads no configuration for a while.
        if words[1] == "start" and "celery_beat" in words[2]:
            engine.nginx_takes = words[2] == "shop-celery_beat-1"
        return answer(words)

    engine.answer = stuck  # type: ignore[method-assign]
    with pytest.raises(Failure, match="shop-nginx-1 did not load its configuration within 20 s"):
        prod(stack)
    assert engine.running() == OLD
    serves_alone(engine, stack, ["v1"])


def test_what_cannot_be_restored_is_said_beside_the_error_and_done_by_the_next_command(
    stack: Stack, engine: Engine
) -> None:
    engine.broken = {("v2", "celery_beat")}
    engine.failing = {"^docker (tag|start shop-celery_beat-1)": Result(1, stderr="the engine is shutting down")}
    lines, notify = said()
    with pytest.raises(Failure, match="shop-celery_beat-2 ended"):
        rollout.deploy(stack, "", notify)
    assert len([line for line in lines if "the engine is shutting down" in line]) == 2
    assert OLD.items() - engine.running().items() == {("shop-celery_beat-1", "v1")}
    engine.failing = {}
    lines, notify = said()
    journal.recover(stack, notify)
    assert engine.running() == OLD
    serves_alone(engine, stack, ["v1"])
    assert engine.latest == "v1"


def commands_of_an_update(stack: Stack, engine: Engine) -> int:
    """The number of commands of an update; the state before it is restored."""
    containers = {name: Container(each.service, each.image, each.state) for name, each in engine.containers.items()}
    prod(stack)
    number = len(engine.log)
    engine.containers, engine.latest, engine.built = containers, "v1", 1
    engine.log.clear()
    return number


@pytest.mark.parametrize("how", [Killed, SystemExit])
@pytest.mark.parametrize("then", ["succeeds", "fails"])
def test_ended_at_any_moment_it_leaves_one_release_to_the_next_command(
    stack: Stack, engine: Engine, how: type[BaseException], then: str
) -> None:
    for moment in range(commands_of_an_update(stack, engine)):
        engine.containers = {
            "shop-nginx-1": Container("nginx", "nginx", "running"),
            **{name: Container(name.split("-")[1], "v1", "running") for name in OLD},
        }
        engine.latest, engine.built, engine.broken, engine.log = "v1", 1, set(), []
        engine.ends = (moment, how)
        with pytest.raises(how):
            prod(stack)
        line = engine.log[-1] if engine.log else ""
        engine.ends = None
        serving = {name for name, each in engine.containers.items() if each.service == "app" and each.alive}
        assert serving & set(engine.told) or (engine.told == proxy.ALL and serving), f"a replica serves, after {line}"
        note = journal.read(stack)
        turned: object = not set(OLD) & set(engine.running()) or set(told(stack)) & (set(engine.running()) - set(OLD))
        turned = turned or (note is not None and note.serves)
        if how is not Killed and not turned:
            serves_alone(engine, stack, ["v1"])
        if then == "succeeds":
            prod(stack)
            serves_alone(engine, stack, [engine.latest])
            assert engine.latest == f"v{engine.built}"
        else:
            engine.broken = {(f"v{engine.built + 1}", "celery_beat")}
            with pytest.raises(Failure, match="celery_beat"):
                prod(stack)
            assert engine.latest != f"v{engine.built}"
            serves_alone(engine, stack, [engine.latest])


def test_a_kind_of_workers_that_comes_goes_or_must_be_alone_from_now_on_is_replaced_with_the_rest(
    stack: Stack, engine: Engine
) -> None:
    def update(*more: Kind) -> list[str]:
        changed = replace(stack, project=replace(stack.project, workers=(Kind(), *more)))
        prod(changed)
        assert set(engine.running().values()) == {engine.latest}
        assert engine.released() == engine.running()
        if more and not more[0].alone:
            rollout.scale(changed, more[0].service, 3, lambda _: None)
        return sorted(each.service for each in engine.containers.values() if each.service.startswith("celery_worker_"))

    update(Kind("mail", ("mail",)))
    assert update(Kind("mail", ("mail",))) == ["celery_worker_mail"] * 3, "as many as ran"
    assert update(Kind("mail", ("mail",), alone=True)) == ["celery_worker_mail"]
    assert update() == []


def test_a_first_start_whose_beat_fails_ends_in_one_line_and_does_not_start_nginx(stack: Stack, engine: Engine) -> None:
    engine.containers, engine.broken = {}, {("v2", "celery_beat")}
    with pytest.raises(Failure) as caught:
        prod(stack)
    assert caught.value.message.startswith("shop-celery_beat-1 ended with exit code 1; its last lines are above")
    assert "shop-nginx-1" not in engine.running()
    prod(stack)
    serves_alone(engine, stack, ["v3"])


def test_scale_that_fails_names_its_own_reason_whatever_nginx_then_says(stack: Stack, engine: Engine) -> None:
    engine.broken = {("v1", "app")}
    answer = engine.answer

    def stuck(words: list[str]) -> Result:
        engine.nginx_takes = engine.nginx_takes and words[1] != "rm"
        return answer(words)

    engine.answer = stuck  # type: ignore[method-assign]
    with pytest.raises(Failure, match="shop-app-3 ended"):
        rollout.scale(stack, "app", 3, lambda _: None)
    engine.nginx_takes, engine.answer = True, answer  # type: ignore[method-assign]
    journal.recover(stack, lambda _: None)
    serves_alone(engine, stack, ["v1"])


def test_an_old_replica_that_ends_again_and_again_goes_with_its_release(stack: Stack, engine: Engine) -> None:
    for name in ("shop-app-2", "shop-celery_worker-1", "shop-celery_beat-1"):
        engine.containers[name].state = "restarting"
    engine.broken = {("v2", "celery_worker")}
    with pytest.raises(Failure, match="celery_worker-2 ended"):
        prod(stack)
    assert engine.released() == OLD, "the earlier containers exist, and no others"
    prod(stack)
    assert set(engine.running().values()) == {"v3"}
    assert engine.running() == engine.released()


def test_development_says_what_still_runs_and_not_that_all_stopped(stack: Stack, engine: Engine) -> None:
    assert dev._stop(stack).startswith("Still running: shop-app-1, ")
    engine.failing = {"^docker ps": Result(1, stderr="the engine is busy")}
    assert dev._stop(stack).startswith("Cannot tell what still runs: ")
    engine.failing, engine.containers = {}, {}
    assert dev._stop(stack).startswith("All stopped")
