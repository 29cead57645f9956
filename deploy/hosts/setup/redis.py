"""The desired state of Redis on the host that runs it: a server of the site's own, beside any that is there."""

from __future__ import annotations

from ipaddress import ip_address

from deploy.hosts.environment.model import Host
from deploy.hosts.layout import REDIS_PORT
from deploy.hosts.setup.diff import Desired, File, Folder, Group, Idle, Unit
from deploy.hosts.setup.site import Learned, Site, template_text
from deploy.project import services
from deploy.project.services import Redis


def _paths(site: Site) -> dict[str, str]:
    layout = site.layout
    return {"configuration": str(layout.etc / "redis.conf"), "unit": f"/etc/systemd/system/{layout.redis_unit}"}


def with_redis(site: Site, host: Host, learned: Learned) -> Desired:
    """Its password is made on the host (`scripts/redis.sh`). A program there that is not ours goes on as it was."""
    layout, redis, paths = site.layout, site.project.redis or Redis(), _paths(site)
    configuration = template_text(
        "files/redis.conf",
        bind=" ".join(("127.0.0.1", "-::1", *_inside(site, host, learned))),
        port=str(REDIS_PORT),
        folder=f"{layout.name}-redis",
        limits="\n".join(services.limits(redis)),
    )
    memory = host.max_memory.get("redis", f"{2 * redis.memory}M")
    unit = template_text("units/redis.service", name=layout.name, etc=str(layout.etc), memory=memory)
    files = (File(paths["configuration"], configuration), File(paths["unit"], unit))
    return Desired(
        packages=("redis-tools", "ssl-cert"),
        folders=(Folder(str(layout.etc)),),
        groups=(Group(files),),
        units=(Unit(layout.redis_unit, restart_for=tuple(file.path for file in files)),),
        servers=("redis",),
    )


def _inside(site: Site, host: Host, learned: Learned) -> list[str]:
    """The addresses at which the site's other hosts reach it: none without others; all if it does not know its own."""
    if not site.others(host):
        return []
    own = [address for address in learned.of(host) if not _is_loopback(address)]
    return own or ["*", "-::*"]


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def without_redis(site: Site) -> Desired:
    """Stop a server that the site no longer uses, and keep its data."""
    etc, unit = site.layout.etc, site.layout.redis_unit
    known = (str(site.layout.password("redis")), str(etc / "redis.password.conf"), *_paths(site).values())
    return Desired(absent=known, idle=(Idle(unit),))


def variables(site: Site) -> tuple[str, ...]:
    """The lines that name it to the site, with {} for the password and for the address."""
    if not site.project.redis:
        return ()
    checked = f"ssl_cert_reqs=required&ssl_ca_certs={site.layout.certificate('redis')}&ssl_check_hostname=false"
    named = services.variables(site.project.redis, f"rediss://:{{}}@{{}}:{REDIS_PORT}")
    return tuple(f"{name}={url}?{checked}" for name, url in named.items())
