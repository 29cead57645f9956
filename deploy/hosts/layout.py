"""The paths and names of everything of a site on a host, defined only here. Pure.

A site is an environment of a project. A host may have several sites: everything that a host has once for all programs
(units, users, folders of /etc, databases, vhosts) bears the site's name. What sites share (the servers, the firewall)
bears the name `SHARED`, and belongs to none of them.

remote-setup creates these as root; a deploy writes to `releases`, `layers`, `static` and `state` as its user.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, Self

#: The kinds of a release's units; `release` is the unit that migrates.
UnitKind = Literal["web", "worker", "beat", "release"]
UNIT_KINDS: tuple[UnitKind, ...] = ("web", "worker", "beat", "release")
#: A release's id: its time (UTC) and its commit. `scripts/helper.sh` and `scripts/launch.sh` check the same pattern.
RELEASE = re.compile("[0-9]{8}-[0-9]{6}-[0-9a-f]{7,12}")
#: nginx's group, which reads the files that the site writes.
NGINX_GROUP = "www-data"
#: The names of earlier versions, which had one site on a host. A host that they have set up keeps these: a rename of a
#: user, a database or a folder needs a pause of what uses it.
EARLIER_USER, EARLIER_DATABASE = "app", "site"
#: A mark for each site: whose it is (`environment.owner`). `scripts/frame.sh` and others know the path.
MARKS = PurePosixPath("/etc/portico.d/sites")
#: The mark of earlier versions, one for a host; it is still written, so that their checkouts refuse the host.
OWNER = PurePosixPath("/etc/portico-owner")
#: The name of what sites share, such as drop-ins of the servers.
SHARED = "portico"
#: The parts of the firewall, and the unit that loads them. No name of a site has a dot.
FIREWALL = PurePosixPath("/etc/portico.d/firewall")
FIREWALL_UNIT = "portico.firewall.service"
#: nginx's main file on a host without sites of others; it reads the sites' files (`Layout.nginx_site`).
NGINX_MAIN = PurePosixPath("/etc/nginx/site/nginx.conf")
#: The lock of a site, in its folder (`Layout.root`).
LOCK = "state/lock"
#: The ports of the servers on the hosts.
DATABASE_PORT = 5432
BROKER_PORT = 5671
REDIS_PORT = 6380


def site_name(project: str, environment: str) -> str:
    """What the site of an environment is called on hosts: `shop-production`."""
    return f"{project}-{re.sub('[^a-z0-9_]', '-', environment.lower())}"


def _short(name: str, most: int) -> str:
    """A name with at most so many letters; a digest stands for the rest of a longer one."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return name if len(name) <= most else f"{name[: most - 9]}-{digest}"


@dataclass(frozen=True)
class Layout:
    """The paths and names of a site on a host."""

    #: The site's name, as `site_name` has it; the project's on hosts that an earlier version has set up.
    name: str
    #: Whether an earlier version has given the names.
    earlier: bool = False

    @classmethod
    def of(cls, project: str, environment: str, name: str = "") -> Self:
        """The layout of a site; ``name`` is what it is called on this host, if it is there already."""
        return cls(name or site_name(project, environment), name == project)

    @property
    def user(self) -> str:
        """The user that the site runs as."""
        return EARLIER_USER if self.earlier else _short(self.name, 32)

    @property
    def group(self) -> str:
        """The group of the site's processes. Earlier it was nginx's, which could read the files of all sites."""
        return NGINX_GROUP if self.earlier else self.user

    @property
    def database(self) -> str:
        """The database and its role."""
        return EARLIER_DATABASE if self.earlier else _short(self.name, 63).replace("-", "_")

    @property
    def account(self) -> str:
        """The broker's user."""
        return EARLIER_DATABASE if self.earlier else self.name

    @property
    def vhost(self) -> str:
        return "/" if self.earlier else self.name

    # --- Owned by root ---

    @property
    def names(self) -> str:
        """The names that scripts of setup need, space-separated."""
        return f"{self.name} {self.user} {self.database} {self.account} {self.vhost}"

    @property
    def mark(self) -> PurePosixPath:
        """Whose site it is."""
        return MARKS / self.name

    @property
    def nginx(self) -> PurePosixPath:
        """The site's files of nginx."""
        return PurePosixPath("/etc/nginx", self.name)

    @property
    def nginx_site(self) -> PurePosixPath:
        """What nginx includes; it comes after the files of others, so that the default server stays theirs."""
        return PurePosixPath(f"/etc/nginx/sites-enabled/zz-{self.name}.conf")

    @property
    def database_name(self) -> PurePosixPath:
        """The file that tells the helper which database is the site's."""
        return self.etc / "database"

    def firewall(self, part: Literal["open", "close"]) -> PurePosixPath:
        """The site's part of the firewall: what it opens, and what it closes after all have opened theirs."""
        return FIREWALL / f"{part}-{self.name}.nft"

    @property
    def etc(self) -> PurePosixPath:
        return PurePosixPath("/etc", self.name)

    # --- A certificate of an ACME directory; `scripts/certificates.sh` and `scripts/certificate.sh` know the paths.

    @property
    def certificate_units(self) -> tuple[str, str]:
        """What orders the certificate, or gets it from the host that does; and its timer."""
        return f"{self.name}-certificate.service", f"{self.name}-certificate.timer"

    @property
    def certificate_record(self) -> PurePosixPath:
        """What status reads of it; in it, what certbot has, for root only."""
        return PurePosixPath(f"/var/lib/{self.name}-certificate")

    @property
    def challenges(self) -> PurePosixPath:
        """What an ACME directory asks nginx for, to see whose the name is."""
        return self.root / "challenges"

    @property
    def handover(self) -> PurePosixPath:
        """The certificate and its key, signed and encrypted for the other web hosts, whose nginx asks ours for it."""
        return self.root / "handover"

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

    @property
    def backup_record(self) -> PurePosixPath:
        """What status reads: the last backup, and the last proof."""
        return PurePosixPath(f"/var/lib/{self.name}-backup")

    @property
    def backup_units(self) -> tuple[str, str, str]:
        """The template of a backup, its timer, and the timer of its proof."""
        return f"{self.name}-backup@.service", f"{self.name}-backup.timer", f"{self.name}-proof.timer"

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
    def maintenance(self) -> PurePosixPath:
        """While there is a file `on`, nginx answers 503 (`project.maintenance`). `maintenance.sh` knows the path."""
        return self.state / "maintenance"

    @property
    def protected(self) -> PurePosixPath:
        """Files that the site serves to authorized users; only the site and nginx can read them."""
        return self.root / "protected"

    @property
    def media(self) -> PurePosixPath:
        """Uploads, which nginx serves; outside of releases, so each release has them."""
        return self.root / "media"

    @property
    def before(self) -> PurePosixPath:
        """The site's files that a restore has replaced."""
        return self.root / "before"

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
