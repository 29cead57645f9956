"""A maintenance on a swarm: the job on each node, and what is held in the releases that come meanwhile."""

import base64

import pytest

from deploy.core.errors import Failure
from deploy.project.maintenance import Record, Wanted
from deploy.swarm import maintenance
from deploy.swarm.ledger import Release
from deploy.swarm.manager import Manager
from deploy.swarm.render import StackFile
from deploy.swarm.state import Node, Service, Snapshot
from tests.unit.stacks import stack

ON = Record(
    "2026-11-28T15:00:59+00:00", "ann@laptop", allow=["203.0.113.4"], hold=["workers"], replicas={"celery_worker": 3}
)
LABELS = {maintenance.LABEL: base64.b64encode(ON.text.encode()).decode()}
FILE = StackFile(
    {
        "static": {
            "image": "shop",
            "command": ["python", "-m", "portico_site.release", "publish"],
            "cap_drop": ["ALL"],
            "networks": ["front"],
            "volumes": [{"type": "volume", "source": "static", "target": "/srv/static"}],
            "deploy": {"mode": "global-job", "labels": {"portico.release": "3"}},
        },
        "nginx": {
            "image": "nginx@sha256:1",
            "volumes": [{"type": "volume", "source": "maintenance", "target": "/srv/maintenance", "read_only": True}],
        },
        "celery_worker": {"image": "shop", "deploy": {"replicas": 2}},
        "celery_worker_mail": {"image": "shop", "deploy": {"replicas": 1}},
        "celery_beat": {"image": "shop", "deploy": {"replicas": 1}},
        "app": {"image": "shop", "deploy": {"replicas": 2}},
    },
    {"volumes": {"maintenance": {}, "static": {}}, "networks": {"front": {}, "data": {}}},
)


def service(name: str, wanted: int = 1, mode: str = "replicated", **labels: str) -> Service:
    return Service(name, name, mode, wanted, "", "", labels, {})


def snapshot(*more: Service) -> Snapshot:
    return Snapshot([], [service("app", 2), service("celery_beat"), service("celery_worker", 3), *more])


JOB = service("maintenance", 3, "global-job", **LABELS)


def test_the_job_runs_where_static_files_are_published_and_writes_one_volume_only() -> None:
    file = maintenance.job(FILE, ON)
    [(name, job)] = file.services.items()
    assert name == "maintenance"
    assert (job["image"], job["user"], job["cap_drop"]) == ("nginx@sha256:1", "0", ["ALL"])
    assert job["volumes"] == [{"type": "volume", "source": "maintenance", "target": "/srv/maintenance"}]
    assert job["deploy"]["mode"] == "global-job"
    assert job["deploy"]["labels"][maintenance.LABEL] == job["environment"]["RECORD"] == LABELS[maintenance.LABEL]
    assert job["environment"]["ALLOW"] == "127.0.0.1 203.0.113.4"
    assert "command" not in job
    assert file.sections == {"volumes": {"maintenance": {}}, "networks": {"front": {}}}
    assert maintenance.current(snapshot(service("maintenance", 3, "global-job", **job["deploy"]["labels"]))) == ON


def test_its_end_is_the_same_job_with_nothing_to_write() -> None:
    job = maintenance.job(FILE, None).services["maintenance"]
    assert (job["environment"]["RECORD"], job["deploy"]["labels"][maintenance.LABEL]) == ("off", "")
    assert all(job["environment"].values()), "the client's shell would set what is empty"
    assert maintenance.current(snapshot(service("maintenance", 3, "global-job", **job["deploy"]["labels"]))) is None
    assert maintenance.current(snapshot(service("maintenance", 3, "global-job", **{maintenance.LABEL: "?"}))) is None


def test_a_release_that_comes_meanwhile_runs_nothing_that_is_held() -> None:
    held = maintenance.holding(FILE, snapshot(JOB))
    assert {
        name: each["deploy"]["replicas"] for name, each in held.services.items() if "replicas" in each.get("deploy", {})
    } == {
        "celery_worker": 0,
        "celery_worker_mail": 0,
        "celery_beat": 1,
        "app": 2,
    }
    assert maintenance.holding(FILE, snapshot()) == FILE


def test_what_is_held_gets_its_replicas_back() -> None:
    # Begun; begun again after a client was killed; beat instead of workers; ended.
    none, stopped = snapshot(), Snapshot([], [service("celery_worker", 0), service("celery_beat"), JOB])
    assert maintenance.changes(None, Wanted(hold=("workers",)), none) == ({"celery_worker": 3}, {})
    assert maintenance.changes(ON, Wanted(hold=("workers",)), stopped) == ({"celery_worker": 3}, {})
    assert maintenance.changes(ON, Wanted(hold=("beat",)), stopped) == ({"celery_beat": 1}, {"celery_worker": 3})
    assert maintenance.changes(ON, None, stopped) == ({}, {"celery_worker": 3})


def test_a_node_that_is_down_is_named() -> None:
    nodes = [Node("1", "node1", "ready", "active", "leader"), Node("2", "node2", "down", "active", "")]
    assert maintenance.down(Snapshot(nodes)) == ["node2"]


def test_an_nginx_of_an_earlier_version_is_refused() -> None:
    with pytest.raises(Failure, match="no release has been deployed"):
        maintenance.release_file(stack("swarm"), [])
    release = Release(1, 1, "", "", "", StackFile({**FILE.services, "nginx": {"image": "nginx"}}, {}))
    with pytest.raises(Failure, match="is of an earlier version: `invoke swarm-deploy` first"):
        maintenance.release_file(stack("swarm"), [release])


def test_services_are_scaled_in_one_command() -> None:
    words = maintenance.scaling(Manager("shop"), {"celery_worker": 0, "celery_beat": 0}).argv
    assert words == ["docker", "service", "scale", "--detach", "shop_celery_worker=0", "shop_celery_beat=0"]
