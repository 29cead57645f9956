"""The time limits in files that cannot import `limits`: units, scripts, compose files, the site's configuration."""

import re
from pathlib import Path

import pytest
import yaml

from deploy.project import limits
from tests.support import ROOT
from tests.unit.stacks import stack

COMPOSE = ROOT / "deploy" / "compose"
SCRIPTS = ROOT / "deploy" / "hosts" / "scripts"


class Loader(yaml.SafeLoader):
    """Reads compose files, Compose's own tags included."""


Loader.add_multi_constructor("!", lambda loader, _tag, node: None)


def services(name: str) -> dict[str, dict[str, object]]:
    document = yaml.load((COMPOSE / f"{name}.yaml").read_text(), Loader)
    found = document["services"]
    assert isinstance(found, dict)
    return found


def number(path: Path, pattern: str) -> int:
    found = re.search(pattern, path.read_text(), re.MULTILINE)
    assert found, f"{path.name} has no {pattern}"
    return int(found[1])


def seconds(value: object) -> int:
    found = re.fullmatch(r"(\d+)s", str(value))
    assert found, value
    return int(found[1])


def test_the_engine_waits_longer_for_containers_than_they_for_what_is_under_way() -> None:
    base = services("base")
    worker = base["celery_worker"]
    environment = worker["environment"]
    assert isinstance(environment, dict)
    assert int(environment["WORKER_STOP_SECONDS"]) == limits.TASK
    assert seconds(base["app"]["stop_grace_period"]) == limits.STOP_APP
    assert seconds(worker["stop_grace_period"]) == limits.STOP_WORKER
    assert seconds(services("prod")["nginx"]["stop_grace_period"]) > limits.REQUEST


def test_two_of_a_service_that_stops_first_never_run_at_once_on_a_swarm() -> None:
    """The engine has killed the old one before Swarm starts the new one."""
    base, swarm = services("base"), services("swarm")
    for name, service in swarm.items():
        deploy = service.get("deploy") or {}
        assert isinstance(deploy, dict)
        update = deploy.get("update_config") or {}
        if name == "nginx" or update.get("order") != "stop-first":
            continue  # nginx has no data, and one on each node
        given = service.get("stop_grace_period") or base[name].get("stop_grace_period", "10s")
        assert seconds(given) <= limits.STOP_SERVER, name
    for name in ("postgres", "rabbitmq", "redis"):
        assert seconds(base[name]["stop_grace_period"]) == limits.STOP_SERVER


def test_the_site_gives_requests_the_time_that_everybody_reckons_with() -> None:
    assert (
        number(ROOT / "deploy" / "kit" / "portico_site" / "gunicorn_conf.py", r"GRACEFUL_SECONDS\D+(\d+)")
        == limits.REQUEST
    )


def test_a_migration_may_take_the_same_time_everywhere() -> None:
    unit = (ROOT / "deploy" / "hosts" / "units" / "release@.service").read_text()
    hours = re.search(r"^TimeoutStartSec=(\d+)h$", unit, re.MULTILINE)
    assert hours
    assert int(hours[1]) * 3600 == limits.MIGRATE


def test_the_unit_of_a_backup_has_the_limit_of_who_waits_for_it() -> None:
    unit = (ROOT / "deploy" / "hosts" / "units" / "backup@.service").read_text()
    hours = re.search(r"^TimeoutStartSec=(\d+)h$", unit, re.MULTILINE)
    assert hours
    assert int(hours[1]) * 3600 == limits.BACKUP


@pytest.mark.parametrize(
    ("script", "pattern", "value"),
    [
        ("site.sh", r"^patience=(\d+)$", limits.READY),
        ("activate.sh", r"^silence=(\d+)$", limits.SILENCE),
        ("lock.sh", r"timeout (\d+) head", limits.HOST_STALE),
    ],
)
def test_a_script_on_a_host_waits_as_long_as_its_client_thinks(script: str, pattern: str, value: int) -> None:
    assert number(SCRIPTS / script, pattern) == value


def test_one_number_rules_how_long_a_task_may_run_and_how_long_the_broker_waits_for_it() -> None:
    kit = ROOT / "deploy" / "kit" / "portico_site" / "celery.py"
    assert number(kit, r"^TASK_SECONDS = (\d+) \* 60 \* 60$") * 3600 == limits.TASK_LONGEST
    milliseconds = limits.CONSUMER * 1000
    assert f"consumer_timeout = {milliseconds}\n" in stack().env.secret_files()["rabbitmq.conf"]
    hosts = (ROOT / "deploy" / "hosts" / "files" / "rabbitmq.conf").read_text()
    assert f"consumer_timeout = {milliseconds}\n" in hosts
