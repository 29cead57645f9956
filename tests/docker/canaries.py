"""Canaries: each secret of a stack is a word that is nowhere else, and is looked for where it must not be."""

from __future__ import annotations

import re
import subprocess
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from deploy.docker import accounts
from tests.docker.conftest import Stack
from tests.rig.engine import docker

#: Seconds between two looks at what all processes were started with.
LOOK_SECONDS = 0.2
#: Bytes that are searched at a time.
PIECE = 1 << 22


def words(stack: Stack) -> dict[str, str]:
    """The secrets of `.env`, and those that are derived from them, by name."""
    found = dict(re.findall(r"^(SECRET_KEY|\w+_PASSWORD)=(.+)$", stack.env.read_text(), re.MULTILINE))
    owners = {"POSTGRES_PASSWORD": (accounts.DATA,), "RABBITMQ_PASSWORD": (accounts.PUBLISHER, accounts.WORKER)}
    for name, roles in owners.items():
        found |= {f"{name} of {role}": accounts.derived(found[name], role) for role in roles}
    assert len(found) >= 7
    return found


class Canaries:
    """Looks at the arguments of all processes of this machine, those in containers too, while it is entered."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._words = words(stack)
        self._seen: dict[str, str] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Canaries:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)

    def _look(self) -> None:
        known: set[str] = set()
        while not self._over.wait(LOOK_SECONDS):
            there = {path.name for path in Path("/proc").iterdir() if path.name.isdecimal()}
            for each in there - known:
                with suppress(OSError):
                    arguments = Path(f"/proc/{each}/cmdline").read_bytes().replace(b"\0", b" ")
                    self._seen |= {f"{name} in the arguments of {arguments[:60]!r}": "" for name in self._in(arguments)}
            known = there

    def _in(self, text: bytes) -> list[str]:
        return [name for name, word in self._words.items() if word.encode() in text]

    def found(self) -> list[str]:
        """Where a secret was found: which, and the place."""
        places = {**texts(self.stack), "what invoke said": "\n".join(self.stack.said)}
        here = [f"{name} in {where}" for where, text in places.items() for name in self._in(text.encode())]
        layers = [f"{name} in the image" for name in self._in_image()]
        return sorted({*here, *layers, *self._seen})

    def _in_image(self) -> set[str]:
        """The secrets in any file of any layer of the image, or in what it says of itself."""
        found: set[str] = set()
        image = f"{self.stack.name}:latest"
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saved:
            with tarfile.open(fileobj=saved.stdout, mode="r|") as archive:
                for each in archive:
                    if file := archive.extractfile(each):
                        found |= {name for piece in pieces(file) for name in self._in(piece)}
            saved.communicate()
        assert saved.returncode == 0
        return found


def pieces(file: object, overlap: int = 200) -> Iterator[bytes]:
    """The content of a file, in pieces that overlap."""
    last = b""
    while piece := file.read(PIECE):  # type: ignore[attr-defined]
        yield last + piece
        last = piece[-overlap:]


def texts(stack: Stack) -> Mapping[str, str]:
    """What anybody could read: logs and facts of containers, environments, temporary files, logs of commands."""
    names = docker("ps", "-a", f"--filter=label=com.docker.compose.project={stack.name}", "--format={{.Names}}").split()
    found = {}
    for name in names:
        found[f"the log of {name}"] = docker("logs", name)
        found[f"the facts of {name}"] = docker("inspect", name)
    for name in stack.containers():
        found[f"the environment of {name}"] = docker("exec", name, "cat", "/proc/1/environ", check=False)
        temporary = "find /tmp /var/tmp /dev/shm -type f -size -2000k -exec cat {} + 2>/dev/null"
        found[f"temporary files of {name}"] = docker("exec", name, "sh", "-c", temporary, check=False)
    for path in sorted((stack.project / ".run").rglob("*")):
        if path.is_file() and path.stat().st_size < 10_000_000:
            found[f".run/{path.name}"] = path.read_text(errors="replace")
    image = f"{stack.name}:latest"
    found["the history of the image"] = docker("history", "--no-trunc", image) + docker("image", "inspect", image)
    return found
