"""What a release is: its id, what is recorded of it, and the environment that the site has in it. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from deploy.hosts.environment.model import Environment, Host
from deploy.hosts.layout import Layout
from deploy.project.config import Project

#: Digits of the commit in an id.
_DIGITS = 7
#: Seconds in which workers of two releases may run where no batch waits for another, with room to spare.
OVERLAP_SECONDS = 180


@dataclass(frozen=True)
class Release:
    """A commit on its way to the hosts, or kept there."""

    id: str
    commit: str
    #: What was asked for: a branch, a tag.
    ref: str
    subject: str
    who: str
    #: When it was made, ISO 8601.
    at: str

    @property
    def json(self) -> str:
        """Itself on one line."""
        return json.dumps(asdict(self))

    @property
    def title(self) -> str:
        """How people are told of it."""
        return f"{self.id} ({self.subject})" if self.subject else self.id


def parse(text: str) -> Release:
    """What `Release.json` said. Raises `ValueError` for anything else."""
    try:
        return Release(**json.loads(text))
    except TypeError as error:
        raise ValueError(str(error)) from None


def new_id(commit: str, now: datetime) -> str:
    """An id: of two deploys of a commit each has its own, with its own environment.

    ``now`` is a client's time, for people to read: which of two releases came first, only a host can tell (`state`).
    """
    return f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{commit[:_DIGITS]}"


def site_environment(
    project: Project, environment: Environment, host: Host, release: str, cores: int
) -> dict[str, str]:
    """The variables that the site gets on a host, but for its secrets.

    Where servers on hosts of the environment are, `remote-setup` has told the units themselves.
    """
    layout = Layout(project.name)
    fixed = {
        "DJANGO_SETTINGS_MODULE": f"{project.package}.settings.production",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "ALLOWED_HOSTS": ",".join(environment.names),
        "HTTPS_ONLY": "1" if environment.secure else "0",
        "BEHIND_PROXY": "1",
        "BIND": f"unix:{layout.socket(release)}",
        "STATIC_ROOT": str(layout.release(release) / "static"),
        "PROTECTED_ROOT": str(layout.protected),
        "PROTECTED_URL": "/protected/",
        "WEB_CONCURRENCY": str(host.workers or cores),
        "CONCURRENCY": str(host.concurrency or cores),
        "WORKER_STOP_SECONDS": str(environment.drain),
        "GRACEFUL_SECONDS": str(environment.drain),
        # Workers of two releases run from the first batch to the last.
        "UNKNOWN_TASK_SECONDS": str(OVERLAP_SECONDS + environment.wait * (len(environment.batches()) - 1)),
    }
    return {**fixed, **environment.settings}


def environment_file(variables: Mapping[str, str]) -> str:
    """The text of a release's `env`, which a shell reads."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())
