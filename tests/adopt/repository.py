"""A repository of another team, and Portico put into it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from deploy.core.shell import Result
from deploy.docker import env as server_env
from deploy.project.names import EXAMPLE, OWN_EXAMPLE, WHEELS
from tests import support
from tests.adopt.projects import Example
from tests.rig.websocket import WebSocket
from tests.rig.wheels import wheel
from tests.support import wait_until

#: A file of the kit, which runs in each process of the site.
NEWER = "deploy/kit/portico_site/health.py"


@dataclass(frozen=True)
class Adopted:
    """A repository into which Portico was put."""

    root: Path
    name: str
    example: Example
    #: The fingerprint of the project's files before.
    before: str

    def invoke(self, *words: str) -> Result:
        return support.invoke(self.root, *words)

    def must(self, *words: str) -> Result:
        result = self.invoke(*words)
        assert result.code == 0, result.stdout + result.stderr
        return result


def fingerprint(root: Path, example: Example) -> str:
    """The content of all files of the project."""
    digest = hashlib.sha256()
    moved = {name for name in example.files if name.split("/")[0] in example.aside}
    for name in sorted(set(example.files) - moved - {".gitignore"}):  # which is extended
        digest.update(name.encode() + b"\0" + (root / name).read_bytes())
    return digest.hexdigest()


def write(root: Path, example: Example) -> None:
    """A repository with one commit."""
    for name, text in example.files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in example.wheels:
        wheel(root / WHEELS, name)
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "theirs"]):
        subprocess.run([*git, *words], check=True)


def adopt(folder: Path, name: str, example: Example, portico: Path = support.ROOT) -> Adopted:
    """Write the repository below a folder, and put Portico into it, from a checkout of it."""
    root = folder / name
    root.mkdir(parents=True)
    write(root, example)
    before = fingerprint(root, example)
    aside = ["--set-aside"] if example.aside else []
    done = support.invoke(portico, "adopt", str(root), "--yes", *aside)
    assert done.code == 0, done.stdout + done.stderr
    with (root / "invoke.yaml").open("a") as file:
        file.writelines(f"  {line}\n" for line in example.written)
    return Adopted(root, name, example, before)


def give_values(this: Adopted, **more: str) -> None:
    """Write `.env`, if there is none, with values for the project's variables; and more of its keys."""
    path = this.root / ".env"
    example = next(each for each in (this.root / OWN_EXAMPLE, this.root / EXAMPLE) if each.exists())
    if not path.exists():
        text = server_env.fresh(example.read_text(), stack=this.name, development=False, celery=this.example.celery)
        path.write_text(text + "".join(f"{name}='{value}'\n" for name, value in this.example.values.items()))
        path.chmod(0o600)
    path.write_text(path.read_text() + "".join(f"{name}={value}\n" for name, value in more.items()))


def declare(this: Adopted, *lines: str) -> None:
    """Write more lines of the section of `invoke.yaml`, unless they are there."""
    path = this.root / "invoke.yaml"
    path.write_text(path.read_text() + "".join(f"  {line}\n" for line in lines if line not in path.read_text()))


def has_python(example: Example) -> bool:
    """Whether this machine has a Python on which the example runs."""
    newer = filter(None, (shutil.which(f"python3.{minor}") for minor in range(example.python[1], 20)))
    works = (subprocess.run([each, "-c", ""], capture_output=True, check=False).returncode == 0 for each in newer)
    return sys.version_info[:2] >= example.python or any(works)


def serves(this: Adopted, url: str, host: str = "localhost") -> None:
    """Pages, static files, health, and a task if there is Celery."""
    client = httpx.Client(base_url=url, headers={"Host": host}, trust_env=False, follow_redirects=True)
    assert client.get("/healthz").text == "ok\n"
    assert set(client.get("/readyz").json().values()) == {"ok"}
    page = client.get(this.example.front).text.split()
    assert page[1] == "notes"
    assert "color: black" in client.get(page[2]).text
    if this.example.built:
        assert client.get(f"/static/{this.example.built}").text == "// built\n", "the front end came with the release"
    if this.example.websocket:
        websocket = WebSocket.connect(int(url.rpartition(":")[2]), host)
        assert websocket.receive(), "the process that serves it"
        websocket.send("hello")
        assert websocket.receive() == "hello"
    if this.example.celery:
        each_queue_has_its_worker(client, this.example.kinds)
    assert fingerprint(this.root, this.example) == this.before


def each_queue_has_its_worker(client: httpx.Client, kinds: Sequence[str]) -> None:
    """Tasks of each queue are done by its workers only, with a countdown too."""
    workers = {"": "worker", **{kind: f"worker_{kind}" for kind in kinds}}
    for count in ("0", "1"):
        for queue, worker in workers.items():
            query = {"text": f"{worker}-{count}", "countdown": count, **({"queue": queue} if queue else {})}
            assert client.get("/ask/", params=query).text == "sent"
    found: dict[str, str] = {}

    def answered() -> bool:
        lines = client.get("/answer/").text.splitlines()
        found.update(line.removeprefix("asked ").partition(" by ")[::2] for line in lines)
        return len(found) >= 2 * len(workers)

    wait_until(answered, 30, "the workers have done the tasks")
    for text, by in found.items():
        node, _, token = by.partition(" ")
        # On hosts the name has the release, too.
        assert (node.partition("@")[0].partition("-")[0], token) == (text.partition("-")[0], "tok$en")


def git(root: Path, *words: str) -> str:
    """What Git says in a repository."""
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", "-C", str(root), *who, *words], capture_output=True, text=True, check=True)
    return done.stdout


def committed(root: Path, message: str) -> None:
    """Commit all that is there, which may be nothing new."""
    git(root, "add", "-A")
    git(root, "commit", "-q", "--allow-empty", "-m", message)


def upgraded(this: Adopted, folder: Path) -> None:
    """Upgrade to a newer Portico, which is this work tree with a change, in a repository of its own."""
    newer = support.copy_project(folder / "newer")
    (newer / NEWER).open("a").write("# newer\n")
    git(newer, "init", "-q", "-b", "main")
    committed(newer, "newer")
    committed(this.root, "before the upgrade")
    this.must("upgrade", "--from", str(newer))
    assert (this.root / NEWER).read_text().endswith("# newer\n")
    committed(this.root, "upgraded")
    assert fingerprint(this.root, this.example) == this.before


def unchanged(root: Path) -> bool:
    """Whether each file of Portico's is as the manifest says."""
    check = ["sha256sum", "--check", "--quiet", "deploy/MANIFEST"]
    return subprocess.run(check, cwd=root, capture_output=True, check=False).returncode == 0
