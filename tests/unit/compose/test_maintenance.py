"""A maintenance of a compose stack: its files, and what an update starts meanwhile."""

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.compose import maintenance, update
from deploy.core import shell
from deploy.core.errors import Failure
from deploy.docker.stack import Stack
from deploy.project.maintenance import Record
from tests.unit.stacks import stack

ON = Record("2026-11-28T15:00:59+00:00", "ann@laptop", allow=["203.0.113.4"], hold=["workers"])


def there(folder: Path, kind: str = "prod") -> Stack:
    known = stack(kind)
    return replace(known, project=replace(known.project, root=folder))


def test_nginx_finds_the_page_and_who_is_allowed_before_it_is_on(tmp_path: Path) -> None:
    this = there(tmp_path)
    paths = [str(step.path.relative_to(maintenance.folder(this))) for step in maintenance.start_steps(this, ON)]  # type: ignore[attr-defined]
    assert paths == [".", "allow", "allow/203.0.113.4", "page.html", "on"]
    shell.perform(maintenance.start_steps(this, ON))
    assert maintenance.current(this) == ON
    assert maintenance.remarks(this)[0].endswith("workers are held: `invoke maintenance --on prod --stop` ends it")
    shell.perform(maintenance.start_steps(this, replace(ON, allow=["::1"])))
    assert [path.name for path in (maintenance.folder(this) / "allow").iterdir()] == ["::1"]
    assert {path.stat().st_mode & 0o777 for path in maintenance.folder(this).glob("*") if path.is_file()} == {0o444}
    shell.perform(maintenance.stop_steps(this))
    assert maintenance.current(this) is None
    assert (maintenance.folder(this) / "page.html").exists(), "for a request that is answered at this moment"


def test_an_update_starts_nothing_that_is_held(tmp_path: Path) -> None:
    this = there(tmp_path)
    assert update.wanted(this, []) == {"app": 2, "celery_worker": 1}
    shell.perform(maintenance.start_steps(this, ON))
    assert update.wanted(this, []) == {"app": 2}
    assert maintenance.free(this, this.site_services) == ["app", "celery_beat"]
    assert maintenance.free(this, this.alone) == ["celery_beat"]
    shell.perform(maintenance.start_steps(this, replace(ON, hold=["workers", "beat"])))
    assert maintenance.free(this, this.site_services) == ["app"]
    assert maintenance.current(there(tmp_path, "dev")) is None, "another stack"


def test_what_an_earlier_command_has_stopped_is_not_forgotten() -> None:
    before = replace(ON, replicas={"celery_worker": 3})
    assert maintenance.replicas(before, ["celery_worker", "celery_beat"], {"celery_beat": 1}) == {
        "celery_worker": 3,
        "celery_beat": 1,
    }
    assert maintenance.replicas(None, ["celery_worker"], {"celery_worker": 2, "app": 2}) == {"celery_worker": 2}


def test_an_nginx_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    this = there(tmp_path)
    with pytest.raises(Failure, match="configuration of an earlier version: `invoke prod` first"):
        maintenance.require_known(this)
