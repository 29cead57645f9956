"""What a rollout notes before it changes anything, and how the next command clears up after one that was killed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from deploy.compose import ledger
from deploy.compose.containers import ENDED, Replica, names, remove, replicas, stop, stop_replicas
from deploy.compose.front import current_upstream, serve
from deploy.compose.ledger import Release
from deploy.core import shell
from deploy.core.running import Notify
from deploy.core.shell import Remove, Run, WriteSecret
from deploy.docker.stack import Stack, laid, secret_steps
from deploy.project import proxy

#: Services of which new replicas start beside the old ones, and that of which there must be one.
ROLLING, BEAT = ("app", "celery_worker"), "celery_beat"
JOURNAL = "rollout.json"


@dataclass(frozen=True)
class Note:
    """What was noted: the containers that were there before, and the release that was to come into service."""

    old: Sequence[str]
    release: Release
    env: str


def begin(stack: Stack, old: Sequence[Replica], release: Release, env: str) -> None:
    """Note what is there before a rollout, and what is to come."""
    text = json.dumps({"old": [each.name for each in old], "release": asdict(release), "env": env})
    shell.perform([WriteSecret(stack.secrets / JOURNAL, text)])


def end(stack: Stack) -> None:
    """The rollout has come to its end, one way or the other."""
    shell.perform([Remove(stack.secrets / JOURNAL)])


def read(stack: Stack) -> Note | None:
    """What a rollout that did not come to its end has noted."""
    try:
        found = json.loads((stack.secrets / JOURNAL).read_text())
        return Note([str(name) for name in found["old"]], Release(**found["release"]), str(found["env"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def clear_up(stack: Stack, notify: Notify) -> None:
    """Finish or take back what an earlier command left when it was killed, or could not take back itself.

    Requests go to one release: its replicas, workers and beat stay, with the image and secrets that it was deployed
    with.
    """
    serving, note = current_upstream(stack), read(stack)
    now = replicas(stack.name, *ROLLING, BEAT)
    left = left_over(now, serving, note.old if note else None)
    if left:
        notify(f"remove what an earlier command left: {', '.join(each.name for each in left)}")
        if names([each for each in left if each.running], "app"):
            # The files say whom nginx is to use; whether it was told before the command ended, nobody knows.
            serve(stack, serving, wait=True, files=laid(stack).nginx)
        remove([each for each in left if not each.running])
        stop_replicas([each for each in left if each.running])
    if note:
        finish(stack, note, [each for each in now if each not in left], new=switched(serving, note.old))
    if serving != proxy.ALL and serves(now, serving):
        serve(stack, proxy.ALL, files=laid(stack).nginx)
    end(stack)


def finish(stack: Stack, note: Note, stay: Sequence[Replica], *, new: bool) -> None:
    """Leave one release running: the ``new`` one or the old one, with its beat."""
    beats = [each for each in stay if each.service == BEAT]
    known = [each for each in beats if (each.name in note.old) != new]
    for beat in [each for each in known or beats if each.running or not any(other.running for other in known)][:1]:
        start_beat(stack, beat)
    if new:
        ledger.add(stack, note.release, note.env)
        return
    shell.perform(secret_steps(ledger.serving(stack)))
    if image := next((each.image for each in stay if each.service == "app"), ""):
        shell.run(Run(["docker", "tag", image, stack.image]), capture=True)


def start_beat(stack: Stack, beat: Replica) -> None:
    """Have this beat run, and no other: there must never be two. Raises `Failure` when the engine does not do it."""
    if others := [each for each in replicas(stack.name, BEAT) if each.name != beat.name]:
        stop(others)
    shell.run(Run(["docker", "start", beat.name]), capture=True)


def serves(some: Sequence[Replica], serving: Sequence[str]) -> bool:
    """Whether nginx is told replicas by name, one of which runs."""
    return any(each.name in serving and each.running for each in some)


def switched(serving: Sequence[str], old: Sequence[str]) -> bool:
    """Whether nginx was told the new replicas before the rollout ended."""
    return tuple(serving) != proxy.ALL and not set(serving) & set(old)


def left_over(some: Sequence[Replica], serving: Sequence[str], old: Sequence[str] | None) -> list[Replica]:
    """What an interrupted command left behind.

    ``serving``: the replicas that nginx is told to use; ``old``: the containers that were there before, where that was
    noted. Of the two generations the one that does not serve is left over, workers and beat too.
    """
    ended = [each for each in some if each.state in ENDED and each.service != BEAT]
    if not serves(some, serving):
        return ended
    if old is None:
        return [each for each in some if each in ended or (each.service == "app" and each.name not in serving)]
    gone = switched(serving, old)
    return [each for each in some if each in ended or (each.name in old) == gone]
