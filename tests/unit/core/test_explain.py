"""Why a management command failed, in a line."""

from __future__ import annotations

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
