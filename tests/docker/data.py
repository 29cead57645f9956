"""Backups and restores of production: tests for the stack of `test_prod`, and the last of them leave it as it was."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.core.shell import Result
from tests.docker.conftest import Stack
from tests.rig import database, held
from tests.rig.engine import docker
from tests.rig.visitor import Visitor
from tests.support import environment, one_line, wait_until

PASSWORD = "a password of forty characters, at least"
#: How a damaged backup is refused.
WHOLE = "cannot be used, and nothing was touched"
TABLE = "polls/migrations/0003_note.py"
#: A migration that creates a table.
MIGRATION = """from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("polls", "0002_schedule")]
    operations = [migrations.CreateModel("Note", [("id", models.AutoField(primary_key=True))])]
"""


@pytest.fixture(scope="module")
def repository(prod: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the repository, with one backup."""
    folder = tmp_path_factory.mktemp("repository") / "shop"
    prod.set_env(BACKUP_REPOSITORY=str(folder), BACKUP_PASSWORD=f"'{PASSWORD}'")
    export(prod, "before")
    prod.must("backup")
    return folder


def export(stack: Stack, name: str) -> None:
    """Write a file where exports are."""
    docker("exec", stack.containers("app")[0], "sh", "-c", f"echo {name} >/srv/protected/{name}.csv")


def files(stack: Stack) -> str:
    """What `export` has written, with owners and modes. A worker may still write what visitors asked for before."""
    stat = "cd /srv/protected && stat -c '%n %U %a' before.csv after.csv 2>/dev/null || true"
    return docker("exec", stack.containers("app")[0], "sh", "-c", stat)


def rows(stack: Stack) -> str:
    """What a restore has to bring back."""
    [postgres] = stack.containers("postgres")
    tables = ("polls_vote", "polls_choice", "auth_user", "django_migrations")
    return database.psql(postgres, f"SELECT {', '.join(f'(SELECT count(*) FROM {each})' for each in tables)}")


def known(stack: Stack) -> list[str]:
    """The backups in the repository, the newest first."""
    return [line.split()[0] for line in stack.must("backups").stdout.splitlines()[1:]]


def one_last(result: Result) -> str:
    """The last line of what a task reports."""
    return result.stderr.splitlines()[-1]


def sql(stack: Stack, text: str) -> None:
    """Statements of the superuser, outside of the site's database."""
    docker("exec", "--user", "postgres", stack.containers("postgres")[0], "psql", "-U", "postgres", "-qc", text)


def test_a_backup_is_listed_and_leaves_no_dump(prod: Stack, repository: Path) -> None:
    assert len(known(prod)) == 1
    said = "".join(docker("inspect", name) for name in prod.containers())
    assert PASSWORD not in said + prod.must("backup", "--dry-run").stdout
    left = docker("run", "--rm", "-v", f"{prod.name}_data_backup:/backup", f"{prod.name}:latest", "ls", "/backup/set")
    assert left.split() == ["protected"], "the dump is not kept on the disk"


def test_failed_backups_leave_the_good_one(prod: Stack, repository: Path) -> None:
    before = known(prod)
    prod.set_env(BACKUP_PASSWORD="another-password-than-that")
    assert "is not the password of" in one_line(prod.invoke("backup"))
    prod.set_env(BACKUP_PASSWORD=f"'{PASSWORD}'")
    [postgres] = prod.containers("postgres")
    with held.dump(postgres), killed(prod):
        pass
    away = repository.with_name("away")
    repository.rename(away)
    assert "had backups, and has no repository now: mount its disk" in one_line(prod.invoke("backup"))
    repository.rmdir()  # the engine has made it
    away.rename(repository)
    if os.getuid() == 0:
        with small(repository):
            assert "no space left on device" in one_line(prod.invoke("backup"))
    assert known(prod) == before


@contextmanager
def killed(stack: Stack) -> Iterator[None]:
    """A backup whose client is killed."""
    command = [str(stack.project / "tasks.py"), "backup"]
    client = subprocess.Popen(["python3", *command], cwd=stack.project, env=environment(), stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: bool(running(stack, "data_backup")), 60, "the backup runs")
        yield
    finally:
        client.send_signal(signal.SIGKILL)
        client.wait()


def running(stack: Stack, service: str) -> str:
    filters = [f"--filter=label=com.docker.compose.{key}" for key in (f"project={stack.name}", f"service={service}")]
    return docker("ps", "-q", *filters)


@contextmanager
def small(repository: Path) -> Iterator[None]:
    """The same repository on a disk that is almost full."""
    kept = repository.with_name("kept")
    repository.rename(kept)
    repository.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", repository], check=True)
    try:
        shutil.copytree(kept, repository, dirs_exist_ok=True)
        with (repository / "full").open("wb") as file, pytest.raises(OSError, match="No space"):
            file.write(bytes(2**22))
        yield
    finally:
        subprocess.run(["umount", repository], check=True)
        repository.rmdir()
        kept.rename(repository)


def biggest(repository: Path) -> Path:
    """The pack of a repository that has the dump."""
    return max(repository.glob("data/*/*"), key=lambda path: path.stat().st_size)


def test_damaged_backups_are_refused_before_anything_is_touched(prod: Stack, repository: Path, tmp_path: Path) -> None:
    def cut(copy: Path) -> None:
        pack = biggest(copy)
        pack.write_bytes(pack.read_bytes()[: pack.stat().st_size // 2])

    def flipped(copy: Path) -> None:
        pack = biggest(copy)
        data = bytearray(pack.read_bytes())
        data[len(data) // 3] ^= 255
        pack.write_bytes(data)

    def gone(copy: Path) -> None:
        shutil.rmtree(copy / "index")
        (copy / "index").mkdir()

    def unlisted(copy: Path) -> None:
        shutil.rmtree(copy / "snapshots")
        (copy / "snapshots").mkdir()

    started = [prod.inspect(each)["State"] for each in prod.containers()]
    for number, (damage, said) in enumerate(
        {cut: WHOLE, flipped: WHOLE, gone: WHOLE, unlisted: "no such backup"}.items()
    ):
        copy = tmp_path / str(number)
        shutil.copytree(repository, copy)
        damage(copy)
        prod.set_env(BACKUP_REPOSITORY=str(copy))
        refused = prod.invoke("restore", "--to", "latest", "--yes")
        proof = prod.invoke("backup", "--verify") if damage is flipped else refused
        prod.set_env(BACKUP_REPOSITORY=str(repository))
        assert said in one_line(refused), damage
        assert said in one_line(proof), damage
    health = ("Status", "StartedAt")
    now = [prod.inspect(each)["State"] for each in prod.containers()]
    assert [[state[key] for key in health] for state in now] == [[state[key] for key in health] for state in started]  # type: ignore[index]


def test_a_destroyed_database_comes_back_with_its_rows_and_files(prod: Stack, repository: Path) -> None:
    there, exported = rows(prod), files(prod)
    sql(prod, "DROP DATABASE site WITH (FORCE)")
    export(prod, "after")
    assert Visitor(prod.url).get("/readyz").status_code == 503
    assert "add --yes" in one_line(prod.invoke("restore", "--to", "latest"))
    assert "serves with backup" in one_last(prod.must("restore", "--to", "latest", "--yes"))
    assert (rows(prod), files(prod)) == (there, exported)
    visitor = Visitor(prod.url)
    assert visitor.get("/readyz").status_code == 200
    visitor.vote()  # with the role that only changes rows
    assert rows(prod) != there
    assert len(prod.containers("celery_beat")) == 1


def test_a_restore_over_a_migration_brings_the_code_back_and_the_next_deploy_works(
    prod: Stack, repository: Path
) -> None:
    [first] = known(prod)
    (prod.project / "site" / TABLE).write_text(MIGRATION)
    prod.must("prod", "--detach")
    Visitor(prod.url).vote()
    later = rows(prod)
    done = prod.must("restore", "--to", first, "--yes")
    assert f"kept as site_before_{first}" in done.stderr
    assert int(rows(prod).split("|")[0]) < int(later.split("|")[0]), "votes since the backup are gone"
    assert Visitor(prod.url).get("/readyz").status_code == 200
    prod.must("prod", "--detach")
    [postgres] = prod.containers("postgres")
    assert database.psql(postgres, "SELECT count(*) FROM polls_note") == "0", "the migration is applied again"
    assert rows(prod).split("|")[-1] == later.split("|")[-1]
    prod.must("restore", "--drop-old", "--yes")
    assert "site_before" not in docker("exec", postgres, "psql", "-U", "site", "-d", "site", "-Atlq")
    (prod.project / "site" / TABLE).unlink()


def test_a_backup_is_proven_without_touching_the_site(prod: Stack, repository: Path) -> None:
    before = prod.containers()
    assert "proven: backup" in prod.must("backup", "--verify").stderr
    said = prod.must("status").stderr
    assert "last backup: 20" in said
    assert "last proven restore: 20" in said
    assert prod.containers() == before
