"""Uploads on a swarm: one node keeps them, or a volume that all nodes share; a deploy is refused otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deploy.core.errors import Failure
from deploy.docker.stack import MEDIA
from deploy.project.config import Media
from deploy.swarm.state import Node

#: What keeps uploads of several machines.
ELSEWHERE = "or keep uploads in an object store (django-storages) and write `media: false`"


def require_place(media: Media, nodes: Sequence[Node], volumes: Mapping[str, Any]) -> None:
    """Raise `Failure` if nodes would each keep uploads of their own. ``volumes``: those of the stack file."""
    if media == "shared" and len(nodes) > 1:
        volume = volumes.get(MEDIA) or {}
        if not (volume.get("driver") or volume.get("driver_opts") or volume.get("external")):
            raise Failure(
                f"media: shared, but the volume `{MEDIA}` is a folder of each node: give it a driver that all nodes"
                f" share, such as NFS, under volumes in deploy/local/compose.yaml; {ELSEWHERE}"
            )
    if media == "local":
        keepers = [node.name for node in nodes if node.labels.get(MEDIA) == "true"]
        if not keepers:
            raise Failure(
                f"media: true, but no node is labelled to keep uploads: `docker node update --label-add"
                f" {MEDIA}=true NODE` names it; {ELSEWHERE}"
            )
        if len(keepers) > 1:
            raise Failure(
                f"media: true, but {', '.join(keepers)} are labelled to keep uploads, and each would have its own:"
                f" `docker node update --label-rm {MEDIA} {keepers[-1]}`; {ELSEWHERE}"
            )
