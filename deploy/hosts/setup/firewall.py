"""The ports that a host's firewall opens, and to which addresses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Literal

from deploy.hosts.environment.model import Host
from deploy.hosts.environment.values import Role
from deploy.hosts.layout import BROKER_PORT, DATABASE_PORT, FIREWALL, FIREWALL_UNIT, REDIS_PORT, Layout
from deploy.hosts.setup.diff import Desired, File, Group, Idle, Unit
from deploy.hosts.setup.site import Learned, Site, has_files, template_text
from deploy.project import proxy

#: The ports of servers that have no rules of their own for who may connect.
_UNGUARDED: dict[Role, int] = {"broker": BROKER_PORT, "redis": REDIS_PORT}
#: The shared part, into which the parts of the sites are read.
_MAIN = str(FIREWALL / "main.nft")
_UNIT_FILE = f"/etc/systemd/system/{FIREWALL_UNIT}"


def with_firewall(site: Site, host: Host, learned: Learned) -> Desired:
    """The site's part of the host's firewall. A site with `firewall: false` opens its ports in that of another."""
    layout, closes = site.layout, list(_closing(site, host))
    unit = f"{layout.name}-firewall.service"
    # Of an earlier version, whose firewall was the site's alone; stopped when ours is there.
    old = (str(layout.etc / "firewall.nft"), f"/etc/systemd/system/{unit}") if layout.earlier else ()
    retired = Desired(retired=(Idle(unit, old[0]),) if old else (), retired_files=old)
    opening = _part(layout, "open", [] if not closes and not learned.others else _rules(site, host, learned))
    closing = _part(layout, "close", closes)
    if not closes and not learned.others:
        shared = (_MAIN, _UNIT_FILE)
        return replace(retired, idle=(Idle(FIREWALL_UNIT),), absent=(*shared, opening.path, closing.path))
    files = (
        *((opening, closing) if closes else (opening,)),
        File(_MAIN, template_text("files/firewall.nft"), common=True),
        File(_UNIT_FILE, template_text("units/firewall.service"), common=True),
    )
    return replace(
        retired,
        packages=("nftables",),
        groups=(Group(files, check="firewall"),),
        absent=() if closes else (closing.path,),
        units=(Unit(FIREWALL_UNIT, reload_for=(*(file.path for file in files), closing.path)),),
    )


def _part(layout: Layout, part: Literal["open", "close"], rules: Iterable[str]) -> File:
    lines = "\n".join(f"add rule inet portico_hosts input {rule}" for rule in rules)
    return File(str(layout.firewall(part)), template_text(f"files/firewall.{part}.nft", name=layout.name, rules=lines))


def _closing(site: Site, host: Host) -> Iterator[str]:
    """What is dropped when no site has opened it: all, or the ports of servers without rules of their own."""
    if site.environment.firewall:
        yield "drop"
        return
    yield from (f"tcp dport {port} drop" for role, port in _UNGUARDED.items() if role in host.roles)


def _rules(site: Site, host: Host, learned: Learned) -> Iterator[str]:
    if site.environment.firewall:
        yield "ct state invalid drop"
    yield f'tcp dport {{ {", ".join(map(str, learned.ports))} }} accept comment "SSH"'
    if "web" in host.roles:
        yield f"tcp dport {{ {'80, 443' if site.environment.tls else '80'} }} accept"
    for protocol in ("tcp", "udp"):
        if ports := sorted({port.number for port in host.open_ports if port.protocol == protocol}):
            yield f'{protocol} dport {{ {", ".join(map(str, ports))} }} accept comment "open_ports"'
    others = site.others(host)
    if "database" in host.roles:
        yield from _admitting(others, DATABASE_PORT, learned)
    for role, port in _UNGUARDED.items():
        if role in host.roles:
            yield from _admitting(others, port, learned)
    if has_files(host):
        yield from _admitting([other for other in others if "web" in other.roles], proxy.PEERS_PORT, learned)


def _admitting(hosts: Iterable[Host], port: int, learned: Learned) -> Iterator[str]:
    addresses = dict.fromkeys(address for host in hosts for address in learned.of(host))
    for family, marks in (("ip", False), ("ip6", True)):
        if some := [address for address in addresses if (":" in address) == marks]:
            yield f"{family} saddr {{ {', '.join(some)} }} tcp dport {port} accept"
