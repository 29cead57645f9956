"""Helpers for several suites: a copy of the project, a running native site, the process table."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from deploy.core.shell import Result, Run, run
from tests.rig.ports import free_port

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".venvs" / "tools" / "bin"
#: Seconds within which a native site with built environments must be ready on a slow machine.
READY_SECONDS = 90


def project_files() -> list[str]:
    """The files that a commit of this work tree would contain."""
    if not (ROOT / ".git").exists():
        skipped = {".venvs", ".run", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"}
        paths = (path for path in ROOT.rglob("*") if not skipped & set(path.relative_to(ROOT).parts))
        return [str(path.relative_to(ROOT)) for path in paths if path.is_file()]
    listed = run(Run(["git", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard"]), capture=True)
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


def copy_project(target: Path) -> Path:
    """Copy the current work tree, as a fresh clone of it would be."""
    for name in project_files():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
    return target


def environment(**more: str) -> dict[str, str]:
    """Our environment as a user has it: without the variables of pytest, Python and the suites."""
    dropped = {"VIRTUAL_ENV", "DJANGO_SETTINGS_MODULE", "RUN_DIR", "READY_FILE", "PROTECTED_ROOT"}
    dropped |= {"DATABASE_URL", "CELERY_BROKER_URL"}
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in dropped and not name.startswith(("PYTHON", "PYTEST", "INVOKE_", "PORTICO_"))
    }
    return {**kept, **more}


def invoke(
    project: Path,
    *words: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    uv: bool = True,
    seconds: float = 300,
) -> Result:
    """Run a task in a project and wait for it. With ``uv``, our uv is on PATH for the bootstrap."""
    command = ["python3", str(project / "tasks.py"), *words]
    more = {"PATH": f"{TOOLS}:{os.environ['PATH']}"} if uv else {}
    done = subprocess.run(
        command,
        env={**environment(), **more, **(env or {})},
        cwd=cwd or project,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def one_line(result: Result) -> str:
    """The last line of a failed task's output; fails the test on a traceback or a zero exit code."""
    assert result.code != 0, result.stdout + result.stderr
    assert "Traceback" not in result.stderr, result.stderr
    return result.stderr.strip().splitlines()[-1]


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Return once the condition holds; fail the test after ``seconds``.

    To ask often takes the processors from what is waited for: the pauses grow from 0.1 to 1 s.
    """
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        assert waited < seconds, f"not within {seconds} s: {what}"
        time.sleep(min(0.1 + waited / 20, 1))


def processes_of(mark: str) -> dict[int, str]:
    """The running processes whose environment or command line contains this text: process id and command line.

    Processes in containers, such as the machines of other tests, are ignored.
    """
    found = {}
    own = os.readlink("/proc/self/ns/pid")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            text = command + (entry / "environ").read_bytes().decode(errors="replace")
            state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
            elsewhere = os.readlink(entry / "ns" / "pid") != own
        except OSError:
            continue
        if mark in text and state != "Z" and not elsewhere:
            found[int(entry.name)] = command
    return found


class Dev:
    """A running `invoke dev --native` with its own run folder."""

    def __init__(
        self,
        project: Path,
        run_folder: Path,
        *options: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        prefix: Sequence[str] = (),
        seconds: float = READY_SECONDS,
    ) -> None:
        self.run_folder = run_folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.output_path = run_folder.with_name(f"{run_folder.name}-{self.port}.log")
        self.seconds = seconds
        python = ["python3", str(project / "tasks.py")]
        words = [*prefix, *python, "dev", "--native", "--port", str(self.port), *options]
        # The run folder marks every process that belongs to this run.
        more = {"INVOKE_PROJECT_RUN": str(run_folder), **(env or {})}
        with self.output_path.open("w") as output:
            self.process = subprocess.Popen(
                words, env=environment(**more), cwd=cwd or project, stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def output(self) -> str:
        return self.output_path.read_text()

    def wait_ready(self) -> "Dev":
        wait_until(lambda: "Ready: " in self.output or self.process.poll() is not None, self.seconds, "the ready line")
        assert "Ready: " in self.output, self.output
        return self

    def processes(self, pattern: str = "") -> dict[int, str]:
        """The processes of this run whose command line matches."""
        return {pid: line for pid, line in processes_of(str(self.run_folder)).items() if re.search(pattern, line)}

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 40) -> int:
        """Stop it by a signal; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(seconds)

    def __enter__(self) -> "Dev":
        try:
            return self.wait_ready()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
