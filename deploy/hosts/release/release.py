"""A release: its id, its record, and the site's environment in it. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from deploy.hosts.environment.model import Environment, Host, workers_of
from deploy.hosts.layout import Layout
from deploy.project import site
from deploy.project.config import Project
from deploy.project.workers import PROCESS

#: Digits of the commit in an id.
_DIGITS = 7
#: Seconds for which workers of two releases may run at once if no batch waits for another, with a margin.
OVERLAP_SECONDS = 180


@dataclass(frozen=True)
class Release:
    """A commit that is being deployed to the hosts, or that they keep."""

    id: str
    commit: str
    #: The ref that the user named: a branch, a tag.
    ref: str
    subject: str
    who: str
    #: When it was created, ISO 8601.
    at: str

    @property
    def json(self) -> str:
        """The release as JSON on one line."""
        return json.dumps(asdict(self))

    @property
    def title(self) -> str:
        """The release as messages name it."""
        return f"{self.id} ({self.subject})" if self.subject else self.id


def parse(text: str) -> Release:
    """Parse the text of `Release.json`. Raises `ValueError` for anything else."""
    try:
        return Release(**json.loads(text))
    except TypeError as error:
        raise ValueError(str(error)) from None


def new_id(commit: str, now: datetime) -> str:
    """A new id: two deploys of the same commit get different ids, each with its own environment.

    ``now`` is the client's time, for people to read. Only a host knows which of two releases arrived first (`state`).
    """
    return f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{commit[:_DIGITS]}"


def site_environment(
    project: Project, environment: Environment, host: Host, release: str, cores: int, *, name: str = ""
) -> dict[str, str]:
    """The site's environment variables on a host, without its secrets; ``name`` is what the host calls the site.

    The URLs of servers on the environment's hosts are not among them: `remote-setup` configures those in the units.
    """
    layout = Layout.of(project.name, environment.name, name)
    fixed = {
        **site.variables(project, site.PRODUCTION),
        "PORTICO_SITE": project.site,
        "PORTICO_RELEASE": release,
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
        "CONCURRENCY": str(host.concurrency or cores),  # for the launcher of a setup before there were kinds of workers
        **workers(project, environment, host, host.concurrency or cores),
        "WORKER_STOP_SECONDS": str(environment.drain),
        "GRACEFUL_SECONDS": str(environment.drain),
        # Workers of both releases run from the first batch to the last.
        "UNKNOWN_TASK_SECONDS": str(OVERLAP_SECONDS + environment.wait * (len(environment.batches()) - 1)),
    }
    uploads = {"MEDIA_ROOT": str(layout.media), "MEDIA_URL": url} if (url := project.media_url) else {}
    shared = {"PORTICO_SHARED": str(layout.media)} if project.media == "shared" else {}
    return {**fixed, **environment.settings, **uploads, **shared}


def workers(project: Project, environment: Environment, host: Host, concurrency: int) -> dict[str, str]:
    """The kinds of units of the workers on a host, those of which no two may run on any host, and their arguments.

    `scripts/activate.sh`, `scripts/launch.sh` and the helper read them: a release brings its workers with it.
    """
    here = workers_of(environment, host, project.kinds)
    arguments = {kind.process: " ".join(("-c", str(kind.parallel(concurrency)), *kind.more)) for kind in here}
    return {
        "PORTICO_WORKERS": ",".join(arguments),
        "PORTICO_ALONE": ",".join(kind.process for kind in project.kinds if kind.alone),
        **{f"PORTICO_{process.replace(PROCESS, PROCESS.upper(), 1)}": words for process, words in arguments.items()},
    }


def environment_file(variables: Mapping[str, str]) -> str:
    """The text of a release's `env` file, which a shell reads."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())
