"""The certificate of an ACME directory: one web host orders and renews it, and hands it to the others.

`scripts/certificate.sh` does that on the hosts, by a timer; no client and no deploy has a part in it.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

from deploy.core.errors import Failure
from deploy.hosts.environment.model import Environment, Host
from deploy.hosts.layout import Layout, site_name
from deploy.hosts.setup.diff import Change, Desired, Facts, File, Folder, Group, Idle, Unit
from deploy.hosts.setup.site import Learned, Plan, Site, template_text
from deploy.hosts.ssh.channel import script
from deploy.hosts.ssh.connect import Connection, Connections
from deploy.project import proxy

#: Seconds for an order: the directory asks each web host, and may take its time.
SECONDS = 900


# --- Decisions. Pure. ---


def orders(site: Site, host: Host) -> bool:
    """Whether a host shows the certificate of a directory."""
    return bool(site.environment.acme) and "web" in host.roles


def issuer(environment: Environment) -> Host:
    """The host that orders the certificate."""
    return environment.with_role("web")[0]


def hands_over(site: Site, host: Host) -> bool:
    """Whether a host orders the certificate for others too."""
    environment = site.environment
    return bool(environment.acme) and issuer(environment).name == host.name and len(environment.with_role("web")) > 1


def peers_name(site: Site) -> str:
    """What the nginx of other hosts is asked for; the same on all hosts, whatever each calls the site."""
    return f"{site_name(site.project.name, site.environment.name)}.peers"


def issued(environment: Environment) -> str:
    """What a host notes when it has the certificate: by whom, through which host, and for which names."""
    assert environment.acme
    return " ".join([environment.acme.directory, issuer(environment).name, *environment.certified]) + "\n"


def with_certificate(site: Site, host: Host, learned: Learned) -> Desired:
    """The part of a host's desired state that orders and renews the certificate, or gets it from the host that does."""
    if not orders(site, host):
        return _without(site.layout)
    layout, mine = site.layout, issuer(site.environment).name == host.name
    service, timer = layout.certificate_units
    unit = template_text(
        "units/certificate.service",
        name=layout.name,
        program=str(layout.library / "certificate"),
        record=str(layout.certificate_record),
        nginx=str(layout.nginx),
        root=str(layout.root),
    )
    # The directory is asked twice a day whether it is time, as certbot's own timer does; the other web hosts look each
    # hour whether there is a new one.
    when, spread = ("*-*-* 00,12:00:00", "6h") if mine else ("hourly", "20min")
    text = template_text("units/certificate.timer", name=layout.name, when=when, spread=spread)
    known = _known(site, host, learned)
    files = (
        File(str(layout.library / "certificate"), f"#!/bin/sh\n{script('certificate.sh')}", mode=0o755),
        File(str(layout.etc / "certificate.conf"), _configuration(site, host, learned)),
        *(File(str(layout.etc / name), text) for name, text in known.items() if text),
        File(f"/etc/systemd/system/{service}", unit),
        File(f"/etc/systemd/system/{timer}", text),
    )
    return Desired(
        packages=("openssl", "certbot") if mine else ("openssl",),
        folders=(
            Folder(str(layout.certificate_record)),
            *([Folder(str(layout.challenges)), Folder(str(layout.handover))] if mine else []),
        ),
        groups=(Group(files),),
        absent=tuple(str(layout.etc / name) for name in _KNOWN if name not in known),
        units=(Unit(timer, restart_for=(f"/etc/systemd/system/{timer}",)),),
        servers=("certificate",),
    )


#: What a host knows of a directory and of other hosts.
_KNOWN = ("acme_ca.crt", "recipients.pem", "sender.crt")


def _known(site: Site, host: Host, learned: Learned) -> dict[str, str]:
    """The files of `_KNOWN` that a host has, by name; empty for one whose text is not known yet."""
    first = issuer(site.environment)
    if first.name != host.name:
        return {"sender.crt": learned.handover.get(first.name, "")}
    others = [each.name for each in site.environment.with_role("web") if each.name != host.name]
    texts = [learned.handover.get(name, "") for name in others]
    acme = site.environment.acme
    return {
        **({"acme_ca.crt": site.authority} if acme and acme.ca else {}),
        **({"recipients.pem": "".join(texts) if all(texts) else ""} if others else {}),
    }


def _configuration(site: Site, host: Host, learned: Learned) -> str:
    """Assignments that a shell reads."""
    environment, first = site.environment, issuer(site.environment)
    acme = environment.acme
    assert acme
    values = {"ISSUED": issued(environment).strip()}
    if first.name == host.name:
        values |= {"DIRECTORY": acme.directory, "EMAIL": acme.email or "", "NAMES": " ".join(environment.certified)}
    else:
        address = learned.of(first)[0]
        shown = f"[{address}]" if ":" in address else address
        values |= {
            "ISSUER": first.name,
            "FROM": f"http://{shown}:{proxy.PEERS_PORT}/handover",
            "PEERS": peers_name(site),
        }
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def unit_files(layout: Layout) -> tuple[str, ...]:
    return tuple(f"/etc/systemd/system/{each}" for each in layout.certificate_units)


def _without(layout: Layout) -> Desired:
    """What certbot has stays until the site is removed."""
    _, timer = layout.certificate_units
    known = (str(layout.etc / name) for name in ("certificate.conf", *_KNOWN))
    return Desired(absent=(*unit_files(layout), str(layout.library / "certificate"), *known), idle=(Idle(timer),))


def later(site: Site, host: Host, facts: Facts) -> tuple[Change, ...]:
    """The order that setup places when all hosts are ready; nothing if the host has the certificate."""
    acme = site.environment.acme
    if not acme or not orders(site, host):
        return ()
    if facts.issued == hashlib.sha256(issued(site.environment).encode()).hexdigest():
        return ()
    names, first = ", ".join(site.environment.certified), issuer(site.environment)
    if first.name == host.name:
        return (Change(f"order a certificate for {names} at {urlsplit(acme.directory).hostname}", ()),)
    return (Change(f"get the certificate for {names} from {first.name}", ()),)


# --- Doing it. ---


def obtain(
    site: Site,
    hosts: Sequence[Host],
    plans: Mapping[str, Plan],
    connections: Connections,
    as_root: Callable[[Connection, str, bytes], object],
) -> dict[str, Failure]:
    """Order the certificate, and hand it to the other hosts; returns failures by host.

    ``as_root`` runs a script as root over a connection. Without the certificate a host keeps the one it shows.
    """
    first = issuer(site.environment)
    web = [host for host in hosts if orders(site, host)]
    for part in ([host for host in web if host == first], [host for host in web if host != first]):
        done = connections.on_all(
            part, lambda each: as_root(each, script("certify.sh"), f"{plans[each.name].called}\n".encode())
        )
        if failed := {name: each for name, each in done.items() if isinstance(each, Failure)}:
            return failed
    return {}
