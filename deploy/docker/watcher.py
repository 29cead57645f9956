"""The watcher of the front end as a service of development in containers: `assets.watch` in `invoke.yaml`. Pure."""

from __future__ import annotations

import json

from deploy.project.assets import Assets

SERVICE = "assets"


def document(front: Assets | None) -> str:
    """A document of Compose with the service; empty without a watcher, or without an image to run it in.

    It works in the mounted repository as this user (DEV_USER), as the build does that came before it.
    """
    if not (front and front.watch and front.image):
        return ""
    service = {
        "image": front.image,
        "command": ["sh", "-c", front.watch.replace("$", "$$")],
        "environment": {"HOME": "/tmp"},  # noqa: S108 - of the container, which nobody else has
        "init": True,
        "networks": ["out"],
        "restart": "no",
        "user": "${DEV_USER:-}",
        "volumes": ["../..:/src"],
        "working_dir": "/src",
    }
    return f"{json.dumps({'services': {SERVICE: service}}, indent=2)}\n"
