"""The site as setup needs it: an environment with the files for its hosts, and the facts that only hosts know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import Template

from deploy.hosts.environment.model import SITE_ROLES, Environment, Host
from deploy.hosts.environment.owner import Mark, Owner
from deploy.hosts.environment.values import Role
from deploy.hosts.layout import SHARED, Layout
from deploy.hosts.setup.diff import Access, Change, Desired, File, Group, Server
from deploy.project import local
from deploy.project.config import Project

FOLDER = Path(__file__).parent.parent
SERVERS: tuple[Server, ...] = ("database", "broker", "redis")

DROP_IN = "/etc/systemd/system/{}.d/{}.conf"


@dataclass(frozen=True)
class Own:
    """What the project adds on hosts: `deploy/local/`."""

    nginx: str = local.NOTHING
    #: Additions to the site's units, by their kind.
    drop_ins: Mapping[str, str] = field(default_factory=dict)
    #: Units of its own, by name; an empty text means that the unit must go.
    services: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Site:
    """An environment, with the files for its hosts."""

    environment: Environment
    project: Project
    #: The files of the project's folder `nginx`, by name.
    nginx: Mapping[str, str]
    certificate: str = ""
    key: str = field(default="", repr=False)
    #: The authority of an ACME directory; empty for those that Debian trusts, and where only the rest is compared.
    authority: str = ""
    #: What restic reads that is secret; empty where only the rest is compared.
    backup_secrets: dict[str, str] = field(default_factory=dict, repr=False)
    own: Own = Own()
    #: Whose hosts they are to be; None where only the rest is compared.
    owner: Owner | None = None
    #: What was there before and may become ours.
    take_over: frozenset[str] = frozenset()
    #: What the site is called on a host, if it is there already.
    name: str = ""

    @property
    def layout(self) -> Layout:
        return Layout.of(self.project.name, self.environment.name, self.name)

    def on(self, name: str) -> Site:
        """The site as a host calls it."""
        return replace(self, name=name)

    def others(self, host: Host) -> tuple[Host, ...]:
        """The other hosts that run a part of the site."""
        return tuple(other for other in self.environment.site_hosts if other.name != host.name)

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses that hosts use for each other."""
        return tuple(dict.fromkeys(host.private_address for host in self.environment.hosts))


@dataclass(frozen=True)
class Plan:
    """The changes for a host, and the names of the site there (`Layout.names`)."""

    changes: tuple[Change, ...]
    names: str
    #: The differences, a line each (`drift`).
    drift: tuple[str, ...] = ()
    #: What is done when all hosts are ready, and may fail without harm to the rest (`acme.obtain`).
    later: tuple[Change, ...] = ()

    @property
    def differences(self) -> tuple[str, ...]:
        """What `remote-setup --check` says: the drift, and a certificate that a host lacks or that was not renewed."""
        return (*self.drift, *(f"certificate: not there, or not renewed; to {each.title}" for each in self.later))

    @property
    def called(self) -> str:
        """What the host calls the site."""
        return self.names.split()[0]


@dataclass(frozen=True)
class Learned:
    """Facts that only the hosts know. Without them, names stand for addresses, and what needs a password is empty."""

    ports: tuple[int, ...] = (22,)
    ipv6: bool = False
    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: For the servers on the environment's hosts.
    access: Mapping[Server, Access] = field(default_factory=dict)
    #: The mark of its owner.
    mark: Mark | None = None
    #: Whether nginx serves others too: it keeps its own main file, and ours is one of its sites.
    shares_nginx: bool = False
    #: Whether others use the database's server and the broker, which then go on with their own configuration.
    shares_database: bool = False
    shares_broker: bool = False
    #: What web hosts sign and decrypt with when one hands the certificate to the others, by host.
    handover: Mapping[str, str] = field(default_factory=dict)
    #: The marks of the host's other sites, by name. What sites share is left alone then.
    others: Mapping[str, Mark] = field(default_factory=dict)

    def of(self, host: Host) -> tuple[str, ...]:
        """The addresses of a host, as other hosts resolve them."""
        return self.addresses.get(host.private_address, (host.private_address,))


def is_site(host: Host) -> bool:
    """Whether a host runs a part of the site."""
    return bool(SITE_ROLES & set(host.roles))


def has_files(host: Host) -> bool:
    """Whether a host writes protected files, which other hosts may request from it."""
    return "web" in host.roles or "worker" in host.roles


def shows_certificate(site: Site, host: Host) -> bool:
    """Whether a host serves a certificate of this machine."""
    return site.environment.tls is not None and not site.environment.acme and "web" in host.roles


def template_text(path: str, /, **values: str) -> str:
    """Fill in one of the templates for hosts. A line that its value leaves empty is dropped."""
    lines = (FOLDER / path).read_text("utf-8").splitlines()
    filled = ((line, Template(line).substitute(values)) for line in lines)
    return "".join(f"{new}\n" for old, new in filled if new or not old)


def shared_drop_in(unit: str, part: str = "") -> str:
    """A drop-in of a unit that sites share; with ``part``, one more."""
    return DROP_IN.format(unit, f"{SHARED}-{part}" if part else SHARED)


def confined(path: str, template: str) -> File:
    """The drop-in ``path``, which takes rights from a server that sites share."""
    return File(path, template_text(template, confined=template_text("files/confined").rstrip()), common=True)


def memory_limit(site: Site, host: Host, role: Role, unit: str, learned: Learned) -> Desired:
    """The limit of a server; one that other sites use too keeps what it has."""
    path = DROP_IN.format(unit, f"{site.layout.name}-memory")
    if learned.others:
        return Desired()
    if limit := host.max_memory.get(role):
        return Desired(groups=(Group((File(path, template_text("files/memory.drop-in.conf", memory=limit)),)),))
    return Desired(absent=(path,))
