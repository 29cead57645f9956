"""A private PostgreSQL server: a new cluster in a folder, on a free port of 127.0.0.1, stopped afterwards."""

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.rig.ports import free_port
from tests.support import wait_until

#: The account that runs the server if we are root, because it refuses to run as root.
ACCOUNT = "postgres"


def programs() -> Path | None:
    """The folder of the newest installed server's programs; None if there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def as_account() -> list[str]:
    """A command prefix that runs a command as the server's account if we are root."""
    if os.geteuid():
        return []
    user = pwd.getpwnam(ACCOUNT)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]


@contextmanager
def server(*options: str) -> Iterator[str]:
    """Run a server with an empty database; yields its URL, with a password made for it.

    ``options`` are settings, such as `shared_buffers=256MB`. Its folder is not pytest's, whose modes change.
    """
    binaries = programs()
    assert binaries, "there is no PostgreSQL server here"
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    password, port = secrets.token_hex(16), free_port()
    (folder / "password").write_text(password)
    if not os.geteuid():
        user = pwd.getpwnam(ACCOUNT)
        for path in (folder, folder / "password"):
            os.chown(path, user.pw_uid, user.pw_gid)
    data = folder / "data"
    new = [str(binaries / "initdb"), "-D", str(data), "-U", "portico", "-A", "scram-sha-256", "-E", "UTF8"]
    subprocess.run(
        [*as_account(), *new, "--locale=C.UTF-8", "--pwfile", str(folder / "password")],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    settings = [f"port={port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", *options]
    command = [str(binaries / "postgres"), "-D", str(data), *(word for each in settings for word in ("-c", each))]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*as_account(), *command], cwd=folder, stdout=log, stderr=log)
    try:
        ready = [str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, 30, "PostgreSQL answers")
        yield f"postgres://portico:{password}@127.0.0.1:{port}/postgres"
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder)
