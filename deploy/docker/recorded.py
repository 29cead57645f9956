"""What a release is beside its image and its `.env`: what its containers depend on in `invoke.yaml` and `deploy/local`.

It is recorded when the release is deployed, so that a rollback starts the workers and the additions that it had.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from deploy.project import local
from deploy.project.config import Project
from deploy.project.names import Names
from deploy.project.services import Redis
from deploy.project.workers import Kind

#: The file, in the folder of a release.
FILE = "project.json"
#: The keys of a project that its containers or nginx depend on, and that are plain values.
_PLAIN = ("env", "egress", "media", "upload_megabytes")
#: Those that a record of an earlier version does not have.
_LATER = ("metrics", "observe")


def text(project: Project) -> str:
    """The project, as it is deployed, as JSON."""
    found = {
        "names": asdict(replace(project.names, celery=project.names.celery or "none")),
        "workers": [asdict(kind) for kind in project.workers],
        "redis": asdict(project.redis) if project.redis else None,
        "probes": project.probes,
        "media_url": project.media_url,
        **{key: getattr(project, key) for key in (*_PLAIN, *_LATER)},
    }
    return json.dumps(found, default=dict)


def project_of(project: Project, said: str) -> Project:
    """The project as a release was deployed. Raises `ValueError` for a text that is none of `text`'s."""
    found = json.loads(said)
    try:
        back = replace(
            project,
            declared=Names(**found["names"]),
            workers=tuple(_kind(each) for each in found["workers"]),
            redis=Redis(**found["redis"]) if found["redis"] else None,
            probes=tuple(found["probes"]),
            **{key: found[key] for key in _PLAIN},
            **{key: found.get(key, getattr(Project, key)) for key in _LATER},
        )
        vars(back)["media_url"] = str(found["media_url"])  # detected, as the names are: not asked of the work tree
    except (KeyError, TypeError) as error:
        raise ValueError(str(error)) from None
    return back


def _kind(said: Mapping[str, object]) -> Kind:
    return Kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in said.items()})  # type: ignore[arg-type]


def additions(root: Path, kind: str) -> dict[str, str]:
    """The project's own files of compose and nginx, by their paths below the root."""
    names = [*local.compose_files(root, kind), *([local.NGINX] if local.nginx(root) != local.NOTHING else [])]
    return {name: (root / name).read_text("utf-8") for name in names}
