"""Development with compose: the code is mounted, processes reload, images are rebuilt when a lock changes."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import replace

from deploy.compose.containers import Replica, replicas, require_own, require_ports
from deploy.core import shell
from deploy.core.action import Action
from deploy.core.errors import Failure
from deploy.core.running import HOST, Notify, announce, complaint, run_once
from deploy.core.shell import Run
from deploy.docker import additions, images
from deploy.docker.dotenv import prepare
from deploy.docker.engine import require_engine
from deploy.docker.stack import DEV, Stack, secret_steps
from deploy.project import assets, mail
from deploy.project.config import Project
from deploy.project.workers import SERVICE

#: Seconds for `docker compose up` to end when it is interrupted; while it replaces containers it may ignore that.
#: Then the same time for the containers, where a worker gives a running task 10 seconds.
STOP_SECONDS = 20
#: The maximum number of attempts to stop the containers.
STOPS = 3


def url(stack: Stack) -> str:
    return f"http://{HOST}:{stack.port}/"


def ports(stack: Stack) -> dict[str, tuple[str, int]]:
    """The ports that the stack uses on this machine: key in `.env`, service and number."""
    return {
        "PORT": ("app", stack.port),
        "POSTGRES_PORT": ("postgres", stack.env.postgres_port),
        "RABBITMQ_PORT": ("rabbitmq", stack.env.rabbitmq_port),
    }


def image(stack: Stack) -> Run:
    """The command that builds the image."""
    return images.build(stack.project, "dev", [stack.image], None, ca=stack.build_ca)


def servers(stack: Stack) -> Run:
    """The command that starts the servers that the site needs."""
    return stack.compose("up", "-d", "--no-deps", "--no-build", "--wait", *additions.beside(stack))


def first(stack: Stack) -> dict[str, Run]:
    """The commands that run once before the site, by name."""
    once = ["run", "--rm", "-T", "--no-deps"]
    front, root = stack.project.assets, stack.project.root
    built = front is None or (root / front.output).is_dir()
    missing = {} if front is None or built else {"assets": assets.command(front, root, engine=True)}
    return {**missing, "release": stack.compose(*once, "release")}


def attached(stack: Stack, workers: int) -> Run:
    """The command that runs the site in the foreground, rebuilding and restarting it when a lock changes."""
    scale = ["--scale", f"{SERVICE}={workers}"] if stack.celery else []
    return stack.compose("up", "--no-deps", "--watch", *scale, *stack.site_services, *stack.watchers)


def development(project: Project, port: int, workers: int, notify: Notify) -> Action:
    """Run the stack until Ctrl-C or TERM. ``port`` replaces the one in `.env`, unless it is 0."""

    def stack_of(*, dry_run: bool) -> Stack:
        require_engine(project.free_gigabytes)
        stack = prepare(project, DEV, dry_run=dry_run, notify=notify)
        require_own(stack)
        if workers > 1 and (why := stack.why_not_scaled(SERVICE)):
            raise Failure(f"--workers: {why}")
        return replace(stack, env=stack.env.model_copy(update={"port": port})) if port else stack

    def show() -> None:
        stack = stack_of(dry_run=True)
        steps = [*secret_steps(stack), image(stack), servers(stack), *first(stack).values(), attached(stack, workers)]
        shell.perform(steps, dry_run=True)

    def do() -> None:
        stack = stack_of(dry_run=False)
        require_ports(ports(stack), replicas(stack.name))
        if said := mail.where(project):
            notify(said)
        run(stack, workers, notify)

    return Action(show, do)


def run(stack: Stack, workers: int, notify: Notify) -> None:
    """Run the stack until we are stopped, then stop it. Raises `Failure` if a part of it fails."""
    try:
        shell.perform(secret_steps(stack))
        images.perform(image(stack), stack.project.run_folder, notify)
        shell.perform([servers(stack)])
        for name, command in first(stack).items():
            notify(f"{name} …")
            run_once(name, command, stack.project.run_folder)
        _run(stack, workers)
    finally:
        notify("Stopping.")
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # another Ctrl-C must not interrupt the stopping
        notify(_stop(stack))


def _stop(stack: Stack) -> str:
    """Stop the stack; returns a line with the result. Raises no `Failure`, which would replace an earlier one."""
    left: list[str] = []
    try:
        # Repeated for a container that Compose had just requested from the engine when it was killed.
        for _ in range(STOPS):
            shell.run(stack.compose("stop", "--timeout", str(STOP_SECONDS)), capture=True, check=False)
            left = [each.name for each in replicas(stack.name) if each.running]
            if not left:
                return "All stopped; the data is kept until `invoke down --volumes`."
    except Failure as failure:
        return f"Cannot tell what still runs: {failure.message}. `invoke down` stops it."
    return f"Still running: {', '.join(left)}. `invoke down` stops it."


def _run(stack: Stack, workers: int) -> None:
    # In its own session, so that Ctrl-C reaches only us, and we stop it.
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
                os.killpg(child.pid, signal.SIGKILL)  # the whole group, because Compose is a child of docker
    if code:
        raise Failure("docker compose stopped unexpectedly; its last lines above say why", code=code)


def _announce(stack: Stack, workers: int, child: subprocess.Popen[str]) -> None:
    def missing() -> list[str]:
        waiting = not_ready(replicas(stack.name, *stack.site_services), stack.site_services, workers)
        return waiting or ([f"app ({said})"] if (said := complaint(f"{url(stack)}readyz")) else [])

    announce(url(stack), [*stack.site_services, *stack.datastores], missing, ended=lambda: child.poll() is not None)


def not_ready(now: Sequence[Replica], services: Sequence[str], workers: int) -> list[str]:
    """Those of the services that are not ready yet."""
    want = {name: workers if name == SERVICE else 1 for name in services}
    return [name for name, number in want.items() if sum(1 for r in now if r.service == name and r.ready) < number]
