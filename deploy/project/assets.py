"""The front end: how `assets` in `invoke.yaml` says that it is built, and building it for a release to plain hosts.

An image builds it in a stage of its own, from the same inputs: see the Dockerfile. Neither sees what Git does not know.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.running import Notify, logged, quote
from deploy.core.shell import Run
from deploy.project.upgrade import manifest

_KEYS = ("image", "run", "output", "watch", "inputs")
#: Packages over a slow line, and a large front end on a small machine.
BUILD_SECONDS = 1800
#: For an engine to say that it is there.
ENGINE_SECONDS = 10
#: Built front ends that are kept: as many as a rollback and a few branches need.
KEPT = 5


@dataclass(frozen=True)
class Assets:
    """A command, and the folder that it fills. All paths are relative to the repository."""

    run: str
    output: str
    #: The container image that it runs in; empty for the tools of the machine, where no image is built.
    image: str = ""
    #: A command that runs beside the site in development, and builds again when a file changes.
    watch: str = ""
    #: Files and folders that it reads; all that Git knows if there are none.
    inputs: tuple[str, ...] = ()

    def reads(self, name: str) -> bool:
        """Whether a file is an input: one of the project's, within what is named."""
        path = PurePosixPath(name)
        if manifest.is_ours(name) or name == manifest.FILE or path.name.startswith(".env"):
            return False
        return not self.inputs or any(path.is_relative_to(each) for each in self.inputs)


def parse(said: Mapping[str, object]) -> Assets | None:
    """The front end, if there is one. Raises `Failure` naming an invalid key."""
    if not said:
        return None
    for key in said:
        if key not in _KEYS:
            raise Failure(f"project.assets.{key} in invoke.yaml is not a key; the keys are: {', '.join(_KEYS)}")
    for key in ("run", "output"):
        if not said.get(key):
            raise Failure(f"project.assets.{key} is missing; set it in invoke.yaml")
    texts = {key: _text(key, said.get(key)) for key in ("image", "run", "output", "watch")}
    inputs = said.get("inputs") or ()
    if not isinstance(inputs, list | tuple):
        raise Failure(f"project.assets.inputs is {inputs!r}, but must be a list of files and folders")
    for path in (texts["output"], *map(str, inputs)):
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or path.strip("/.") == "":
            raise Failure(f"project.assets: {path}: must be a path within the repository")
    return Assets(texts["run"], texts["output"].rstrip("/"), texts["image"], texts["watch"], tuple(map(str, inputs)))


def _text(key: str, value: object) -> str:
    if value in (None, ""):
        return ""
    if not isinstance(value, str) or "\n" in value or (key in ("image", "output") and len(value.split()) != 1):
        raise Failure(f"project.assets.{key} is {value!r}, but must be one line; set it in invoke.yaml")
    return value


def build_arguments(this: Assets | None, site: str) -> dict[str, str]:
    """The build arguments of the image's stage; none for a project without a front end.

    Raises `Failure` without an image to build it in, and for an output that would not reach the site.
    """
    if this is None:
        return {}
    if not this.image:
        raise Failure("project.assets.image is missing: an image builds the front end in it, such as node:22")
    if not PurePosixPath(this.output).is_relative_to(site):
        raise Failure(f"project.assets.output is {this.output}, but must be in the folder of manage.py, {site}/")
    inside = str(PurePosixPath(this.output).relative_to(site))
    return {
        "ASSETS_IMAGE": this.image,
        "ASSETS_RUN": this.run,
        "ASSETS_OUTPUT": this.output,
        "ASSETS_PLACE": inside,
    }


def key(this: Assets, listing: Iterable[str]) -> str:
    """The hash of what decides the output: the command, its image, and the inputs as `git ls-tree -r` lists them."""
    digest = hashlib.sha256(repr(astuple(this)).encode())
    for entry in listing:
        if entry and this.reads(entry.partition("\t")[2]):
            digest.update(entry.encode() + b"\0")
    return digest.hexdigest()[:32]


def command(this: Assets, folder: Path, *, engine: bool) -> Run:
    """The command that builds it in a clean checkout: in its image if there is an engine, else with our own tools."""
    words = ["sh", "-c", this.run]
    if not (engine and this.image):
        return Run(words, cwd=folder, seconds=BUILD_SECONDS)
    # As this user, so that the files are ours to remove; tools keep their caches in HOME.
    me = ["--user", f"{os.getuid()}:{os.getgid()}", "--env", "HOME=/tmp"]
    place = ["--volume", f"{folder}:/src", "--workdir", "/src"]
    return Run(["docker", "run", "--rm", "--init", *me, *place, this.image, *words], seconds=BUILD_SECONDS)


def built(this: Assets, root: Path, run: Path, commit: str, notify: Notify) -> Path:
    """The output for a commit, from the cache in the folder ``run`` or built now. Raises `Failure` if that fails."""
    listed = shell.run(Run(["git", "-C", str(root), "ls-tree", "-r", "-z", commit]), capture=True).stdout
    cache = run / "assets"
    done = cache / key(this, listed.split("\0"))
    if done.is_dir():
        os.utime(done)
        return done
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".building-", dir=cache, ignore_cleanup_errors=True) as scratch:
        clean = Path(scratch) / "src"
        clean.mkdir()
        archive = Path(scratch) / "src.tar"
        shell.run(Run(["git", "-C", str(root), "archive", "--format=tar", f"--output={archive}", commit]), capture=True)
        with tarfile.open(archive) as tar:
            tar.extractall(clean, members=[each for each in tar if this.reads(each.name)], filter="data")
        engine = bool(this.image) and _engine_answers()
        building = command(this, clean, engine=engine)
        notify(f"assets: {this.run} ({f'in {this.image}' if engine else 'with the tools of this machine'})")
        result = shell.run(building, capture=True, check=False)
        if result.code:
            quote("assets", result.stdout + result.stderr)
            why = shell.last_line(result.stderr) or shell.last_line(result.stdout)
            raise Failure(f"the front end was not built: {why}; {logged('assets', result, run)}")
        if not (clean / this.output).is_dir():
            raise Failure(f"project.assets.output is {this.output}, but `{shlex.quote(this.run)}` made no such folder")
        (clean / this.output).rename(done)
    for old in sorted(cache.glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime, reverse=True)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return done


def _engine_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    try:
        asked = Run(["docker", "version", "--format", "{{.Server.Version}}"], seconds=ENGINE_SECONDS)
        return shell.run(asked, capture=True, check=False).code == 0
    except Failure:
        return False


def watching(this: Assets | None) -> Mapping[str, str]:
    """The watcher of development, by its name; empty if there is none."""
    return {"assets": this.watch} if this and this.watch else {}
