"""Migrations of a site that serves meanwhile: they wait briefly for locks, again and again, and say who holds them."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2  # type: ignore[import-untyped]
import pytest

from tests import support
from tests.demonstration import GOOD, KIT
from tests.rig import postgres

#: An application of one model, whose second migration needs a lock on its table.
SETTINGS = """
from mysite.settings.production import *
INSTALLED_APPS = ["notes"]
"""
FIRST = """
from django.db import migrations, models

class Migration(migrations.Migration):
    fields = [("id", models.BigAutoField(primary_key=True)), ("a", models.IntegerField(default=0))]
    operations = [migrations.CreateModel("Note", fields)]
"""
SECOND = """
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("notes", "0001_first")]
    operations = [migrations.AddField("note", "b", models.IntegerField(default=0))]
"""
#: Not atomic: each statement stands for itself.
INDEX = """
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models

class Migration(migrations.Migration):
    atomic = False
    dependencies = [("notes", "0001_first")]
    operations = [
        migrations.RunSQL("CREATE TABLE once (id int)"),
        migrations.RunSQL("ALTER TABLE notes_note ADD COLUMN c int"),
        AddIndexConcurrently("note", models.Index(fields=["a"], name="note_a")),
    ]
"""
RUN = "from portico_site import patience, release; patience.RETRY_SECONDS = {seconds}; release.migrate()"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if postgres.programs() is None:
        pytest.skip("there is no PostgreSQL server here: `sudo apt install postgresql`")
    with postgres.server("fsync=off") as url:
        yield url


@pytest.fixture
def site(server: str, tmp_path: Path) -> tuple[str, Path]:
    """A site with its first migration applied, its database's address, and the folder of the application."""
    (tmp_path / "notes_settings.py").write_text(SETTINGS)
    folder = tmp_path / "notes" / "migrations"
    folder.mkdir(parents=True)
    for path in (folder.parent, folder):
        (path / "__init__.py").touch()
    (folder / "0001_first.py").write_text(FIRST)
    name = f"d{time.monotonic_ns()}"
    with closing(psycopg2.connect(server)) as connection:
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {name}")
    url = f"{server.removesuffix('/postgres')}/{name}"
    assert finish(begin(url, tmp_path))[0] == 0
    return url, tmp_path


def begin(url: str, folder: Path, seconds: int = 60) -> "subprocess.Popen[str]":
    env = {
        **GOOD,
        "DATABASE_URL": url,
        "PORTICO_SETTINGS": "notes_settings",
        "PYTHONPATH": f"{KIT}:{folder}",
        "PATH": os.environ["PATH"],
    }
    command = [sys.executable, "-c", RUN.format(seconds=seconds)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env=env, cwd=support.ROOT / "site", stdout=pipe, stderr=subprocess.STDOUT, text=True
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str]:
    said, _ = process.communicate(timeout=120)
    return process.returncode, said


@contextmanager
def transaction(url: str) -> Iterator[None]:
    """A transaction that has read the table, and stays open, as a dump's does."""
    with closing(psycopg2.connect(url)) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT count(*) FROM notes_note")
        yield


@contextmanager
def visitors(url: str) -> Iterator[list[float]]:
    """Somebody who reads the table all the time: the seconds that each read took."""
    took: list[float] = []
    over = threading.Event()

    def read() -> None:
        with closing(psycopg2.connect(url)) as connection:
            connection.autocommit = True
            while not over.is_set():
                since = time.monotonic()
                connection.cursor().execute("SELECT count(*) FROM notes_note")
                took.append(time.monotonic() - since)
                time.sleep(0.02)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join(30)


def wait_for(process: "subprocess.Popen[str]", word: str) -> None:
    assert process.stdout
    for line in process.stdout:
        if word in line:
            return
    pytest.fail(f"it has never said {word!r}")


def test_a_migration_waits_for_an_open_transaction_and_the_site_is_served_meanwhile(site: tuple[str, Path]) -> None:
    url, folder = site
    (folder / "notes/migrations/0002_second.py").write_text(SECOND)
    with visitors(url) as took:
        with transaction(url):
            process = begin(url, folder)
            wait_for(process, "waiting for a lock, held by pid")
            wait_for(process, "waiting for a lock")
        code, said = finish(process)
    assert code == 0, said
    assert "Applying notes.0002_second... OK" in said
    assert len(took) > 20
    print(f"the longest of {len(took)} reads took {max(took):.2f} s")
    assert max(took) < 2


def test_a_lock_that_is_held_for_long_fails_the_release_and_names_its_holder(site: tuple[str, Path]) -> None:
    url, folder = site
    (folder / "notes/migrations/0002_second.py").write_text(SECOND)
    with transaction(url):
        code, said = finish(begin(url, folder, seconds=3))
    assert code != 0
    last = said.splitlines()[-1]
    assert last.startswith("LockError: no lock on a table within 3 s, held by pid ")
    assert "user portico, for " in last
    assert "query: SELECT count(*) FROM notes_note: end that, and repeat" in last
    assert "Traceback" not in said
    assert finish(begin(url, folder))[0] == 0, "nothing is half done"


def test_a_migration_that_is_not_atomic_repeats_the_one_statement_that_waits(site: tuple[str, Path]) -> None:
    url, folder = site
    (folder / "notes/migrations/0002_index.py").write_text(INDEX)
    with transaction(url):
        process = begin(url, folder)
        wait_for(process, "waiting for a lock")
        # The second one waits for the first, whose index waits for every snapshot, also one of who waits.
        second = begin(url, folder)
        wait_for(second, "another process migrates this database")
    assert finish(process)[0] == 0
    assert finish(second)[0] == 0
    with closing(psycopg2.connect(url)) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'note_a'::regclass")
        assert cursor.fetchone() == (True,)
