"""Hosts and environments that cannot be set up, and why."""

from __future__ import annotations

from collections.abc import Iterator

from deploy import OLDEST
from deploy.hosts.environment.model import Environment, Host
from deploy.hosts.layout import APP, NGINX_GROUP
from deploy.hosts.setup.diff import Facts
from deploy.hosts.setup.site import is_site

#: Who may not be the user that deploys: it is to have no more rights than the helper gives.
RESERVED = {"root", APP, NGINX_GROUP, "postgres", "rabbitmq"}
#: Groups whose members may do, or read, what root may.
POWERFUL = {"root", "sudo", "wheel", "adm", "disk", "docker", "lxd", "systemd-journal"}


def refusal(host: Host, facts: Facts) -> str:
    """Why a host cannot be set up; empty when it can."""
    system, version = facts.system
    number = tuple(int(part) for part in version.split(".") if part.isdecimal())
    if system not in ("debian", "ubuntu") or number < ((12,) if system == "debian" else (22, 4)):
        return f"is {system} {version}; a host is Debian 12 or newer, or Ubuntu 22.04 LTS or newer"
    if system == "ubuntu" and (number[0] % 2 or number[1:2] != (4,)):
        return f"is ubuntu {version}, which has no long support; install an LTS release"
    if not facts.systemd:
        return "is not run by systemd, which the site's units need"
    python = facts.python or ((3, 10) if (system, number) == ("ubuntu", (22, 4)) else OLDEST)
    if is_site(host) and python < OLDEST:
        have, need = (".".join(map(str, each)) for each in (python, OLDEST))
        return f"has Python {have}, and the site needs {need}: install Debian 12 or Ubuntu 24.04"
    return next(_too_many_rights(facts), "")


def _too_many_rights(facts: Facts) -> Iterator[str]:
    """Of users that were there before us, who are to have no rights but those that we give."""
    for user, groups in facts.groups.items():
        for group in sorted(POWERFUL & {*groups}):
            yield f"{user} is in the group {group}, with which it may do more than deploy: gpasswd -d {user} {group}"
        if groups[:1] != (user,):
            yield f"{user} has no group of its own: groupadd -f {user} && usermod -g {user} {user}"


def complaints(environment: Environment) -> list[str]:
    """What is wrong with an environment that no host needs to be asked for, a line each."""
    return [
        f"{environment.source}: {host.name}: {host.user} cannot be the user that deploys; name another with user"
        for host in environment.hosts
        if host.user in RESERVED or host.user == host.admin
    ]
