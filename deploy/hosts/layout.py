"""The paths and names of everything on a host, defined only here. Pure; ``name`` is the project's name.

remote-setup creates these as root; a deploy writes to `releases`, `layers`, `static` and `state` as its user.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

#: The kinds of a release's units; `release` is the unit that migrates.
UnitKind = Literal["web", "worker", "beat", "release"]
UNIT_KINDS: tuple[UnitKind, ...] = ("web", "worker", "beat", "release")
#: A release's id: its time (UTC) and its commit. `scripts/helper.sh` and `scripts/launch.sh` check the same pattern.
RELEASE = re.compile("[0-9]{8}-[0-9]{6}-[0-9a-f]{7,12}")
#: The user that the site runs as, and nginx's group, which reads the files that the site writes.
APP = "app"
NGINX_GROUP = "www-data"
#: Whose host it is (`environment.owner`): the one file of a host that bears no project's name.
OWNER = PurePosixPath("/etc/portico-owner")
#: The ports of the servers on the hosts.
DATABASE_PORT = 5432
BROKER_PORT = 5671
REDIS_PORT = 6380


@dataclass(frozen=True)
class Layout:
    """The paths and names of a project on its hosts."""

    name: str

    # --- Owned by root ---

    @property
    def etc(self) -> PurePosixPath:
        return PurePosixPath("/etc", self.name)

    @property
    def roles(self) -> PurePosixPath:
        """The roles of the host, space-separated."""
        return self.etc / "roles"

    @property
    def setup(self) -> PurePosixPath:
        """Digests of the state that remote-setup has applied (`desired.setup_mark`); written last."""
        return self.etc / "setup"

    @property
    def services(self) -> PurePosixPath:
        """The URLs of a database and broker on the environment's hosts: systemd's EnvironmentFile."""
        return self.etc / "services.env"

    def certificate(self, server: str) -> PurePosixPath:
        """The certificate by which the site verifies a server (database, broker, redis) on a host of its own."""
        return self.etc / f"{server}.crt"

    def password(self, server: str) -> PurePosixPath:
        """The site's password for a server (database, broker, redis); only on its host, which generates it."""
        return self.etc / f"{server}_password"

    @property
    def library(self) -> PurePosixPath:
        return PurePosixPath("/usr/local/lib", self.name)

    @property
    def launch(self) -> PurePosixPath:
        """Runs one process of a release as the site's user: `launch RELEASE KIND WORDS…`."""
        return self.library / "launch"

    @property
    def sandbox(self) -> PurePosixPath:
        """The systemd properties that the units and the helper's `manage` share, one a line."""
        return self.library / "sandbox"

    @property
    def helper(self) -> PurePosixPath:
        """The only program that the deploy user may run as root: `sudo -n HELPER VERB …`."""
        return PurePosixPath(f"/usr/local/sbin/{self.name}-helper")

    @property
    def sudoers(self) -> PurePosixPath:
        return PurePosixPath("/etc/sudoers.d", self.name)

    @property
    def backups(self) -> PurePosixPath:
        """Copies of the database; on its host only."""
        return PurePosixPath("/var/backups", self.name)

    # --- Owned by the deploy user and the site ---

    @property
    def root(self) -> PurePosixPath:
        return PurePosixPath("/srv", self.name)

    @property
    def releases(self) -> PurePosixPath:
        return self.root / "releases"

    @property
    def layers(self) -> PurePosixPath:
        return self.root / "layers"

    @property
    def static(self) -> PurePosixPath:
        """Published static files, which nginx serves."""
        return self.root / "static"

    @property
    def state(self) -> PurePosixPath:
        return self.root / "state"

    @property
    def current(self) -> PurePosixPath:
        """A link to the release that serves: ../releases/RELEASE."""
        return self.state / "current"

    @property
    def lock(self) -> PurePosixPath:
        return self.state / "lock"

    @property
    def protected(self) -> PurePosixPath:
        """Files that the site serves to authorized users; only the site and nginx can read them."""
        return self.root / "protected"

    @property
    def media(self) -> PurePosixPath:
        """Uploads, which nginx serves; outside of releases, so each release has them."""
        return self.root / "media"

    @property
    def upstream(self) -> PurePosixPath:
        """The socket that nginx proxies to: each release's folder has a link to that release's socket (`socket`)."""
        return self.current / "web.sock"

    @property
    def access_log(self) -> PurePosixPath:
        return PurePosixPath(f"/var/log/nginx/{self.name}.access.log")

    # --- Per release ---

    def release(self, release: str) -> PurePosixPath:
        return self.releases / release

    def socket(self, release: str) -> PurePosixPath:
        """The socket that gunicorn listens on."""
        return PurePosixPath("/run", self.name, f"web-{release}", "sock")

    def template(self, kind: UnitKind) -> str:
        """The template unit for the units of all releases. All kinds of workers have one: `worker@NAME:RELEASE`."""
        return f"{self.name}-{kind}@.service"

    def unit(self, kind: UnitKind, release: str) -> str:
        return f"{self.name}-{kind}@{release}.service"

    @property
    def redis_unit(self) -> str:
        """Redis of the site's own. `scripts/redis.sh` and `scripts/health.sh` know the name."""
        return f"{self.name}-redis.service"

    @property
    def boot_unit(self) -> str:
        """Starts the current release's units when the host boots."""
        return f"{self.name}.service"
