"""What a visitor and the servers of a host get, as reported by `scripts/health.sh`, and what is wrong with it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from deploy.core.running import printable
from deploy.hosts.release import state
from deploy.hosts.release.state import HostState
from deploy.project import maintenance

#: Days before a certificate ends within which it is wrong: renewal begins 30 days before. Of one that is valid for a
#: shorter time, a fourth of that: it is renewed when a third is left.
CERTIFICATE_DAYS, CERTIFICATE_SHARE = 21, 0.25
#: Less is free: a share of a file system, and kilobytes. A release needs 200 MB.
LEAST_SHARE, LEAST_KILOBYTES = 0.05, 200_000
#: A backup is made each day; one is late after as long as two take, and some hours.
BACKUP_SECONDS = 54 * 60 * 60


@dataclass(frozen=True)
class Answer:
    """What the site answers through nginx; the code is 0 for no answer."""

    path: str
    code: int
    words: str = ""

    @property
    def is_good(self) -> bool:
        return 100 <= self.code < 400


@dataclass(frozen=True)
class Disk:
    """A file system in use, in kilobytes."""

    folder: str
    free: int
    total: int

    @property
    def is_full(self) -> bool:
        return self.free < LEAST_KILOBYTES or self.free < LEAST_SHARE * self.total


@dataclass
class Backups:
    """The backups of a host; times in seconds since the epoch, None for never."""

    last: int | None = None
    #: When one failed, if none has been made since.
    failed: int | None = None
    proved: int | None = None
    #: Whether the last proof has failed.
    disproved: bool = False


@dataclass
class Health:
    """What a host says."""

    answers: list[Answer] = field(default_factory=list)
    #: nginx, postgresql, rabbitmq, redis, firewall, as far as the host has them: `ok`, or what is wrong.
    servers: dict[str, str] = field(default_factory=dict)
    disks: list[Disk] = field(default_factory=list)
    #: When the certificate that nginx shows ends, in seconds since the epoch; None without one.
    certificate: int | None = None
    #: From when on it is valid; None if the host does not say.
    certified: int | None = None
    #: Of a certificate that the hosts themselves renew: whether there has been none yet, and when and why it failed.
    uncertified: bool = False
    renewal: tuple[int, str] | None = None
    #: Who changes the host now.
    lock: str = ""
    #: None without a repository of backups.
    backups: Backups | None = None
    restarts: dict[str, int] = field(default_factory=dict)


def parse(text: str) -> Health:
    """Parse the facts of a host. Skips lines that it cannot parse, and those of `state.parse`."""
    health = Health()
    for line in text.splitlines():
        with suppress(ValueError):
            _take(health, *line.partition(" ")[::2])
    return health


def _take(health: Health, key: str, value: str) -> None:
    match key:
        case "answer":
            path, code, words = value.split(" ", 2)
            health.answers.append(Answer(path, int(code), words.strip()))
        case "server":
            name, said = value.split(" ", 1)
            health.servers[name] = said
        case "disk":
            folder, free, total = value.split()
            health.disks.append(Disk(folder, int(free), int(total)))
        case "certificate":
            health.certificate, *rest = map(int, value.split())
            health.certified = next(iter(rest), None)
        case "renewal":
            seconds, _, why = value.partition(" ")
            health.uncertified |= seconds == "never"
            health.renewal = health.renewal if seconds == "never" else (int(seconds), why)
        case "lock":
            health.lock = value
        case "backup":
            health.backups = health.backups or Backups()
            _take_backup(health.backups, value.split())
        case "restarts":
            unit, number = value.split()
            health.restarts[unit] = int(number)


def _take_backup(backups: Backups, words: Sequence[str]) -> None:
    match words:
        case ["due", seconds]:
            backups.failed = int(seconds)
        case ["last", seconds, _]:
            backups.last = int(seconds)
        case ["proved", how, seconds, _]:
            backups.proved, backups.disproved = int(seconds), how != "ok"


def days(health: Health, now: float) -> int | None:
    """Days that the certificate is still valid, rounded down; None if there is none, or none that the hosts ordered."""
    return None if health.certificate is None or health.uncertified else int((health.certificate - now) // 86400)


def left_over(has: HostState, health: Health, environment: str) -> list[str]:
    """The units that a killed command has left: active ones of another release, while nobody changes the host."""
    if health.lock or not has.current:
        return []
    return [
        f"{unit.kind} of {unit.release} still runs, which a command that was killed has started:"
        f" `invoke remote-deploy --env {environment}` ends it"
        for unit in has.units
        if unit.state == "active" and unit.kind != "manage" and unit.release != has.current
    ]


def wrong(roles: Sequence[str], has: HostState, health: Health, environment: str, now: float) -> Iterator[str]:
    """What is wrong with a host, a line each, with the remedy."""
    setup = f"`invoke remote-setup --env {environment}`"
    if not has.setup:
        yield f"{state.unready(has)}: {setup}"
        if not has.roles:
            return
    elif not has.marked:
        yield f"{state.UNMARKED}: {setup}"
    yield from _wrong_units(roles, has, environment)
    for server, said in health.servers.items():
        if said != "ok":
            unit = {"rabbitmq": "rabbitmq-server", "redis": "'*-redis'"}.get(server, server)
            yield f"{server}: {said}: `journalctl -u {unit}` on the host shows why, {setup} starts it"
    for answer in health.answers:
        if has.current and not answer.is_good:
            what = f"answers {answer.code}" if answer.code else "does not answer"
            yield f"{answer.path} {what} through nginx{f': {answer.words}' if answer.words else ''}"
    for disk in health.disks:
        if disk.is_full:
            yield f"{disk.folder} has {disk.free / 1e6:.1f} of {disk.total / 1e6:.1f} GB free: make room there"
    if health.backups and has.setup:
        yield from _wrong_backups(health.backups, environment, now)
    if line := _wrong_certificate(health, setup, now):
        yield line


def _wrong_certificate(health: Health, setup: str, now: float) -> str:
    """What is wrong with the certificate, by its days and, if the host renews it, by the last try; empty if nothing."""
    left = days(health, now)
    ends = "" if left is None else f"ends in {left} days" if left >= 0 else "has ended"
    if health.uncertified:
        why = f"{health.renewal[1]}; then {setup}" if health.renewal else f"{setup} orders it"
        return f"has no certificate yet: {why}"
    if health.renewal:
        seconds, why = health.renewal
        return f"its certificate {ends or 'is not shown'}, and was not renewed {ago(seconds, now)}: {why}; then {setup}"
    if left is None or left >= _fewest_days(health):
        return ""
    return f"its certificate {ends}: renew it, then {setup}"


def _fewest_days(health: Health) -> float:
    if health.certificate is None or health.certified is None:
        return CERTIFICATE_DAYS
    return min(CERTIFICATE_DAYS, CERTIFICATE_SHARE * (health.certificate - health.certified) / 86400)


def _wrong_backups(backups: Backups, environment: str, now: float) -> Iterator[str]:
    again = f"`invoke remote-backup --env {environment}`"
    if backups.failed is not None:
        when = ago(backups.failed, now)
        yield f"its last backup failed {when}: `journalctl -u '*-backup@*'` on the host shows why; {again}"
    elif backups.last is None:
        yield f"has no backup yet: {again}"
    elif now - backups.last > BACKUP_SECONDS:
        yield f"its last backup was made {ago(backups.last, now)}, and one is due each day: {again}"
    if backups.disproved:
        yield f"its last backup could not be restored: `journalctl -u '*-backup@*'` shows why; {again}, then --verify"


def ago(seconds: int, now: float) -> str:
    """How long ago something was, as people say it."""
    hours = max(0, int((now - seconds) // 3600))
    return f"{hours // 24} days ago" if hours >= 48 else f"{hours} hours ago" if hours else "within the hour"


def said_of_backups(backups: Backups, now: float) -> str:
    """The last backup and the last proof, in words."""
    made = "none yet" if backups.last is None else f"made {ago(backups.last, now)}"
    proved = "" if backups.proved is None else f", proved {ago(backups.proved, now)}"
    return f"{made}{'' if backups.disproved else proved}"


def _wrong_units(roles: Sequence[str], has: HostState, environment: str) -> Iterator[str]:
    for role in state.missing(has, roles):
        yield f"{role} does not run: `invoke remote-logs --env {environment} --role {role}` shows why"
    if {"web", "worker", "beat"} & set(roles) and not has.current:
        yield f"has no release: `invoke remote-deploy --env {environment}`"


def as_data(
    roles: Sequence[str], has: HostState, health: Health, problems: Sequence[str], now: float
) -> dict[str, object]:
    """A host in the shape of `remote-status --json`, which the room's page documents."""
    return {
        "name": has.name,
        "roles": list(roles),
        "release": has.current or None,
        "units": [
            {"kind": unit.kind, "release": unit.release, "state": unit.state, "restarts": restarts(health, unit)}
            for unit in has.units
        ],
        "answers": {answer.path: answer.code for answer in health.answers},
        "servers": {name: printable(said) for name, said in health.servers.items()},
        "disks": [
            {"folder": each.folder, "free_bytes": each.free * 1024, "total_bytes": each.total * 1024}
            for each in health.disks
        ],
        "certificate_days": days(health, now),
        "backup": health.backups
        and {
            "seconds_ago": None if health.backups.last is None else int(now - health.backups.last),
            "proved_seconds_ago": None if health.backups.proved is None else int(now - health.backups.proved),
            "proved": None if health.backups.proved is None else not health.backups.disproved,
        },
        "changed_by": printable(health.lock) or None,
        "maintenance": None if has.maintenance is None else printable(maintenance.said(has.maintenance)),
        "problems": list(problems),
    }


def restarts(health: Health, unit: state.RunningUnit) -> int:
    """How often systemd has restarted a unit since its release was activated; also after a boot without its servers."""
    return next((n for name, n in health.restarts.items() if f"-{unit.kind}@{unit.release}." in name), 0)
