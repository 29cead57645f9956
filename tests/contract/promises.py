"""The promises of a deploy on every runtime. The suites docker, swarm and hosts collect these tests."""

import os
import re
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from deploy.core.shell import Result
from tests import support

#: Code that, added to the site, keeps one kind of process from starting; its last output is not valid text.
BROKEN = """
import sys as _sys

if {kind!r} in _sys.argv:
    _sys.stderr.buffer.write(b"caf\\xe9 \\x1b[2J\\n")
    raise RuntimeError("this {kind} cannot start")
"""
#: A short sleep of a laptop: some runtimes consider the client gone by then, others do not yet.
ASLEEP_SECONDS = 30
#: The docker commands that only read.
QUESTIONS = (
    *("ps", "inspect", "info", "version", "top", "image inspect", "image ls", "volume inspect", "compose version"),
    *("service ls", "service inspect", "service ps", "node ls", "node inspect", "config ls", "config inspect"),
    *("secret ls", "network ls", "stack config", "container ls"),
)


class Runtime(ABC):
    """A running site, and the project from which it is deployed."""

    #: A text that a deploy prints after it has begun to change something and before it is done.
    under_way: str
    #: The command of a deploy, and of each task that has a dry run and changes what runs, with their options.
    deploying: list[str]
    changing: list[list[str]]

    @property
    @abstractmethod
    def project(self) -> Path: ...

    @abstractmethod
    def environment(self) -> dict[str, str]:
        """The variables that its commands need."""

    @abstractmethod
    def commit(self) -> None:
        """Make the work tree the release that will be deployed."""

    @abstractmethod
    def serving(self) -> object:
        """The serving release, for comparison."""

    @abstractmethod
    def load(self) -> AbstractContextManager[object]:
        """A steady load in which no request may fail."""

    @abstractmethod
    def history(self) -> str:
        """The latest actions, as the tasks show them."""

    def invoke(self, *words: str, before: str = "") -> Result:
        """Run a task and wait for it. ``before``: a folder that comes first on PATH."""
        return support.invoke(self.project, *words, env=self._found(before), uv=False, seconds=900)

    def _found(self, before: str = "") -> dict[str, str]:
        """The variables for its commands, with our tools on PATH."""
        more = self.environment()
        folders = [before, str(support.TOOLS), more.get("PATH", os.environ["PATH"])]
        return {**more, "PATH": ":".join(filter(None, folders))}

    def begin(self) -> "subprocess.Popen[str]":
        """Start a deploy, and return when it has begun to change something."""
        more = support.environment(**self._found())
        words = ["python3", str(self.project / "tasks.py"), *self.deploying]
        client = subprocess.Popen(
            words, cwd=self.project, env=more, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        said = ""
        assert client.stdout is not None
        while self.under_way not in said:
            line = client.stdout.readline()
            assert line or client.poll() is None, said
            said += line
        return client

    def append(self, path: str, text: str) -> None:
        file = self.project / path
        file.write_text(file.read_text() + text)

    def change(self) -> None:
        """Change the work tree to another release."""
        self.append("site/polls/static/polls/style.css", f"\n.x{os.urandom(4).hex()} {{ color: red }}\n")
        self.commit()


@pytest.mark.parametrize("kind", ["beat", "worker"])
def test_after_a_process_that_does_not_start_everything_is_restored_and_its_reason_is_readable(
    runtime: Runtime, kind: str
) -> None:
    before = runtime.serving()
    original = (runtime.project / "site/mysite/celery_app.py").read_text()
    runtime.append("site/mysite/celery_app.py", BROKEN.format(kind=kind))
    runtime.commit()
    try:
        with runtime.load():
            result = runtime.invoke(*runtime.deploying)
    finally:
        (runtime.project / "site/mysite/celery_app.py").write_text(original)
        runtime.commit()
    assert result.code != 0
    assert f"RuntimeError: this {kind} cannot start" in result.stderr, result.stderr
    assert "\x1b[2J" not in result.stderr
    assert not [line for line in result.stderr.splitlines() if "Traceback" in line and " | " not in line]
    assert kind in result.stderr.strip().splitlines()[-1]
    assert runtime.serving() == before, result.stdout + result.stderr


def test_a_closed_terminal_undoes_a_deploy(runtime: Runtime) -> None:
    before = runtime.serving()
    runtime.change()
    with runtime.load():
        client = runtime.begin()
        client.send_signal(signal.SIGHUP)
        client.send_signal(signal.SIGHUP)  # from the kernel, and from the shell
        said, _ = client.communicate(timeout=300)
    assert client.returncode == 128 + signal.SIGHUP, said
    assert runtime.serving() == before


def test_a_client_that_falls_asleep_loses_nothing_and_keeps_nobody_out(runtime: Runtime) -> None:
    """Whether it continues when it wakes up or was given up meanwhile: one complete release serves."""
    before = runtime.serving()
    runtime.change()
    with runtime.load():
        client = runtime.begin()
        client.send_signal(signal.SIGSTOP)
        time.sleep(ASLEEP_SECONDS)
        client.send_signal(signal.SIGCONT)
        said, _ = client.communicate(timeout=600)
        if client.returncode:
            support.wait_until(lambda: runtime.serving() == before, 120, f"the earlier release is restored: {said}")
            again = runtime.invoke(*runtime.deploying)
            assert again.code == 0, again.stderr
    assert runtime.serving() != before, said


def test_a_second_deploy_is_refused_and_names_the_lock_holder(runtime: Runtime) -> None:
    runtime.change()
    first = runtime.begin()
    try:
        line = support.one_line(runtime.invoke(*runtime.deploying))
    finally:
        said, _ = first.communicate(timeout=600)
    assert re.search(r"deploy.* by \S+@\S+", line), line
    assert first.returncode == 0, said


def test_a_dry_run_only_reads_and_changes_nothing(runtime: Runtime, tmp_path: Path) -> None:
    before, history = runtime.serving(), runtime.history()
    asked = tmp_path / "asked"
    shim = tmp_path / "docker"
    shim.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>{asked}\nexec {shutil.which("docker")} "$@"\n')
    shim.chmod(0o755)
    asked.touch()
    for words in runtime.changing:
        task, *others = words
        result = runtime.invoke(task, "--dry-run", *others, before=str(tmp_path))
        assert result.code == 0, (words, result.stdout + result.stderr)
        assert (result.stdout + result.stderr).strip(), f"{task} shows what it would do"
    changes = [line for line in asked.read_text().splitlines() if not question(line)]
    assert not changes
    assert (runtime.serving(), runtime.history()) == (before, history)


def question(line: str) -> bool:
    """Whether a docker command only reads."""
    words = re.sub(r"^compose (-\S+ \S+ )*", "compose ", line)
    return words.startswith((*QUESTIONS, "compose config"))


__all__ = [name for name in globals() if name.startswith("test_")]
