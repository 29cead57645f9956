"""The ports that a host's firewall opens, and to which addresses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from deploy.hosts.environment.model import Host
from deploy.hosts.environment.values import Role
from deploy.hosts.layout import BROKER_PORT, DATABASE_PORT, REDIS_PORT
from deploy.hosts.setup.diff import Desired, File, Group, Idle, Unit
from deploy.hosts.setup.site import Learned, Site, has_files, template_text
from deploy.project import proxy

#: The ports of servers that have no rules of their own for who may connect.
_UNGUARDED: dict[Role, int] = {"broker": BROKER_PORT, "redis": REDIS_PORT}


def with_firewall(site: Site, host: Host, learned: Learned) -> Desired:
    layout = site.layout
    table = layout.name.replace("-", "_")
    unit = f"{layout.name}-firewall.service"
    if site.environment.firewall:
        rules = "\n".join(_rules(site, host, learned))
        text = template_text("files/firewall.nft", name=layout.name, table=table, rules=rules)
    else:
        ports = [port for role, port in _UNGUARDED.items() if role in host.roles]
        rules = "\n".join(rule for port in ports for rule in _admitting(site.others(host), port, learned))
        said = str(ports[0]) if len(ports) == 1 else f"{{ {', '.join(map(str, ports))} }}"
        text = template_text("files/servers.nft", name=layout.name, table=table, rules=rules, ports=said)
    files = (
        File(str(layout.etc / "firewall.nft"), text),
        File(
            f"/etc/systemd/system/{unit}",
            template_text("units/firewall.service", name=layout.name, etc=str(layout.etc), table=table),
        ),
    )
    if not site.environment.firewall and not set(_UNGUARDED) & set(host.roles):
        return Desired(idle=(Idle(unit),), absent=tuple(file.path for file in files))
    return Desired(
        packages=("nftables",),
        groups=(Group(files, check="firewall"),),
        units=(Unit(unit, reload_for=tuple(file.path for file in files)),),
    )


def _rules(site: Site, host: Host, learned: Learned) -> Iterator[str]:
    yield f'        tcp dport {{ {", ".join(map(str, learned.ports))} }} accept comment "SSH"'
    if "web" in host.roles:
        yield f"        tcp dport {{ {'80, 443' if site.environment.tls else '80'} }} accept"
    for protocol in ("tcp", "udp"):
        if ports := sorted({port.number for port in host.open_ports if port.protocol == protocol}):
            yield f'        {protocol} dport {{ {", ".join(map(str, ports))} }} accept comment "open_ports"'
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
            yield f"        {family} saddr {{ {', '.join(some)} }} tcp dport {port} accept"
