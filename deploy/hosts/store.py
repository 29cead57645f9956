"""Runs on a host, from the shipped code of a release: builds the release's layers in the host's store.

    python3 -m deploy.hosts.store STORE RELEASE

It builds the layers of the release's locks that the store lacks, and links the release to them. Then it removes the
links of releases that no longer exist, and layers that are not used. Standard library only: a host has nothing else.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path

from deploy.core.errors import Failure
from deploy.core.shell import Link, Remove, Run, Write, perform
from deploy.venvs import build as venvs
from deploy.venvs import installers, layers
from deploy.venvs import store as layer_store
from deploy.venvs.store import Store

ENVIRONMENT = "prod"
#: The lock file that has the store's installer, and the installer's name in it.
INSTALLER_LOCK, INSTALLER = "tools", "uv"


def build_layers(folder: Path, release: str) -> None:
    """Build the release's layers, and link the release to them. Raises `Failure` if a layer cannot be built."""
    store = Store(folder.resolve(), Path("requirements").resolve(), compiled=True)
    os.environ["PATH"] = f"{installer(store)}:{os.environ['PATH']}"
    venvs.ensure(store, ENVIRONMENT, notify=lambda line: print(line, file=sys.stderr, flush=True))
    layer = layers.resolve(store.requirements, ENVIRONMENT, layer_store.chosen_python(store, ENVIRONMENT).tag)
    perform([Link(store.link(release), f".layers/{layer.folder}")])
    for name in layer_store.built(store):
        if name not in (ENVIRONMENT, release) and not (folder.parent / "releases" / name).is_dir():
            perform([Remove(store.link(name))])
    venvs.prune(store, notify=lambda _: None)


def installer(store: Store) -> Path:
    """The folder of the locked uv; pip installs it if the lock has changed."""
    pins = [pin for pin in layers.read_lock(store.requirements, INSTALLER_LOCK) if pin.name == INSTALLER]
    lock = "".join(f"{pin.line}\n" for pin in pins)
    final = store.folder / f".{INSTALLER}-{hashlib.sha256(lock.encode()).hexdigest()[:16]}"
    if not (final / "bin" / INSTALLER).is_file():
        shutil.rmtree(final, ignore_errors=True)
        coming = final.with_name(f"{final.name}.coming")
        shutil.rmtree(coming, ignore_errors=True)
        unset = installers.unset(os.environ)
        quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
        perform(
            [
                Run([sys.executable, "-m", "venv", str(coming)], unset=unset),
                Write(coming / "lock.txt", lock),
                Run(
                    [
                        *[str(coming / "bin" / "python"), "-m", "pip", "install", *quiet],
                        *["--no-deps", "--require-hashes", "-r", str(coming / "lock.txt")],
                    ],
                    installers.configured(store.requirements.parent, os.environ).pip,
                    unset=unset,
                ),
            ]
        )
        if not (coming / "bin" / INSTALLER).is_file():
            raise Failure(f"{INSTALLER} was not installed into {coming}; remove that folder and repeat the command")
        coming.rename(final)  # uv is a binary, not a script with a fixed path: it can be moved
        for other in store.folder.glob(f".{INSTALLER}-*"):
            if other != final:
                shutil.rmtree(other)
    return final / "bin"


if __name__ == "__main__":
    try:
        build_layers(Path(sys.argv[1]), sys.argv[2])
    except Failure as failure:
        sys.exit(failure.message)
