"""What a deploy promises wherever it goes. Collected by the suites that have a runtime: docker, swarm, hosts."""

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

#: Made part of the site, it keeps one kind of process from starting, with a last word that is no text.
BROKEN = """
import sys as _sys

if {kind!r} in _sys.argv:
    _sys.stderr.buffer.write(b"caf\\xe9 \\x1b[2J\\n")
    raise RuntimeError("this {kind} cannot start")
"""
#: As long as a laptop's lid is shut between two rooms: some runtimes have given its client up by then, others not yet.
ASLEEP_SECONDS = 30
#: What docker may be asked while nothing is to be changed.
QUESTIONS = (
    *("ps", "inspect", "info", "version", "top", "image inspect", "image ls", "volume inspect", "compose version"),
    *("service ls", "service inspect", "service ps", "node ls", "node inspect", "config ls", "config inspect"),
    *("secret ls", "network ls", "stack config", "container ls"),
)


class Runtime(ABC):
    """A site that runs somewhere, and the project that it is deployed from."""

    #: What a deploy says when it has begun to change something and is not done.
    under_way: str
    #: The words of a deploy, and of the tasks that have a dry run and change what runs, each with its options.
    deploying: list[str]
    changing: list[list[str]]

    @property
    @abstractmethod
    def project(self) -> Path: ...

    @abstractmethod
    def environment(self) -> dict[str, str]:
        """What its commands need to find it."""

    @abstractmethod
    def commit(self) -> None:
        """What is in the work tree is what will be deployed."""

    @abstractmethod
    def serving(self) -> object:
        """What serves, to be compared."""

    @abstractmethod
    def load(self) -> AbstractContextManager[object]:
        """A steady load of which nothing may fail."""

    @abstractmethod
    def history(self) -> str:
        """What was done to it of late, as people are shown it."""

    def invoke(self, *words: str, before: str = "") -> Result:
        """A task, to its end; ``before``: a folder of programs that come before all others."""
        return support.invoke(self.project, *words, env=self._found(before), uv=False, seconds=900)

    def _found(self, before: str = "") -> dict[str, str]:
        """What its commands need, our tools among it."""
        more = self.environment()
        folders = [before, str(support.TOOLS), more.get("PATH", os.environ["PATH"])]
        return {**more, "PATH": ":".join(filter(None, folders))}

    def begin(self) -> "subprocess.Popen[str]":
        """A deploy beside us, that has begun to change something."""
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
        """The work tree has another release."""
        self.append("site/polls/static/polls/style.css", f"\n.x{os.urandom(4).hex()} {{ color: red }}\n")
        self.commit()


@pytest.mark.parametrize("kind", ["beat", "worker"])
def test_a_process_that_does_not_start_puts_everything_back_and_its_reason_is_readable(
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


def test_a_closed_terminal_takes_a_deploy_back(runtime: Runtime) -> None:
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
    """Whether it goes on when it wakes or was given up meanwhile: what serves is one release, whole."""
    before = runtime.serving()
    runtime.change()
    with runtime.load():
        client = runtime.begin()
        client.send_signal(signal.SIGSTOP)
        time.sleep(ASLEEP_SECONDS)
        client.send_signal(signal.SIGCONT)
        said, _ = client.communicate(timeout=600)
        if client.returncode:
            support.wait_until(lambda: runtime.serving() == before, 120, f"all is put back: {said}")
            again = runtime.invoke(*runtime.deploying)
            assert again.code == 0, again.stderr
    assert runtime.serving() != before, said


def test_of_two_deploys_at_once_the_second_is_told_who_holds_the_lock(runtime: Runtime) -> None:
    runtime.change()
    first = runtime.begin()
    try:
        line = support.one_line(runtime.invoke(*runtime.deploying))
    finally:
        said, _ = first.communicate(timeout=600)
    assert re.search(r"deploy.* by \S+@\S+", line), line
    assert first.returncode == 0, said


def test_a_dry_run_asks_and_changes_nothing(runtime: Runtime, tmp_path: Path) -> None:
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
    """Whether docker was only asked something."""
    words = re.sub(r"^compose (-\S+ \S+ )*", "compose ", line)
    return words.startswith((*QUESTIONS, "compose config"))


__all__ = [name for name in globals() if name.startswith("test_")]
