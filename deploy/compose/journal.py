"""The journal that a rollout writes before it changes anything, and the recovery after a rollout that was killed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from deploy.compose import ledger
from deploy.compose.containers import ENDED, Replica, names, remove, replicas, stop, stop_replicas
from deploy.compose.front import current_upstream, switch_upstream
from deploy.compose.ledger import Release
from deploy.core import shell
from deploy.core.running import Notify
from deploy.core.shell import Remove, Run, WriteSecret
from deploy.docker.kinds import BEAT
from deploy.docker.mounted import mounted
from deploy.docker.stack import Stack, secret_steps
from deploy.project import proxy
from deploy.project.workers import is_worker

JOURNAL = "rollout.json"


@dataclass(frozen=True)
class Note:
    """The journal: the containers that existed before, the new release, and its `.env`."""

    old: Sequence[str]
    release: Release
    env: str
    #: Whether the new release gets all requests, and only the old one's end is missing.
    serves: bool = False


def begin(stack: Stack, old: Sequence[Replica], release: Release, env: str) -> None:
    """Record the containers before a rollout, and the new release."""
    ledger.stage(stack, release, env)
    _write(stack, Note([each.name for each in old], release, env))


def serves(stack: Stack) -> None:
    """Record that the new release gets all requests. Until then, nginx's upstream says which one does."""
    if note := read(stack):
        _write(stack, replace(note, serves=True))


def _write(stack: Stack, note: Note) -> None:
    shell.perform([WriteSecret(stack.secrets / JOURNAL, json.dumps(asdict(note)))])


def end(stack: Stack) -> None:
    """Remove the journal: the rollout has finished or has been undone."""
    shell.perform([Remove(stack.secrets / JOURNAL)])


def read(stack: Stack) -> Note | None:
    """The journal of a rollout that did not finish; None without one."""
    try:
        found = json.loads((stack.secrets / JOURNAL).read_text())
        old, release = [str(name) for name in found["old"]], Release(**found["release"])
        return Note(old, release, str(found["env"]), bool(found.get("serves")))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def site_replicas(stack: Stack) -> list[Replica]:
    """The containers that run the project, those of kinds of workers that there are no more too."""
    return [each for each in replicas(stack.name) if each.service in ("app", BEAT) or is_worker(each.service)]


def recover(stack: Stack, notify: Notify) -> None:
    """Finish or undo a rollout that was killed, or that could not undo itself.

    Afterwards one release gets the requests: its replicas, workers and beat are kept, with the image and secrets with
    which it was deployed.
    """
    serving, note = current_upstream(stack), read(stack)
    now = site_replicas(stack)
    # Of the release that is being changed, and of the one that this command brings.
    alone = tuple(dict.fromkeys((*stack.alone, *ledger.serving(stack).alone)))
    new = note is not None and (note.serves or switched(serving, note.old))
    left = left_over(now, serving, note.old if note else None, alone, new_serves=bool(note and note.serves))
    if left:
        notify(f"remove what an interrupted command left: {', '.join(each.name for each in left)}")
        if names([each for each in left if each.running], "app"):
            # The files name the replicas for nginx, but the command may have ended before nginx loaded them.
            switch_upstream(stack, serving, wait=True, files=mounted(stack).nginx)
        remove([each for each in left if not each.running])
        stop_replicas([each for each in left if each.running])
    if note:
        finish(stack, note, [each for each in now if each not in left], alone, new=new)
    if serving != proxy.ALL and is_served(now, serving):
        switch_upstream(stack, proxy.ALL, files=mounted(stack).nginx)
    end(stack)


def finish(stack: Stack, note: Note, stay: Sequence[Replica], alone: Sequence[str], *, new: bool) -> None:
    """Complete the ``new`` release or the old one, whichever is kept: what must be alone, image, secrets, record."""
    for service in alone:
        some = [each for each in stay if each.service == service]
        known = [each for each in some if (each.name in note.old) != new]
        one = [each for each in known or some if each.running or not any(other.running for other in known)][:1]
        start_alone(stack, service, one)
    if new:
        if not ledger.is_staged(stack, note.release):  # the command that was killed was of an earlier version
            ledger.stage(stack, note.release, note.env)
        ledger.add(stack, note.release)
        return
    shell.perform(secret_steps(ledger.serving(stack)))
    if image := next((each.image for each in stay if each.service == "app"), ""):
        shell.run(Run(["docker", "tag", image, stack.image]), capture=True)


def start_alone(stack: Stack, service: str, some: Sequence[Replica]) -> None:
    """Run these replicas of a service, and stop all others of it first. Raises `Failure` if the engine fails."""
    known = [each.name for each in some]
    if known and (others := [each for each in replicas(stack.name, service) if each.name not in known]):
        stop(others)
    for name in known:
        shell.run(Run(["docker", "start", name]), capture=True)


def is_served(some: Sequence[Replica], serving: Sequence[str]) -> bool:
    """Whether nginx has replicas by name in its upstream, and one of them runs."""
    return any(each.name in serving and each.running for each in some)


def switched(serving: Sequence[str], old: Sequence[str]) -> bool:
    """Whether nginx was switched to the new replicas before the rollout ended."""
    return tuple(serving) != proxy.ALL and not set(serving) & set(old)


def left_over(
    some: Sequence[Replica],
    serving: Sequence[str],
    old: Sequence[str] | None,
    alone: Sequence[str] = (BEAT,),
    *,
    new_serves: bool = False,
) -> list[Replica]:
    """The containers that an interrupted command left and that must be removed.

    ``serving``: the replicas in nginx's upstream. ``old``: the containers before the rollout, if there is a journal,
    and ``new_serves`` what it says. Of the old and the new containers, those that do not serve are left over, including
    their workers and beat. ``alone``: the services of which one replica stops for another, and may be needed again.
    """
    ended = [each for each in some if each.state in ENDED and each.service not in alone]
    if not new_serves and not is_served(some, serving):
        return ended
    if old is None:
        return [each for each in some if each in ended or (each.service == "app" and each.name not in serving)]
    gone = new_serves or switched(serving, old)
    return [each for each in some if each in ended or (each.name in old) == gone]
