"""Uploads in containers: a volume for those that write them, which nginx reads; on a swarm, on one node."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from deploy.core.errors import Failure
from deploy.docker import env as server_env
from deploy.docker import stack as stacks
from deploy.docker.stack import Stack
from deploy.project.config import Media, Project
from deploy.swarm.state import Node
from deploy.swarm.uploads import require_place
from tests.unit.stacks import PROJECT, VALUES


def uploading(kind: str, media: Media = "local", celery: str = "a:b") -> Stack:
    project: Project = replace(PROJECT, media=media, declared=replace(PROJECT.declared, celery=celery))
    vars(project)["media_url"] = "/media/" if media else ""  # what detection finds
    return Stack(project, kind, server_env.parse(VALUES, ".env"))


def test_what_writes_uploads_has_their_volume_and_nginx_reads_it() -> None:
    document = json.loads(stacks.own_text(uploading("prod")))
    assert document["volumes"] == {"media": {}}
    assert document["services"]["nginx"] == {"volumes": ["media:/srv/media:ro"]}
    for name in ("release", "app", "celery_worker", "celery_beat"):
        service = document["services"][name]
        assert service["volumes"] == ["media:/srv/media"]
        assert service["environment"] == {"MEDIA_ROOT": "/srv/media", "MEDIA_URL": "/media/"}
        assert "deploy" not in service


def test_in_development_they_are_in_the_projects_own_folder() -> None:
    assert stacks.own_text(uploading("dev")) == ""
    assert uploading("dev").compose("up").env["DEV_USER"]


def test_a_project_without_uploads_has_no_volume() -> None:
    assert stacks.own_text(uploading("prod", "")) == ""


def test_on_a_swarm_they_are_on_the_node_that_is_labelled() -> None:
    services = json.loads(stacks.own_text(uploading("swarm")))["services"]
    on = {name: service.get("deploy") for name, service in services.items()}
    there = {"placement": {"constraints": ["node.labels.media == true"]}}
    assert on == {"nginx": None, **dict.fromkeys(("release", "app", "celery_worker", "celery_beat"), there)}
    shared = json.loads(stacks.own_text(uploading("swarm", "shared")))["services"]
    assert all("deploy" not in service for service in shared.values())


def nodes(*labelled: str) -> list[Node]:
    labels = {name: {"media": "true"} for name in labelled}
    return [Node(name, name, "ready", "active", "", labels.get(name, {})) for name in ("a", "b")]


def test_nodes_that_would_each_keep_their_own_are_refused_with_the_remedy() -> None:
    require_place("", nodes(), {})
    require_place("local", nodes("a"), {})
    require_place("shared", nodes()[:1], {"media": {"name": "shop_media"}})
    require_place("shared", nodes(), {"media": {"driver_opts": {"type": "nfs"}}})
    with pytest.raises(Failure, match="docker node update --label-add media=true NODE"):
        require_place("local", nodes(), {})
    with pytest.raises(Failure, match="docker node update --label-rm media b"):
        require_place("local", nodes("a", "b"), {})
    with pytest.raises(
        Failure, match=r"give it a driver .* under volumes in deploy/local/compose.yaml; .*django-storages"
    ):
        require_place("shared", nodes(), {"media": {"name": "shop_media"}})
