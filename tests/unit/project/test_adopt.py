"""What `adopt` would write, and what is in its way."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.project import adopt
from tests.support import ROOT
from tests.unit.shapes import ONE_FILE, write


@pytest.mark.parametrize(
    ("name", "moved"),
    [
        ("requirements/base.txt", True),
        ("requirements/dev.in", True),
        ("requirements/production.txt", False),
        ("requirements/wheels/x-1-py3-none-any.whl", False),
    ],
)
def test_a_file_of_requirements_that_lock_would_write_over_is_in_the_way(
    tmp_path: Path, name: str, moved: bool
) -> None:
    files = {path: text for path, text in ONE_FILE.items() if path.startswith("web/")}
    write(tmp_path, files, {name: "django\n", ".git/HEAD": ""})
    plan = adopt.plan(ROOT, tmp_path, "")
    assert plan.moves == ({"requirements": "requirements.before-portico"} if moved else {})


def test_an_example_of_the_projects_own_stays_and_ours_is_beside_its_additions(tmp_path: Path) -> None:
    files = {path: text for path, text in ONE_FILE.items() if path.startswith("web/")}
    write(tmp_path, files, {".git/HEAD": ""})
    assert ".env.example" in adopt.plan(ROOT, tmp_path, "").copies
    (tmp_path / ".env.example").write_text("DEBUG=True\n")
    plan = adopt.plan(ROOT, tmp_path, "")
    assert plan.moves == {}
    assert ".env.example" not in plan.copies
    assert plan.copies["deploy/local/env.example"] == ROOT / ".env.example"
