"""The model of an environment file: the type of each key, and the rules between keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, ValidationInfo
from pydantic import field_validator as checked

from deploy.core.errors import Failure
from deploy.hosts.environment import values
from deploy.hosts.environment.tls import Acme, Tls, certified, uncertified
from deploy.hosts.environment.values import ROLES, Role
from deploy.hosts.environment.yaml_lines import Problem, Problems
from deploy.project import backups
from deploy.project.services import Redis
from deploy.project.sources import Source
from deploy.project.workers import Kind

FOLDER = "deploy/environments"
EXAMPLE = f"{FOLDER}/example.yaml"
#: Roles that run the site, and so get its releases.
SITE_ROLES = {"web", "worker", "beat"}
#: Roles that only a project with Celery has.
OF_CELERY = {"worker", "beat", "broker"}
#: A variable whose name says that it is a secret.
_SECRET = re.compile("(PASSWORD|PASSWD|SECRET|TOKEN|(SECRET|PRIVATE|API|ACCESS)_?KEY)$")
#: Variables that are set in another place, with the remedy.
_ELSEWHERE = {
    "DATABASE_URL": "set services.database",
    "CELERY_BROKER_URL": "set services.broker",
    "ALLOWED_HOSTS": "set domain and allowed_hosts",
    "HTTPS_ONLY": "set https_only",
    "WEB_CONCURRENCY": "set workers",
    **dict.fromkeys(("DATABASE_PASSWORD", "BROKER_PASSWORD"), "the hosts generate it; remove it"),
    **dict.fromkeys(
        ("BEHIND_PROXY", "BIND", "DJANGO_SETTINGS_MODULE", "PROTECTED_ROOT", "PROTECTED_URL", "STATIC_ROOT"),
        "a deploy sets it; remove it",
    ),
}


# --- The models ---


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class PerHost(_Model):
    """Keys of the environment that a host may override."""

    user: values.UserName = "deploy"
    admin: values.UserName = "root"
    port: values.Port = 22
    #: The private key; None means the agent's keys and SSH's own defaults.
    identity: values.LocalPath | None = None
    jump: values.Jumps = ()
    #: Processes of a web unit and of a Celery worker; None means the host's number of cores.
    workers: values.Count | None = None
    concurrency: values.Count | None = None
    #: The memory limit for the units of a role, in systemd's notation; a role without a key has no limit.
    max_memory: dict[values.RoleName, values.Memory] = {}
    #: Ports that the firewall opens in addition to those of the roles.
    open_ports: values.OpenPorts = ()


class HostEntry(PerHost):
    """A host as written in the file."""

    roles: values.Roles
    #: The kinds of workers that run there; None for all. `workers_of` applies it.
    kinds: values.Kinds | None = None
    address: values.Address | None = None
    private_address: values.Address | None = None


class Host(PerHost):
    """A host with all its values, including the environment's defaults."""

    name: str
    address: str
    #: The address that the other hosts use.
    private_address: str
    roles: tuple[Role, ...]
    kinds: tuple[str, ...] | None = None


class Services(_Model):
    """Servers outside of the environment's hosts."""

    database: values.Database | None = None
    broker: values.Broker | None = None
    redis: values.Redis | None = None


class Backup(_Model):
    """Where backups go, and how many stay there."""

    repository: values.Repository
    password: values.SecretSource
    keep: values.Keep = backups.Keep()
    #: The time of day, in the host's time zone.
    at: values.Time = "03:30"
    variables: dict[values.Variable, values.SecretSource] = {}


class Hooks(_Model):
    """Commands before and after a deploy, on this machine and on each host, there in the new release's folder."""

    before: values.Words = ()
    after: values.Words = ()
    hosts_before: values.Words = ()
    hosts_after: values.Words = ()


class Shared(PerHost):
    """The keys of the file other than `hosts`."""

    domain: values.HostName
    allowed_hosts: tuple[values.SiteName, ...] = ()
    tls: Tls | None = None
    https_only: bool | None = None
    trusted_proxies: tuple[values.Network, ...] = ()
    services: Services = Services()
    secrets: dict[values.Variable, values.SecretSource]
    settings: dict[values.Variable, values.Setting] = {}
    #: One at a time: a fault that the checks miss affects the clients of one host, not of all.
    batch: values.Batch = "1"
    #: Seconds between two batches, in which people may check the first one, and stop.
    wait: Annotated[int, values.whole(0, 3600)] = 0
    keep: Annotated[int, values.whole(1, 50)] = 5
    #: Seconds that a replaced unit has to finish its current requests or tasks.
    drain: values.Seconds = 60
    backup_before_migrate: bool = False
    backup: Backup | None = None
    hooks: Hooks = Hooks()
    firewall: bool = True
    unattended_upgrades: bool = True

    @checked("secrets")
    @classmethod
    def _secrets_have_their_place(cls, value: dict[str, Source]) -> dict[str, Source]:
        found = [*_misplaced("secrets", value)]
        if "SECRET_KEY" not in value:
            found.append(Problem(("secrets", "SECRET_KEY"), f"is missing; {EXAMPLE} explains it"))
        _refuse(found)
        return value

    @checked("settings")
    @classmethod
    def _settings_are_no_secrets(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        found = [*_misplaced("settings", value)]
        for name in value:
            if name.removesuffix("_FILE") in info.data.get("secrets", {}):
                found.append(Problem(("settings", name), "is in secrets too; remove one of the two"))
            elif _SECRET.search(name):
                found.append(Problem(("settings", name), "is a secret by its name; move it to secrets"))
        _refuse(found)
        return value


class EnvironmentFile(Shared):
    """The file, with the same keys."""

    hosts: dict[values.HostName, HostEntry]

    @checked("hosts")
    @classmethod
    def _roles_fit_together(cls, value: dict[str, HostEntry], info: ValidationInfo) -> dict[str, HostEntry]:
        context = info.context or {}
        celery, redis = bool(context.get("celery", True)), context.get("redis")
        found = [*_role_problems(value, celery=celery)]
        if "services" in info.data:
            found += _service_problems(value, info.data["services"], celery=celery, redis=redis)
        found += [*_redis_problems(value, info.data, redis)]
        if "port" in info.data:
            found += _same_addresses(value, info.data["port"])
        found += [*_without_private_address(value), *_redirects_without_https(info.data), *_no_dump(value, info.data)]
        found += [*uncertified(info.data)]
        _refuse(found)
        return value


class Environment(Shared):
    """A validated environment."""

    name: str
    #: The project's folder, to which paths are relative.
    root: Path
    hosts: tuple[Host, ...]

    @property
    def source(self) -> str:
        """The file, as messages name it."""
        return f"{FOLDER}/{self.name}.yaml"

    @property
    def names(self) -> tuple[str, ...]:
        """All host names of the site, the main name first."""
        return tuple(dict.fromkeys((self.domain, *self.allowed_hosts)))

    @property
    def secure(self) -> bool:
        """Whether the site requires HTTPS."""
        return self.tls is not None if self.https_only is None else self.https_only

    @property
    def acme(self) -> Acme | None:
        """Who issues the site's certificate; None with a pair of files, and without TLS."""
        return self.tls.acme if self.tls else None

    @property
    def certified(self) -> tuple[str, ...]:
        """The names that the certificate of `acme` is for, the main name first."""
        return certified(self.names)

    @property
    def site_hosts(self) -> tuple[Host, ...]:
        """The hosts that run a part of the site, and so get its releases."""
        return tuple(host for host in self.hosts if SITE_ROLES & set(host.roles))

    def with_role(self, role: Role) -> tuple[Host, ...]:
        """The hosts that have a role, in the order of the file."""
        return tuple(host for host in self.hosts if role in host.roles)

    def batches(self) -> tuple[tuple[Host, ...], ...]:
        """The hosts that run the site, in the order in which requests move to a new release.

        `batch` splits the web hosts; a percentage is rounded down, to at least one host. Hosts with workers or beat but
        no web are in the first batch, as they serve no requests. A host with only database or broker is in no batch.
        """
        web = self.with_role("web")
        size = int(self.batch.rstrip("%"))
        if self.batch.endswith("%"):
            size = max(1, len(web) * size // 100)
        others = tuple(host for host in self.hosts if "web" not in host.roles and SITE_ROLES & set(host.roles))
        first, *rest = (web[start : start + size] for start in range(0, len(web), size))
        return ((*first, *others), *rest)


# --- Which workers run where ---


def workers_of(environment: Environment, host: Host, kinds: Sequence[Kind]) -> tuple[Kind, ...]:
    """The kinds of workers that a host runs: of its role `worker`, those that it names, or all.

    A kind of which there must never be two runs on the first host that may run it.
    """
    return tuple(kind for kind in kinds if host in _running(environment, kind))


def _running(environment: Environment, kind: Kind) -> tuple[Host, ...]:
    able = tuple(host for host in environment.with_role("worker") if kind.name in (host.kinds or (kind.name,)))
    return able[:1] if kind.alone else able


def require_workers(environment: Environment, kinds: Sequence[Kind]) -> None:
    """Raise `Failure` for a host that names a kind that there is not, and for a kind that no host runs."""
    names = [kind.name for kind in kinds]
    for host in environment.hosts:
        for each in host.kinds or ():
            if "worker" not in host.roles or each not in names:
                why = f"there are: {', '.join(names)}" if "worker" in host.roles else "the host has not the role worker"
                raise Failure(f"{environment.source}: hosts.{host.name}.kinds: {each!r} does not run there; {why}")
    for kind in kinds:
        if not _running(environment, kind):
            raise Failure(
                f"{environment.source}: no host runs workers of the kind {kind.name}; add it to the kinds of one"
            )


# --- What must fit together ---


def _refuse(found: Sequence[Problem]) -> None:
    if found:
        raise Problems(found)


def _misplaced(section: str, names: Iterable[str]) -> Iterator[Problem]:
    for name in names:
        said = _ELSEWHERE.get(name.removesuffix("_FILE"))
        if name.startswith("PORTICO_"):
            said = "names that begin with PORTICO_ are the kit's own; choose another"
        if said:
            yield Problem((section, name), f"does not go here: {said}")


def _role_problems(hosts: Mapping[str, HostEntry], *, celery: bool) -> Iterator[Problem]:
    for name, host in hosts.items():
        for role in sorted({role for role in host.roles if host.roles.count(role) > 1}):
            yield Problem(("hosts", name, "roles"), f"{role} is listed twice; remove one")
    for role in ROLES:
        having = [name for name, host in hosts.items() if role in host.roles]
        if role in OF_CELERY and not celery:
            for name in having:
                yield Problem(
                    ("hosts", name, "roles"), f"{role} is for Celery, which the project does not use; remove it"
                )
            continue
        if not having and role in SITE_ROLES:
            some = "one host" if role == "beat" else "a host"
            yield Problem(("hosts",), f"no host has the role {role}; give it to {some}")
        if role not in ("web", "worker"):
            for name in having[1:]:
                yield Problem(("hosts", name, "roles"), f"{role} is on {having[0]} already; give it to one host only")


def _service_problems(
    hosts: Mapping[str, HostEntry], services: Services, *, celery: bool, redis: Redis | None
) -> Iterator[Problem]:
    if services.broker is not None and not celery:
        yield Problem(("services", "broker"), "is for Celery, which the project does not use; remove it")
    # Redis on a host is the broker too, if the project says so.
    brokers = redis is not None and redis.broker and any("redis" in host.roles for host in hosts.values())
    for role in ("database", "broker") if celery and not brokers else ("database",):
        having = next((name for name, host in hosts.items() if role in host.roles), None)
        elsewhere = getattr(services, role) is not None
        if having and elsewhere:
            yield Problem(("services", role), f"{having} has the role {role}; remove one of the two")
        if not having and not elsewhere:
            remedy = f"give it to one host, or set services.{role}"
            if role == "broker" and redis is not None and redis.broker:
                remedy = "give the role redis to one host, or set services.broker to a database of that Redis"
            yield Problem(("hosts",), f"no host has the role {role}; {remedy}")


def _redis_problems(hosts: Mapping[str, HostEntry], said: Mapping[str, Any], redis: Redis | None) -> Iterator[Problem]:
    """Redis is on a host, or elsewhere, if the project declares it; a broker in it is no other broker."""
    having = next((name for name, host in hosts.items() if "redis" in host.roles), "")
    services, secrets = said.get("services", Services()), said.get("secrets", {})
    if having and not redis:
        what = "is for a project that has `services: {redis: {}}` in invoke.yaml; remove it, or write that"
        yield Problem(("hosts", having, "roles"), f"redis {what}")
    elif having:
        if services.redis is not None:
            yield Problem(("services", "redis"), f"{having} has the role redis; remove one of the two")
        for name in ("REDIS_URL", "CACHE_URL"):
            if {name, f"{name}_FILE"} & set(secrets):
                yield Problem(("secrets", name), f"{having} has the role redis, which gives it; remove one of the two")
        if redis and redis.broker and services.broker is not None:
            what = f"{having} has the role redis, and Redis is the broker (project.services.redis.broker)"
            yield Problem(("services", "broker"), f"{what}; remove one of the two")
    elif redis and services.redis is None and "REDIS_URL" not in secrets:
        yield Problem(("hosts",), "no host has the role redis; give it to one host, or set services.redis")
    for name, host in hosts.items():
        if redis and redis.broker and "broker" in host.roles:
            what = "broker is RabbitMQ, and Redis is the broker (project.services.redis.broker in invoke.yaml)"
            yield Problem(("hosts", name, "roles"), f"{what}; remove it")


def _same_addresses(hosts: Mapping[str, HostEntry], port: int) -> Iterator[Problem]:
    first: dict[tuple[str, int], str] = {}
    for name, host in hosts.items():
        own = host.port if "port" in host.model_fields_set else port
        other = first.setdefault(((host.address or name).lower(), own), name)
        if other != name:
            yield Problem(("hosts", name), f"has the same address and port as {other}; merge the two, or fix one")


def _without_private_address(hosts: Mapping[str, HostEntry]) -> Iterator[Problem]:
    """Hosts that may be outside of the others' private network: their connections would come from other addresses."""
    having = next((name for name, host in hosts.items() if host.private_address), None)
    for name, host in hosts.items():
        if having and not host.private_address and not _is_private(host.address or name):
            remedy = f"set it to the address by which {having} reaches this host"
            yield Problem(("hosts", name), f"has no private_address, and {having} has one: {remedy}")


def _is_private(address: str) -> bool:
    try:
        return not ip_address(address).is_global
    except ValueError:
        return False


def _no_dump(hosts: Mapping[str, HostEntry], said: Mapping[str, object]) -> Iterator[Problem]:
    if said.get("backup") and not any("database" in host.roles for host in hosts.values()):
        yield Problem(("backup",), "needs a host with the role database: remove it, and back up the database elsewhere")


def _redirects_without_https(said: Mapping[str, object]) -> Iterator[Problem]:
    known = {"https_only", "tls", "trusted_proxies"} <= said.keys()
    if known and said["https_only"] and not said["tls"] and not said["trusted_proxies"]:
        remedy = "set tls, or trusted_proxies where a load balancer does it"
        yield Problem(("https_only",), f"redirects to HTTPS, but nothing serves HTTPS: {remedy}")


def known_environments(root: Path) -> list[str]:
    """The names of the environments that have a file."""
    return sorted(path.stem for path in (root / FOLDER).glob("*.yaml") if path.name != Path(EXAMPLE).name)
