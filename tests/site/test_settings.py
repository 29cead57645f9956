"""Settings that production rejects, tested with a real start."""

import subprocess
from pathlib import Path

import pytest

from deploy.core.shell import Result, Run, run
from tests import support
from tests.demonstration import GOOD


def check(*words: str, **values: str) -> Result:
    env = {**dict.fromkeys(GOOD, ""), **values}
    python = str(support.ROOT / ".venvs" / "test" / "bin" / "python")
    return run(Run([python, str(support.ROOT / "site" / "manage.py"), "check", *words], env), capture=True, check=False)


def test_production_starts_with_all_it_needs_and_has_no_warning() -> None:
    result = check("--deploy", "--fail-level", "WARNING", **GOOD)
    assert result.code == 0, result.stderr


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SECRET_KEY", "", "SECRET_KEY is missing, too short or a default"),
        ("SECRET_KEY", "short", "SECRET_KEY is missing, too short or a default"),
        ("SECRET_KEY", "insecure-development-key" * 3, "SECRET_KEY is missing, too short or a default"),
        ("ALLOWED_HOSTS", "", "ALLOWED_HOSTS is empty"),
        ("DATABASE_URL", "", "DATABASE_URL is missing"),
        ("DATABASE_URL", "sqlite:////nowhere/db", "DATABASE_URL names SQLite"),
        ("CELERY_BROKER_URL", "", "CELERY_BROKER_URL is missing"),
    ],
)
def test_production_refuses_to_start_without(name: str, value: str, words: str) -> None:
    result = check(**{**GOOD, name: value})
    assert result.code != 0
    assert words in result.stderr


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(GOOD["SECRET_KEY"])
    values = {name: value for name, value in GOOD.items() if name != "SECRET_KEY"}
    python = str(support.ROOT / ".venvs" / "test" / "bin" / "python")
    command = ["env", "-u", "SECRET_KEY", python, str(support.ROOT / "site" / "manage.py"), "check"]
    result = run(Run(command, {**values, "SECRET_KEY_FILE": str(tmp_path / "key")}), capture=True, check=False)
    assert result.code == 0, result.stderr


def test_the_demonstration_runs_by_itself_without_the_kit(tmp_path: Path) -> None:
    python = str(support.ROOT / ".venvs" / "test" / "bin" / "python")
    env = support.environment(DATABASE_URL=f"sqlite:///{tmp_path}/db.sqlite3", PROTECTED_ROOT=str(tmp_path))
    site = support.ROOT / "site"
    asked = "from django.test import Client; r = Client().get('/', headers={'host': 'localhost'}); print(r.status_code)"
    asked += "; from polls.tasks import tend_exports; print(tend_exports.delay().state)"
    lines = []
    for words in (["migrate", "-v0"], ["shell", "-v0", "-c", asked]):
        done = subprocess.run(
            [python, "manage.py", *words], cwd=site, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        lines += done.stdout.split()
    assert lines == ["200", "SUCCESS"], "without a broker, a task runs within the request"
