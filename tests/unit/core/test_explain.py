"""Why a management command failed, in a line."""

from __future__ import annotations

from deploy.core import running


def test_a_broken_migration_is_told_from_its_output() -> None:
    said = "  Applying polls.0001_initial... OK\n  Applying polls.0007_break..."
    error = "Traceback (most recent call last):\n  File x\ndjango.db.utils.OperationalError: no such table: gone\n"
    assert running.explain(said, error) == "polls.0007_break: django.db.utils.OperationalError: no such table: gone"
