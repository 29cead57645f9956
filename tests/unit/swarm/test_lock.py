"""A client that has lost the lock on a stack changes nothing more; each wait for a swarm has a limit."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.shell import Result, Run
from deploy.project import limits
from deploy.swarm import deploy, jobs, ledger, lock, manager, operate, view
from deploy.swarm import images as swarm_images
from deploy.swarm.jobs import Session
from deploy.swarm.ledger import Release
from deploy.swarm.lock import LockLost
from deploy.swarm.manager import Manager
from deploy.swarm.render import StackFile
from deploy.swarm.state import Node, Service, Snapshot, Task
from tests.unit.stacks import stack

SHOP = Manager("shop")
CHANGES = {"deploy", "create", "rm", "scale"}


class Engine:
    """A fake docker command with locks, which records its calls; the test controls the time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.locks: set[str] = set()
        self.asked: list[Run] = []
        #: The configs and secrets in the swarm.
        self.names = ["shop_a_old"]
        #: Whether nothing answers, and whether an inspection of a lock finds none.
        self.silent = self.hides = False
        self._ids = itertools.count(1)

    def run(self, command: Run, *, capture: bool = False, check: bool = True) -> Result:
        self.asked.append(command)
        result = self._answer(command.argv[1:])
        if check and result.code:
            raise Failure(result.stderr)
        return result

    def _answer(self, words: Sequence[str]) -> Result:
        if self.silent:
            raise Failure("no answer")
        line = " ".join(words)
        if line.startswith("service create"):
            if self.locks:
                return Result(1, "", f"Error: {lock.TAKEN}")
            self.locks.add(made := f"lock{next(self._ids)}")
            return Result(0, f"{made}\n")
        if line.startswith("service update"):
            return Result(0) if words[-1] in self.locks else Result(1, "", f"service {words[-1]} not found")
        if line.startswith("service inspect"):
            return Result(1) if self.hides else Result(0, "another 1 {}")
        if line.startswith("service rm lock"):
            self.locks.discard(words[-1])
        if words[1] == "ls" and words[0] in ("config", "secret"):
            return Result(0, "\n".join(self.names))
        return Result(0)

    def taken_over(self) -> None:
        """Let another client remove the lock and create its own."""
        self.locks = {"another"}

    @property
    def changes(self) -> list[str]:
        """The changes, except those of the lock."""
        lines = [" ".join(command.argv[1:]) for command in self.asked if CHANGES.intersection(command.argv[1:3])]
        return [line for line in lines if "lock" not in line]

    @property
    def beats(self) -> int:
        return sum("portico.beat" in " ".join(command.argv) for command in self.asked)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()
    monkeypatch.setattr(shell, "run", made.run)
    monkeypatch.setattr(lock, "clock", lambda: made.now)
    monkeypatch.setattr(limits, "SWARM_BEAT", 1000.0)
    monkeypatch.setattr(lock, "SETTLE_SECONDS", 0.001)
    return made


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def session(engine: Engine, said: list[str], tmp_path: Path) -> Iterator[Session]:
    with jobs.session(SHOP, "a deploy", tmp_path, said.append) as held:
        yield held


def entry(number: int) -> Release:
    return Release(number, number, "r", "me", "now", StackFile({"app": {}}, {}))


def file(**services: dict[str, object]) -> StackFile:
    return StackFile(services or {"app": {}}, {}, configs={"shop_a_new": "text"})


# --- A lock that was lost ---


def test_a_lock_is_not_believed_after_a_sleep_in_which_another_took_it(engine: Engine, session: Session) -> None:
    session.lock.check()
    engine.taken_over()
    engine.now += 3600
    with pytest.raises(LockLost, match="another client took over the lock"):
        session.lock.check()


def test_a_lock_that_nobody_took_in_a_sleep_is_kept_once_the_swarm_has_said_so_twice(
    engine: Engine, session: Session
) -> None:
    engine.now += 3600
    session.lock.check()
    assert engine.beats == 2, "who was about to take it may have looked before the first"
    session.lock.check()
    assert engine.beats == 2, "and then it is believed as before"


def test_a_client_about_to_take_a_stale_lock_is_given_the_time_to(
    engine: Engine, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.now += 3600
    monkeypatch.setattr(lock, "time", SimpleNamespace(sleep=lambda _: engine.taken_over()))
    with pytest.raises(LockLost):
        session.lock.check()


def test_a_lock_that_cannot_be_asked_for_is_believed_only_while_nobody_can_have_taken_it(
    engine: Engine, session: Session
) -> None:
    engine.silent = True
    engine.now += limits.SWARM_LEASE
    session.lock.check()
    engine.now += 1
    with pytest.raises(Failure, match="no answer"):
        session.lock.check()
    assert limits.SWARM_LEASE < limits.SWARM_STALE


def test_the_clock_of_a_lock_goes_on_while_the_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "clock_gettime", float)
    assert lock.clock() == getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@pytest.mark.parametrize(
    "change",
    [
        lambda held: jobs.hand_over(held, file(), Snapshot()),
        lambda held: jobs.remove_services(held, ["app"]),
        lambda held: deploy.provide(held, file()),
        lambda held: jobs.clear_job(held, "static"),
        lambda held: held.change(ledger.record(SHOP, 2, 2, "r", file())),
    ],
    ids=["hand_over", "remove_services", "provide", "clear_job", "record"],
)
def test_the_swarm_is_asked_for_the_lock_before_each_change(
    engine: Engine, session: Session, change: Callable[[Session], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if by the clock nobody can have taken it: the clock of a machine restored from a snapshot is wrong."""
    job = Service("1", "static", "global-job", 1, "", "", {}, {})
    monkeypatch.setattr(Manager, "look", lambda *_: Snapshot((), [job]))
    engine.taken_over()
    with pytest.raises(LockLost):
        change(session)
    assert engine.changes == []


def test_scaling_and_removing_ask_for_the_lock_first(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    app = Service("1", "app", "replicated", 1, "", "", {}, {})

    def look(_: Manager, _before: Snapshot | None = None) -> Snapshot:
        if engine.locks:
            engine.taken_over()
        return Snapshot((), [app])

    monkeypatch.setattr(Manager, "look", look)
    here = operate.Swarm(SHOP, stack("swarm"), print)
    monkeypatch.setattr(view, "time", Days())
    with pytest.raises(LockLost):
        here.scale("app", 3).do()
    engine.locks = set()

    @contextmanager
    def lost_at_once(manager: Manager, what: str) -> Iterator[lock.Lock]:
        with lock.held(manager, what) as held:
            engine.taken_over()
            yield held

    monkeypatch.setattr(operate, "held", lost_at_once)
    with pytest.raises(LockLost):
        here.remove().do()
    assert engine.changes == []


def test_a_lock_that_another_took_is_not_taken_from_it_at_the_end(engine: Engine) -> None:
    with lock.held(SHOP, "a deploy"):
        engine.taken_over()
    assert engine.locks == {"another"}


# --- What cleans up ---


def test_a_deploy_that_has_lost_the_lock_cleans_nothing_up(
    engine: Engine, session: Session, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could remove what the new holder has just created, which no service uses yet."""

    def lose(*_: object) -> None:
        engine.taken_over()
        raise Failure("the migration failed")

    monkeypatch.setattr(deploy, "run_jobs", lose)
    with pytest.raises(Failure, match="the migration failed"):
        deploy.carry_out(session, file(), Snapshot(), [])
    assert [line for line in engine.changes if " rm " in line] == []


def test_a_lock_lost_while_cleaning_up_ends_the_cleaning_up(engine: Engine, session: Session) -> None:
    engine.names = ["shop_a_1", "shop_a_2", "shop_a_3"]
    answer = engine.run

    def run(command: Run, *, capture: bool = False, check: bool = True) -> Result:
        if command.argv[1:3] == ["config", "rm"]:
            engine.taken_over()
            engine.now += 60
        return answer(command, capture=capture, check=check)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shell, "run", run)
        session.clean_up()
    assert engine.changes == ["config rm shop_a_1"]


def test_a_failed_deploy_cleans_up_while_it_has_the_lock(
    engine: Engine, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy, "run_jobs", lambda *_: (_ for _ in ()).throw(Failure("the migration failed")))
    with pytest.raises(Failure, match="the migration failed"):
        deploy.carry_out(session, file(), Snapshot(), [])
    assert "config rm shop_a_old" in engine.changes


def test_a_clean_up_that_fails_does_not_hide_why_the_deploy_failed(
    engine: Engine, session: Session, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def silenced(*_: object) -> None:
        engine.silent = True
        raise Failure("the migration failed")

    monkeypatch.setattr(deploy, "run_jobs", silenced)
    with pytest.raises(Failure, match="the migration failed"):
        deploy.carry_out(session, file(), Snapshot(), [])
    assert said[-1].startswith("cannot remove old configs and secrets: no answer")


def test_a_release_that_serves_is_none_that_failed_because_old_ones_could_not_be_removed(
    engine: Engine, session: Session, said: list[str]
) -> None:
    engine.silent = True
    session.clean_up()
    assert said == ["cannot remove old configs and secrets: no answer; the next deploy removes them"]


def test_services_that_cannot_be_put_back_do_not_hide_why_the_deploy_failed(
    session: Session, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    handed = iter(["app on node1: was rolled back", "app: no answer"])

    def fail(*_: object) -> None:
        raise Failure(next(handed))

    monkeypatch.setattr(deploy, "hand_over", fail)
    with pytest.raises(Failure, match="app on node1: was rolled back"):
        deploy.put_into_service(session, file(), [entry(1)])
    assert said[-1] == "cannot restore the services: app: no answer; `invoke swarm-status` shows what runs"


def test_the_swarm_does_not_take_back_what_is_put_back(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would restore the previous definition: the release that has failed."""
    handed = []

    def hand_over(_: Session, each: StackFile, __: Snapshot) -> None:
        handed.append(each)
        if len(handed) == 1:
            raise Failure("app on node1: was rolled back")

    monkeypatch.setattr(deploy, "hand_over", hand_over)
    with pytest.raises(Failure, match="was rolled back"):
        deploy.put_into_service(session, file(), [entry(1)])
    _, back = handed
    assert back.services
    assert all(each["deploy"]["update_config"]["failure_action"] == "continue" for each in back.services.values())


def test_services_are_not_put_back_without_the_lock(
    engine: Engine, session: Session, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: object, **__: object) -> None:
        engine.taken_over()
        session.lock.confirm()

    monkeypatch.setattr(jobs, "follow", lose)
    with pytest.raises(LockLost):
        deploy.put_into_service(session, file(), [entry(1)])
    assert [line.split()[:2] for line in engine.changes] == [["stack", "deploy"]], "the one before it was lost"
    assert not said


def test_a_lock_that_cannot_be_given_back_does_not_hide_why_the_deploy_failed(engine: Engine) -> None:
    def fail() -> None:
        with lock.held(SHOP, "a deploy"):
            engine.silent = True
            raise Failure("the migration failed")

    with pytest.raises(Failure, match="the migration failed"):
        fail()


# --- Limits ---


def test_a_command_that_does_not_answer_in_its_time_is_ended() -> None:
    began = time.monotonic()
    with pytest.raises(Failure, match=r"`sleep 60`: no answer within 0\.2 s"):
        shell.run(Run(["sleep", "60"], seconds=0.2), capture=True, check=False)
    with pytest.raises(Failure, match="no answer within"):
        shell.run(Run(["sleep", "60"], seconds=0.2))
    assert time.monotonic() - began < 5
    assert shell.run(Run(["cat"], input="text", seconds=5), capture=True).stdout == "text"


def test_a_sign_of_life_that_hangs_does_not_keep_a_command_from_its_end(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SWARM_BEAT", 0.01)
    monkeypatch.setattr(lock, "RELEASE_SECONDS", 0.2)
    hangs, goes_on, answer = threading.Event(), threading.Event(), engine.run

    def run(command: Run, *, capture: bool = False, check: bool = True) -> Result:
        if "update" in command.argv:
            hangs.set()
            goes_on.wait(30)
        return answer(command, capture=capture, check=check)

    monkeypatch.setattr(shell, "run", run)
    began = time.monotonic()
    with lock.held(SHOP, "a deploy"):
        assert hangs.wait(5)
    goes_on.set()
    assert time.monotonic() - began < 5
    assert not engine.locks


def test_a_missed_sign_of_life_is_followed_by_others(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SWARM_BEAT", 0.01)
    with lock.held(SHOP, "a deploy"):
        engine.silent = True
        time.sleep(0.05)
        engine.silent = False
        before, deadline = engine.beats, time.monotonic() + 5
        while engine.beats <= before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert engine.beats > before


def test_each_question_and_each_small_change_has_a_limit(
    engine: Engine, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    SHOP.look(SHOP.look())
    SHOP.try_("node", "ls")
    SHOP.tell(SHOP.stack_deploy(file()))
    SHOP.last_lines("app")
    SHOP.names("config")
    session.change(ledger.record(SHOP, 1, 1, "r", file()))
    session.clean_up()
    session.lock.release()
    assert len(engine.asked) > 10
    assert all(command.seconds for command in engine.asked)
    assert manager.ssh_check("ssh://me@node1").seconds
    monkeypatch.setattr(swarm_images, "digest_of", lambda *_: "pinned")
    swarm_images.pin(SHOP, "nginx:1")
    assert (engine.asked[-1].seconds or 0) > manager.CHANGE_SECONDS, "an image may take longer than a question"


def test_locks_that_others_keep_taking_are_given_up(engine: Engine) -> None:
    """Each is removed before it is inspected, and exists again when ours is to be created."""
    engine.taken_over()
    engine.hides = True
    with pytest.raises(Failure, match="other clients take it"):
        lock.held(SHOP, "a deploy").__enter__()


def test_a_log_that_does_not_come_does_not_hide_that_a_job_failed(engine: Engine, tmp_path: Path) -> None:
    engine.silent = True
    assert jobs.explained(SHOP, tmp_path, view.ServiceFailed("release", "release: task: non-zero exit")) == (
        "release: task: non-zero exit"
    )
    assert SHOP.last_lines("app") == "no answer"


class Days:
    """A clock that advances ten minutes with each sleep."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, _: float) -> None:
        self.now += 600


def job(name: str, state: str, created: str = "2026-01-01T00:00:00Z") -> Snapshot:
    spec = {"Image": "x"}
    task = Task("t", "1", "n", state, "complete", "", created, spec)
    return Snapshot(
        [Node("n", "node1", "ready", "active", "leader")],
        [Service("1", name, "replicated-job", 1, "", "", {}, spec)],
        [task],
    )


@pytest.mark.parametrize(("name", "least", "most"), [("release", 3000, 4500), ("static", 0, 2000)])
def test_a_migration_may_take_an_hour_as_on_plain_hosts_and_files_a_quarter(
    session: Session, name: str, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = Days()
    monkeypatch.setattr(view, "time", days)
    monkeypatch.setattr(jobs, "clear_job", lambda *_: None)
    monkeypatch.setattr(Manager, "look", lambda *_: job(name, "running"))
    with pytest.raises(Failure, match=rf"{name}.*: not done within (3600|900) s"):
        jobs.run_jobs(session, file(**{name: {}}), [name])
    assert least < days.now < most


def test_a_migration_of_a_killed_client_is_not_waited_for_without_an_end(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "time", Days())
    monkeypatch.setattr(Manager, "look", lambda *_: job("release", "running"))
    with pytest.raises(
        Failure, match="release: the job of an earlier deploy still runs; to stop it: `docker service rm shop_release`"
    ):
        jobs.clear_job(session, "release")


def test_a_management_command_as_a_job_runs_for_hours_and_holds_no_lock(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a deploy holds the lock, and at the same time as another such command."""
    engine.locks = {"another"}
    days = Days()
    monkeypatch.setattr(view, "time", days)
    release = Release(1, 1, "r", "me", "now", StackFile({"release": {"image": "x"}}, {}))
    names: list[str] = []

    def look(_: Manager, _before: Snapshot | None = None) -> Snapshot:
        names[:] = [name for command in engine.asked for name in _deployed(command)]
        return job(names[-1], "complete" if days.now > 5 * 3600 else "running") if names else Snapshot()

    monkeypatch.setattr(Manager, "look", look)
    jobs.run_command(SHOP, tmp_path, release, ["clearsessions"])
    jobs.run_command(SHOP, tmp_path, release, ["clearsessions"])
    assert len(set(names)) == 2, "each has a name of its own"
    assert engine.locks == {"another"}
    assert not any("create" in command.argv for command in engine.asked)
    assert {line for line in engine.changes if " rm " in line} == {f"service rm shop_{name}" for name in names}


def test_a_management_command_whose_job_somebody_removes_is_not_waited_for(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "time", days := Days())
    monkeypatch.setattr(Manager, "look", lambda *_: Snapshot())
    with pytest.raises(Failure, match="manage-1: somebody removed it"):
        view.follow(SHOP, {"manage-1": limits.COMMAND}, (), lambda: None)
    assert days.now < 3600


def _deployed(command: Run) -> list[str]:
    return [word for word in command.input.replace('"', " ").replace(":", " ").split() if word.startswith("manage-")]


def test_jobs_of_management_commands_whose_client_was_killed_are_removed_a_day_later() -> None:
    now = datetime(2026, 1, 3, tzinfo=UTC)
    made = (now - timedelta(hours=25)).isoformat().replace("+00:00", ".123456789Z")
    fresh = (now - timedelta(hours=23)).isoformat().replace("+00:00", ".123456789Z")
    assert jobs.abandoned(job("manage-1", "complete", made), now) == ["manage-1"]
    assert jobs.abandoned(job("manage-1", "running", fresh), now) == []
    assert jobs.abandoned(job("release", "complete", made), now) == []
