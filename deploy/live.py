"""Development with compose: the code mounted, everything reloading, images built anew when a lock changes."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Sequence

from deploy import images, shell
from deploy.compose import DATASTORES, Replica, Say, Stack, build_ca, replicas, secret_steps
from deploy.errors import Failure
from deploy.running import HOST, announce, answers, exit_when_told, run_once
from deploy.shell import Run, Step

PROCESSES = ("app", "celery_worker", "celery_beat")
#: Seconds for `docker compose up` to end when it is told to: in the middle of replacing containers it may not hear it.
#: And then for the containers, of which a worker gives a running task 10.
STOP_SECONDS = 20
#: How often the containers are told to stop, at most.
STOPS = 3


def url(stack: Stack) -> str:
    return f"http://{HOST}:{stack.port}/"


def ports(stack: Stack) -> dict[str, tuple[str, int]]:
    """The ports of this machine that the stack takes: key in `.env`, service and number."""
    return {
        "PORT": ("app", stack.port),
        "POSTGRES_PORT": ("postgres", stack.env.postgres_port),
        "RABBITMQ_PORT": ("rabbitmq", stack.env.rabbitmq_port),
    }


def foundations(stack: Stack) -> list[Step]:
    """What is there before the site can run: secret files, the image, the servers."""
    return [
        *secret_steps(stack),
        images.build(stack.project, "dev", [stack.image], None, ca=build_ca(stack.env)),
        stack.compose("up", "-d", "--no-deps", "--no-build", "--wait", *DATASTORES),
    ]


def first(stack: Stack) -> dict[str, Run]:
    """What runs once before the site, by name."""
    once = ["run", "--rm", "-T", "--no-deps"]
    samples = stack.project.samples
    return {
        "release": stack.compose(*once, "release"),
        **({"samples": stack.compose(*once, "app", "python", "manage.py", samples)} if samples else {}),
    }


def attached(stack: Stack, workers: int) -> Run:
    """The site, in the foreground, built and started anew when a lock changes."""
    return stack.compose("up", "--no-deps", "--watch", "--scale", f"celery_worker={workers}", *PROCESSES)


def dev(stack: Stack, workers: int, say: Say, *, dry_run: bool) -> None:
    """Run the stack until Ctrl-C or TERM, then stop it. Raises `Failure` when a part of it fails."""
    if dry_run:
        shell.perform([*foundations(stack), *first(stack).values(), attached(stack, workers)], dry_run=True)
        return
    exit_when_told()
    try:
        shell.perform(foundations(stack))
        for name, command in first(stack).items():
            say(f"{name} …")
            run_once(name, command, stack.project.run_folder)
        _run(stack, workers)
    finally:
        say("Stopping.")
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # one Ctrl-C too many is not to leave half of it
        say(_stop(stack))


def _stop(stack: Stack) -> str:
    """Stop the stack; returns what came of it. Raises no `Failure`: that would replace the one that led here."""
    left: list[str] = []
    try:
        # Once more for a container that Compose had asked the engine for when it was ended.
        for _ in range(STOPS):
            shell.run(stack.compose("stop", "--timeout", str(STOP_SECONDS)), capture=True, check=False)
            left = [each.name for each in replicas(stack.name) if each.running]
            if not left:
                return "All stopped; the data is kept until `invoke down --volumes`."
    except Failure as failure:
        return f"It is not known what still runs: {failure.message}. `invoke down` stops it."
    return f"Still running: {', '.join(left)}. `invoke down` stops it."


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
                os.killpg(child.pid, signal.SIGKILL)  # Compose itself too, which is a child of docker's
    if code:
        raise Failure("docker compose ended by itself; its last lines above say why", code=code)


def _announce(stack: Stack, workers: int, child: subprocess.Popen[str]) -> None:
    def missing() -> list[str]:
        try:
            sick = lacking(replicas(stack.name, *PROCESSES), workers)
        except Failure:  # nobody knows: what is not known to work is not ready
            sick = list(PROCESSES)
        return sick or ([] if answers(f"{url(stack)}readyz") else ["app"])

    announce(url(stack), [*PROCESSES, *DATASTORES], missing, ended=lambda: child.poll() is not None)


def lacking(now: Sequence[Replica], workers: int) -> list[str]:
    """The services that are not at work yet."""
    want = {"app": 1, "celery_worker": workers, "celery_beat": 1}
    return [name for name, number in want.items() if sum(1 for r in now if r.service == name and r.well) < number]
