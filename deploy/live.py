"""Development with compose: the code mounted, everything reloading, images built anew when a lock changes."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType

from deploy import images, shell
from deploy.compose import DATASTORES, Replica, Say, Stack, build_ca, replicas, secret_steps
from deploy.errors import Failure
from deploy.native import PATIENCE_SECONDS, answers
from deploy.rollout import run_once
from deploy.shell import Run, Step

PROCESSES = ("app", "celery_worker", "celery_beat")
#: Seconds for `docker compose up` to end when it is told to: in the middle of replacing containers it may not hear it.
#: And then for the containers, of which a worker gives a running task 10.
STOP_SECONDS = 20


def url(stack: Stack) -> str:
    return f"http://127.0.0.1:{stack.port}/"


def ports(stack: Stack) -> dict[str, tuple[str, int]]:
    """The ports of this machine that the stack takes: key in `.env`, service and number."""
    return {
        "PORT": ("app", stack.port),
        "POSTGRES_PORT": ("postgres", stack.env.postgres_port),
        "RABBITMQ_PORT": ("rabbitmq", stack.env.rabbitmq_port),
    }


def first(stack: Stack) -> list[Step]:
    """What is done before the site runs, in order."""
    project = stack.project
    build = images.build(project, "dev", [stack.image], images.Revision("", ""), ca=build_ca(stack.env))
    once = ["run", "--rm", "-T", "--no-deps"]
    samples = [stack.compose(*once, "app", "python", "manage.py", project.samples)] if project.samples else []
    return [
        *secret_steps(stack),
        build,
        stack.compose("up", "-d", "--no-deps", "--no-build", "--wait", *DATASTORES),
        stack.compose(*once, "release"),
        *samples,
    ]


def attached(stack: Stack, workers: int) -> Run:
    """The site, in the foreground, built and started anew when a lock changes."""
    return stack.compose("up", "--no-deps", "--watch", "--scale", f"celery_worker={workers}", *PROCESSES)


def dev(stack: Stack, workers: int, say: Say, *, dry_run: bool) -> None:
    """Run the stack until Ctrl-C or TERM, then stop it. Raises `Failure` when a part of it fails."""
    steps = first(stack)
    if dry_run:
        shell.perform([*steps, attached(stack, workers)], dry_run=True)
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        for step in steps:
            if isinstance(step, Run) and "run" in step.argv:
                say(f"{step.argv[-1]} …")
                run_once(stack, step, step.argv[-1])
            else:
                shell.perform([step])
        _run(stack, workers)
    finally:
        say("Stopping.")
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # one Ctrl-C too many is not to leave half of it
        shell.run(stack.compose("stop", "--timeout", str(STOP_SECONDS)), capture=True, check=False)
        say("All stopped; the data is kept until `invoke down --volumes`.")


def _leave(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def _run(stack: Stack, workers: int) -> None:
    # In a session of its own: Ctrl-C comes to us alone, and we end it.
    child = shell.start(attached(stack, workers), own_session=True)
    threading.Thread(target=_announce, args=(stack, workers, child), daemon=True).start()
    try:
        code = child.wait()
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
    if code:
        raise Failure("docker compose ended by itself; its last lines above say why", code=code)


def _announce(stack: Stack, workers: int, child: subprocess.Popen[str]) -> None:
    """Say in one line when everything is at work, or what is not."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while child.poll() is None and time.monotonic() < deadline:
        missing = lacking(replicas(stack.name, *PROCESSES), workers) or (
            [] if answers(f"{url(stack)}readyz") else ["app"]
        )
        if not missing:
            names = ", ".join([*PROCESSES, *DATASTORES])
            sys.stdout.write(f"Ready: {url(stack)} ({names}). Ctrl-C ends it.\n")
            sys.stdout.flush()
            return
        time.sleep(0.3)
    if child.poll() is None:
        sys.stdout.write(f"Not ready after {PATIENCE_SECONDS} s: {', '.join(missing)}; the lines above may say why.\n")
        sys.stdout.flush()


def lacking(now: Sequence[Replica], workers: int) -> list[str]:
    """The services that are not at work yet."""
    want = {"app": 1, "celery_worker": workers, "celery_beat": 1}
    return [name for name, number in want.items() if sum(1 for r in now if r.service == name and r.well) < number]
