"""Where things are on a host, and what they are called: the one place that knows. Pure; ``name`` is the project's.

remote-setup lays these down as root; a deploy fills `releases`, `layers`, `static` and `state` as its user.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

#: A unit of a release; `release` is the one that migrates.
UnitKind = Literal["web", "worker", "beat", "release"]
UNIT_KINDS: tuple[UnitKind, ...] = ("web", "worker", "beat", "release")
#: A release's id: when it was made (UTC), and the commit. `scripts/helper.sh` and `scripts/launch.sh` check the same.
RELEASE = re.compile("[0-9]{8}-[0-9]{6}-[0-9a-f]{7,12}")
#: The user that the site runs as, and nginx's own group, which reads what the site writes.
APP = "app"
NGINX_GROUP = "www-data"
#: Ports of what runs on the hosts.
DATABASE_PORT = 5432
BROKER_PORT = 5671


@dataclass(frozen=True)
class Layout:
    """The paths and names of a project's things on its hosts."""

    name: str

    # --- Root's ---

    @property
    def etc(self) -> PurePosixPath:
        return PurePosixPath("/etc", self.name)

    @property
    def roles(self) -> PurePosixPath:
        """The roles of the host, space-separated."""
        return self.etc / "roles"

    @property
    def setup(self) -> PurePosixPath:
        """What remote-setup has laid down, as digests (`desired.setup_mark`); written last."""
        return self.etc / "setup"

    @property
    def project(self) -> PurePosixPath:
        """SITE and PACKAGE, for `launch`."""
        return self.etc / "project"

    @property
    def services(self) -> PurePosixPath:
        """Where the database and the broker are when they are hosts of the environment: systemd's EnvironmentFile."""
        return self.etc / "services.env"

    def certificate(self, server: str) -> PurePosixPath:
        """By which the site knows a server, database or broker, that is a host of the environment."""
        return self.etc / f"{server}.crt"

    def password(self, server: str) -> PurePosixPath:
        """What the site says to a server, database or broker; on that one's host only, which has made it."""
        return self.etc / f"{server}_password"

    @property
    def library(self) -> PurePosixPath:
        return PurePosixPath("/usr/local/lib", self.name)

    @property
    def launch(self) -> PurePosixPath:
        """`launch RELEASE KIND WORDS…`, as the site's user: one process of a release."""
        return self.library / "launch"

    @property
    def sandbox(self) -> PurePosixPath:
        """What the units and the helper's `manage` have in common: systemd's properties, one a line."""
        return self.library / "sandbox"

    @property
    def helper(self) -> PurePosixPath:
        """All that the deploy user may do as root: `sudo -n HELPER VERB …`."""
        return PurePosixPath(f"/usr/local/sbin/{self.name}-helper")

    @property
    def sudoers(self) -> PurePosixPath:
        return PurePosixPath("/etc/sudoers.d", self.name)

    @property
    def backups(self) -> PurePosixPath:
        """Copies of the database; on its host only."""
        return PurePosixPath("/var/backups", self.name)

    # --- The deploy user's, and the site's ---

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
        """A link to ../releases/RELEASE: the one that serves."""
        return self.state / "current"

    @property
    def lock(self) -> PurePosixPath:
        return self.state / "lock"

    @property
    def protected(self) -> PurePosixPath:
        """Files that the site hands out to those who may have them; nobody but the site and nginx reads them."""
        return self.root / "protected"

    @property
    def upstream(self) -> PurePosixPath:
        """The socket that nginx asks: in each release's folder a link to that release's own (`socket`)."""
        return self.current / "web.sock"

    @property
    def access_log(self) -> PurePosixPath:
        return PurePosixPath(f"/var/log/nginx/{self.name}.access.log")

    # --- Of one release ---

    def release(self, release: str) -> PurePosixPath:
        return self.releases / release

    def socket(self, release: str) -> PurePosixPath:
        """What gunicorn listens on."""
        return PurePosixPath("/run", self.name, f"web-{release}", "sock")

    def template(self, kind: UnitKind) -> str:
        """The unit that the units of all releases are instances of."""
        return f"{self.name}-{kind}@.service"

    def unit(self, kind: UnitKind, release: str) -> str:
        return f"{self.name}-{kind}@{release}.service"

    @property
    def boot_unit(self) -> str:
        """Starts the current release's units when the host boots."""
        return f"{self.name}.service"
