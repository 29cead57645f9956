"""The last step of setup: what a deploy and a visitor will do is tried, and what stands in the way is named."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from deploy.core.errors import Failure
from deploy.core.running import printable
from deploy.hosts.environment.model import Environment, Host
from deploy.hosts.setup.site import Site
from deploy.hosts.ssh.channel import run_script, script
from deploy.hosts.ssh.connect import Connection, Connections

#: What a deploy needs at a time on one host: the lock, a phase, and one that was opened ahead.
CHANNELS = 3
SECONDS = 120
#: Files of keys that setup writes to.
_OWN_FILES = {".ssh/authorized_keys", "%h/.ssh/authorized_keys"}


@dataclass(frozen=True)
class Tried:
    """What a host got when it tried what it needs (`scripts/prove.sh`)."""

    #: Of `visit`, `database`, `broker`: the address, and `ok` or why not.
    answers: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    #: Firewalls that are not ours, with the port that they close.
    closed: Sequence[tuple[str, str]] = ()
    #: What sshd does with the deploy user, by key.
    sshd: Mapping[str, Sequence[str]] = field(default_factory=dict)
    groups: Sequence[str] = ()
    #: Files of the user's keys: whether each has one of the administrator's.
    keys: Mapping[str, str] = field(default_factory=dict)
    #: Folders in which sshd reads no keys, as others may write there.
    loose: Sequence[str] = ()


def prove(
    site: Site,
    hosts: Sequence[Host],
    admin: Connections,
    as_root: Callable[[Connection, str, bytes], str],
    *,
    called: Mapping[str, str],
    without: Collection[str] = (),
) -> tuple[dict[str, Failure], list[str]]:
    """Log in as the deploy user, and let each host try what it needs; returns failures by host, and remarks.

    The servers of the hosts ``without`` are not expected to answer: their own setup has failed, which says why.
    ``called``: what each host calls the site. ``as_root`` runs a script as root over a connection of ``admin``, and
    returns its output.
    """
    text = script("prove.sh")
    tried = admin.on_all(hosts, lambda each: parse(as_root(each, text, header(site.on(called[each.name]), each.host))))
    with Connections(admin.known, owner=site.owner) as connections:
        logins = connections.on_all(hosts, lambda each: _login(site.on(called[each.name]), each))
    failed, remarks = dict[str, Failure](), list[str]()
    for host in hosts:
        found, login = tried[host.name], logins[host.name]
        if isinstance(found, Failure):
            failed[host.name] = found
            continue
        lines = [*wrong(site.environment, host, found, without)]
        if isinstance(login, Failure):
            own = login.message.removeprefix(f"{host.name}: ").partition("; `invoke remote-setup")[0]
            lines.insert(0, no_login(host, found) or own)
        elif login > 1:
            few = " ".join(found.sshd.get("maxsessions", ())) or "few"
            said = f"sshd allows {few} sessions in a connection (MaxSessions): a deploy opens {login} connections"
            remarks.append(f"{host.name}: {said}")
        if lines:
            failed[host.name] = Failure("\n".join(f"{host.name}: {line}" for line in lines))
    return failed, remarks


def _login(site: Site, connection: Connection) -> int:
    """Log in as the deploy user, and run the helper; returns how many connections a deploy needs."""
    channels = [connection.shell() for _ in range(CHANNELS - 1)]
    try:
        result = run_script(connection, script("login.sh"), seconds=60)
    finally:
        for channel in channels:
            channel.close()
    if result.code:
        raise Failure(f"{connection.name}: {connection.host.user} cannot run {site.layout.helper}: {result.last_line}")
    return connection.number


def header(site: Site, host: Host) -> bytes:
    """The input of `scripts/prove.sh`."""
    environment = site.environment
    values = (site.layout.name, environment.domain, "https" if environment.tls else "http", host.user)
    return "".join(f"{value}\n" for value in values).encode()


# --- Decisions. Pure. ---


def parse(text: str) -> Tried:
    """Parse what a host said."""
    answers, sshd, keys = dict[str, list[tuple[str, str]]](), dict[str, list[str]](), dict[str, str]()
    closed, groups, loose = list[tuple[str, str]](), list[str](), list[str]()
    for line in text.splitlines():
        what, _, rest = line.partition(" ")
        first, _, more = rest.partition(" ")
        match what:
            case "visit" | "database" | "broker" | "redis":
                answers.setdefault(what, []).append((first, printable(more)))
            case "sshd":
                sshd.setdefault(first, []).extend(more.split())
            case "keys":
                keys[first] = more
            case "closed":
                closed.append((first, more))
            case "groups":
                groups = rest.split()
            case "loose":
                loose.append(rest)
    return Tried(answers, closed, sshd, groups, keys, loose)


def wrong(environment: Environment, host: Host, tried: Tried, without: Collection[str] = ()) -> Iterator[str]:
    """What a host did not get, a line each."""
    names = {each.private_address: each.name for each in environment.hosts if each != host}
    for program, port in tried.closed:
        allow = f"ufw allow {port}/tcp" if program == "ufw" else f"firewall-cmd --permanent --add-port={port}/tcp"
        again = "" if program == "ufw" else " and `firewall-cmd --reload`"
        yield f"{program} lets no visitor in on port {port}: `{allow}`{again}"
    for _, why in tried.answers.get("visit", ()):
        if why != "ok":
            yield f"a visit of {environment.domain} through nginx fails: {why}; `journalctl -u nginx` there may say why"
    for what in ("database", "broker", "redis"):
        for address, why in tried.answers.get(what, ()):
            if why != "ok" and names.get(address) not in without:
                where = f" on {names[address]}" if address in names else ""
                server = "Redis" if what == "redis" else f"the {what}"
                yield f"cannot use {server}{where}: {why}"


def no_login(host: Host, tried: Tried) -> str:
    """What in the host's sshd keeps the deploy user out, with the remedy; empty if nothing is found."""
    reload = "in sshd's configuration (/etc/ssh), then `systemctl reload ssh`"
    return next((f"{host.user} cannot log in: {why.format(reload=reload)}" for why in _no_login(host, tried)), "")


def _no_login(host: Host, tried: Tried) -> Iterator[str]:
    user, sshd, groups = host.user, tried.sshd, tried.groups or [host.user]
    for key, names, said in (("users", [user], "AllowUsers"), ("groups", groups, "AllowGroups")):
        if (allowed := sshd.get(f"allow{key}", ())) and not _matches(allowed, names):
            yield f"{said} there is {' '.join(allowed)}: add {names[0]} to it {{reload}}"
        if (denied := sshd.get(f"deny{key}", ())) and _matches(denied, names):
            yield f"{said.replace('Allow', 'Deny')} there is {' '.join(denied)}: take {user} out of it {{reload}}"
    if sshd.get("pubkeyauthentication") == ["no"]:
        yield f"sshd takes no keys: write `Match User {user}` with `PubkeyAuthentication yes` {{reload}}"
    methods = sshd.get("authenticationmethods", ["any"])
    if not {"any", "publickey"} & {*methods}:
        own = f"`Match User {user}` with `AuthenticationMethods publickey`"
        yield f"sshd wants more than a key ({' '.join(methods)}): write {own} {{reload}}"
    if tried.loose:
        folders = " ".join(tried.loose)
        yield f"others may write in {' and '.join(tried.loose)}, so sshd reads no keys there: `chmod go-w {folders}`"
    files = sshd.get("authorizedkeysfile", ())
    if files and not _OWN_FILES & {*files}:
        yield f"sshd reads its keys from {' '.join(tried.keys)}: put the key that deploys there"
    if tried.keys and "yes" not in tried.keys.values():
        file = next((path for path, found in tried.keys.items() if found == "no"), next(iter(tried.keys)))
        yield f"{file} has none of the administrator's keys: add the key that deploys, or name its own with identity"


def _matches(patterns: Sequence[str], names: Sequence[str]) -> bool:
    """Whether one of the names matches sshd's patterns; what follows an @ in a pattern is a host, and counts as any."""
    plain = [each.partition("@")[0] for each in patterns if not each.startswith("!")]
    barred = [each[1:].partition("@")[0] for each in patterns if each.startswith("!")]
    return any(
        any(fnmatchcase(name, each) for each in plain) and not any(fnmatchcase(name, each) for each in barred)
        for name in names
    )
