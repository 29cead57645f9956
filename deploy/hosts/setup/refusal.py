"""Why a host or an environment cannot be set up."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from deploy import OLDEST
from deploy.hosts.environment.model import Environment, Host
from deploy.hosts.environment.owner import Owner
from deploy.hosts.layout import APP, NGINX_GROUP
from deploy.hosts.setup.diff import ABSENT, Facts
from deploy.hosts.setup.servers import NGINX
from deploy.hosts.setup.site import is_site

#: Users that cannot be the deploy user: it must have no rights except those that the helper gives.
RESERVED = {"root", APP, NGINX_GROUP, "postgres", "rabbitmq"}
#: What `--take-over` names.
TAKEN_OVER = ("owner",)
#: Groups whose members have root's rights, or may read what root may.
POWERFUL = {"root", "sudo", "wheel", "adm", "disk", "docker", "lxd", "systemd-journal"}


def refusal(host: Host, facts: Facts, lowest: tuple[int, int] = OLDEST) -> str:
    """Why a host cannot be set up; empty if it can. ``lowest``: the oldest Python that the site's locks are for."""
    system, version = facts.system
    number = tuple(int(part) for part in version.split(".") if part.isdecimal())
    if system not in ("debian", "ubuntu") or number < ((12,) if system == "debian" else (22, 4)):
        return f"is {system} {version}; install Debian 12 or newer, or Ubuntu 22.04 LTS or newer"
    if system == "ubuntu" and (number[0] % 2 or number[1:2] != (4,)):
        return f"is ubuntu {version}, which has no long-term support; install an LTS release"
    if not facts.systemd:
        return "does not run systemd, which the site's units need"
    python = facts.python or ((3, 10) if (system, number) == ("ubuntu", (22, 4)) else OLDEST)
    if is_site(host) and python < lowest:
        have, need = (".".join(map(str, each)) for each in (python, lowest))
        system = (
            "Debian 12 or Ubuntu 24.04"
            if lowest <= OLDEST
            else "Debian 13 or Ubuntu 24.04"
            if lowest <= (3, 12)
            else "Debian 13"
        )
        return f"has Python {have}, but the site needs {need}: install {system}"
    return next(_too_many_rights(facts), "")


def not_ours(owner: Owner, domain: str, facts: Facts, take_over: Collection[str]) -> str:
    """Why a host is another's; empty if it is ours, free, or handed over by ``take_over``."""
    handed = "owner" in take_over
    if mark := facts.mark:
        said = owner.refusal(mark)
        return "" if handed and owner.may_take_over(mark) else said
    if others := sorted(facts.sites - {owner.project}):
        return (
            f"this host is {' and '.join(others)}'s, by an earlier version; yours is {owner.whose}: check name in "
            "invoke.yaml and the host's address, or use another host"
        )
    # Without a mark, the names that nginx serves tell two environments of a project apart.
    text = facts.entries.get(f"{NGINX}/server.conf", ABSENT).text or ""
    served = re.search(r"server_name ([^;]+);", text)
    if owner.project in facts.sites and served and domain not in served[1].split() and not handed:
        return (
            f"an earlier version has set this host up for {served[1].split()[0]}; yours is {owner.whose}, {domain}: "
            f"use another host; {owner.hand_over}"
        )
    return ""


def _too_many_rights(facts: Facts) -> Iterator[str]:
    """Problems of users that existed before setup: they must have no rights except those that setup gives."""
    for user, groups in facts.groups.items():
        for group in sorted(POWERFUL & {*groups}):
            yield f"{user} is in the group {group}, which may do more than deploy: gpasswd -d {user} {group}"
        if groups[:1] != (user,):
            yield f"{user} has no group of its own: groupadd -f {user} && usermod -g {user} {user}"


def problems(environment: Environment) -> list[str]:
    """The problems of an environment that are visible without its hosts, a line each."""
    return [
        f"{environment.source}: {host.name}: {host.user} cannot be the deploy user; name another with user"
        for host in environment.hosts
        if host.user in RESERVED or host.user == host.admin
    ]
