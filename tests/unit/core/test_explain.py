"""Why a management command failed, in a line."""

from __future__ import annotations

import pytest

from deploy.core import running


def test_a_broken_migration_is_told_from_its_output() -> None:
    said = "  Applying polls.0001_initial... OK\n  Applying polls.0007_break..."
    error = "Traceback (most recent call last):\n  File x\ndjango.db.utils.OperationalError: no such table: gone\n"
    assert running.explain(said, error) == "polls.0007_break: django.db.utils.OperationalError: no such table: gone"


def test_a_site_whose_checks_fail_is_told_by_the_error_among_them() -> None:
    error = "django.core.management.base.SystemCheckError: System check identified some issues:\n\nERRORS:\n"
    assert (
        running.explain("", f"{error}shop.Order: (models.E1) no\n\nWARNINGS:\nx: (W1) y\n")
        == "shop.Order: (models.E1) no"
    )


@pytest.mark.parametrize(
    "error",
    [
        "KeyError: 'SHOP_HOST'",
        "django.core.exceptions.ImproperlyConfigured: Set the SHOP_HOST environment variable",
        "decouple.UndefinedValueError: SHOP_HOST not found. Declare it as envvar or define a default value.",
        'environs.exceptions.EnvError: Environment variable "SHOP_HOST" not set',
    ],
)
def test_a_variable_that_is_missing_where_check_could_not_know_is_told_with_what_gives_it(error: str) -> None:
    remedy = (
        "; if SHOP_HOST is a variable: invoke.yaml, under project.env: `SHOP_HOST: plain`, and .env: `SHOP_HOST=VALUE`"
    )
    assert running.explain("", f"Traceback:\n{error}\n") == error + remedy


def test_code_that_is_written_to_is_told_to_be_read_only() -> None:
    assert "; code is read-only in production: write below MEDIA_ROOT" in running.remedy(
        "OSError: [Errno 30] Read-only file system: '/app/x'"
    )
    assert running.remedy("KeyError: 'title'") == ""
