"""The native runtime: web, workers and beat as processes of this machine, with embedded servers.

`plan` decides everything; `precheck` and `dev` act. honcho runs the processes side by side with a prefix each.
"""

from __future__ import annotations

import errno
import fcntl
import re
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from deploy import shell
from deploy.config import Project
from deploy.errors import Failure
from deploy.shell import Run
from deploy.venvs import Store

HOST = "127.0.0.1"
#: Seconds that a running task has to finish when all ends; after it, the task goes back to its queue.
GRACE_SECONDS = 10
#: Seconds until honcho ends by force what has not ended: more than a reloader takes for both of its attempts.
KILL_SECONDS = GRACE_SECONDS + 10
#: Seconds after which it is said what is not ready yet.
PATIENCE_SECONDS = 60
#: Tasks that one worker runs at a time.
CONCURRENCY = 2


@dataclass(frozen=True)
class Plan:
    """What `invoke dev --native` runs: first, one after the other; then side by side, until it is ended."""

    project: Project
    port: int
    first: dict[str, Run]
    processes: dict[str, Run]
    #: Files that the workers and beat make when they are at work.
    signs: tuple[Path, ...]

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/"


def environment(project: Project) -> dict[str, str]:
    """What the site needs to know; `DATABASE_URL` and `CELERY_BROKER_URL` pass through from ours."""
    return {
        "DJANGO_SETTINGS_MODULE": f"{project.package}.settings.development",
        "RUN_DIR": str(project.run_folder),
        "PYTHONUNBUFFERED": "1",
    }


def manage(project: Project, store: Store, arguments: list[str]) -> Run:
    """manage.py with these arguments, in the development environment."""
    return Run([str(store.link("dev") / "bin" / "python"), str(project.manage), *arguments], environment(project))


def plan(project: Project, store: Store, port: int, workers: int) -> Plan:
    """Decide what runs."""
    ready = project.run_folder / "ready"
    celery = [str(store.link("dev") / "bin" / "celery"), "--workdir", str(project.site_folder), "-A", project.package]
    served = manage(project, store, ["runserver", "--noreload", f"{HOST}:{port}"])
    names = ["worker"] if workers == 1 else [f"worker{number}" for number in range(1, workers + 1)]
    processes = {"web": kept(project, store, served.argv, {})}
    for name in names:
        # Equal node names on one machine would share a mailbox.
        command = [*celery, "--quiet", "worker", "-n", f"{name}@%h", "-c", str(CONCURRENCY), "-l", "info"]
        processes[name] = kept(project, store, command, {"READY_FILE": str(ready / name)})
    processes["beat"] = kept(
        project, store, [*celery, "--quiet", "beat", "-l", "info"], {"READY_FILE": str(ready / "beat")}
    )
    return Plan(
        project=project,
        port=port,
        first={
            "migrate": manage(project, store, ["migrate", "--no-color"]),
            **({"samples": manage(project, store, [project.samples])} if project.samples else {}),
        },
        processes=processes,
        signs=tuple(ready / name for name in [*names, "beat"]),
    )


def kept(project: Project, store: Store, command: Sequence[str], more: dict[str, str]) -> Run:
    """A process that is started anew when the code changes, and ends with us."""
    reloader = [str(store.link("tools") / "bin" / "python"), "-m", "deploy.reloader"]
    options = ["--watch", str(project.site_folder), "--grace", str(GRACE_SECONDS)]
    return Run([*reloader, *options, "--", *command], {**environment(project), "PYTHONPATH": str(project.root), **more})


def precheck(plan: Plan) -> None:
    """Raise `Failure` for what would stop the start: a folder that cannot be written, a port in use."""
    folder = plan.project.run_folder
    try:
        (folder / "ready").mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise Failure(f"{folder}: cannot be written ({error.strerror}); make it yours, or remove it") from None
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, plan.port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise Failure(f"port {plan.port}: {error.strerror}; choose another with --port") from None
            raise Failure(f"port {plan.port} is in use by another program; try --port {free_port()}") from None


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def dev(plan: Plan, *, dry_run: bool) -> None:
    """Prepare the database, then run everything until Ctrl-C or TERM. Raises `Failure` when a part fails."""
    if dry_run:
        for command in plan.first.values():
            print(command.render())
        for command in plan.processes.values():
            print(f"{command.render()} &")
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    with (plan.project.run_folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure(
                f"another `invoke dev` runs on {plan.project.run_folder}; end it first: two would share one schedule"
            ) from None
        prepare(plan)
        run_all(plan)


def _leave(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def prepare(plan: Plan) -> None:
    """Bring the database up to date; what fails is said in one line, and all of it is in a log."""
    for sign in plan.signs:
        sign.unlink(missing_ok=True)
    for name, command in plan.first.items():
        print(f"{name} …", file=sys.stderr, flush=True)
        result = shell.run(command, capture=True, check=False)
        if result.code:
            log = plan.project.run_folder / f"{name}.log"
            log.write_text(result.stdout + result.stderr)
            raise Failure(f"{name}: {explain(result.stdout, result.stderr)}; all of it is in {log}")


def explain(stdout: str, stderr: str) -> str:
    """What went wrong in a management command: the migration that it was at, and the error's own line."""
    applying = re.findall(r"Applying ([\w.]+)\.\.\.(?! OK)", stdout)
    errors = re.findall(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Configured|Exists)\b.*$", stderr, re.MULTILINE)
    reason = errors[-1] if errors else shell.last_line(stderr) or shell.last_line(stdout)
    return f"{applying[-1]}: {reason}" if applying else reason


def run_all(plan: Plan) -> None:
    """Run the processes until we are told to stop. Raises `Failure` when one of them ends by itself."""
    from deploy import side_by_side

    code = side_by_side.run(plan.processes, patience=KILL_SECONDS, when_forked=lambda: announce(plan))
    if code not in (0, 128 + signal.SIGINT, 128 + signal.SIGTERM):
        raise Failure("a process ended by itself; its last lines above say why", code=code)
    print("All stopped.")


def announce(plan: Plan) -> None:
    """Say in one line when everything is at work, or what is not."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    missing = lacking(plan)
    while missing and time.monotonic() < deadline:
        time.sleep(0.1)
        missing = lacking(plan)
    if missing:
        line = f"Not ready after {PATIENCE_SECONDS} s: {', '.join(missing)}; the lines above may say why."
    else:
        line = f"Ready: {plan.url} ({', '.join(plan.processes)}). Ctrl-C ends it."
    sys.stdout.write(f"{line}\n")  # at once with its end: honcho writes beside this thread
    sys.stdout.flush()


def lacking(plan: Plan) -> list[str]:
    """What is not ready yet."""
    names = [sign.name for sign in plan.signs if not sign.exists()]
    return names or ([] if answers(f"{plan.url}readyz") else ["web"])


def answers(url: str) -> bool:
    """Whether a GET of the URL on this machine succeeds; a proxy is never asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
