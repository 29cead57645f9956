"""nginx in front of the replicas: the upstream to which it sends requests, and switching it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from deploy.compose.containers import replicas
from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.shell import Run
from deploy.docker.mounted import mounted
from deploy.docker.stack import Stack, nginx_steps
from deploy.project import limits, proxy

#: Seconds within which nginx must start new processes, and seconds that these need to resolve the upstream's names.
RELOAD_SECONDS, RESOLVE_SECONDS = 20, 1.0


def switch_upstream(
    stack: Stack, upstream: Sequence[str], *, wait: bool = False, files: Mapping[str, str] | None = None
) -> None:
    """Switch nginx to these replicas; with ``wait``, return when no nginx process uses the earlier ones.

    nginx gets the configuration of the work tree, or ``files``. The switch has two steps: nginx first resolves the new
    names while it still uses the earlier replicas, then it uses the new ones. Raises `Failure` if nginx rejects the
    configuration; the earlier files are then restored.
    """
    before = mounted(stack).nginx
    try:
        _switch(stack, upstream, files, wait=wait)
    except Failure:
        if before:
            shell.perform(nginx_steps(stack, proxy.serving(before["http.conf"]), files=before))
        raise


@contextmanager
def route_only_to(stack: Stack, upstream: Sequence[str], files: Mapping[str, str], *, wait: bool) -> Iterator[None]:
    """Inside this context, nginx sends requests only to these replicas; afterwards, to all.

    An error inside is raised unchanged, even if nginx cannot be switched back; the next command then does that.
    """
    switch_upstream(stack, upstream, wait=wait, files=files)
    try:
        yield
    except BaseException:
        with suppress(Failure):
            switch_upstream(stack, proxy.ALL, files=files)
        raise
    switch_upstream(stack, proxy.ALL, files=files)


def _switch(stack: Stack, upstream: Sequence[str], files: Mapping[str, str] | None, *, wait: bool) -> None:
    fronts = [each.name for each in replicas(stack.name, "nginx") if each.running]
    before = current_upstream(stack)
    if fronts and set(before) != set(upstream):
        shell.perform(nginx_steps(stack, before, [name for name in upstream if name not in before], files))
        for front in fronts:
            reload(front)
        time.sleep(RESOLVE_SECONDS)
    shell.perform(nginx_steps(stack, upstream, files=files))
    for front in fronts:
        reload(front, wait=wait)


def reload(front: str, *, wait: bool = False) -> None:
    """Make nginx load its configuration, and return when it has. With ``wait``, return when all processes with the
    earlier configuration have ended, or after `limits.DRAIN` seconds. Raises `Failure` if nginx does not load it; nginx
    then keeps running with the earlier one.
    """
    nginx = ["docker", "exec", front, "nginx", "-c", "/etc/nginx/site/nginx.conf"]
    tested = shell.run(Run([*nginx, "-q", "-t"]), capture=True, check=False)
    if tested.code:
        raise Failure(f"nginx rejects its configuration: {proxy.complaint(tested.stderr)}")
    before = nginx_workers(front)
    shell.run(Run([*nginx, "-s", "reload"]), capture=True)
    began = time.monotonic()
    while not (now := nginx_workers(front)) - before:
        if time.monotonic() - began > RELOAD_SECONDS:
            raise Failure(f"{front} did not load its configuration within {RELOAD_SECONDS} s: `docker logs {front}`")
        time.sleep(0.1)
    while wait and now & before and time.monotonic() - began < limits.DRAIN:
        time.sleep(0.1)
        now = nginx_workers(front)


def nginx_workers(container: str) -> set[int]:
    """The ids of nginx's worker processes, including those that only finish their requests.

    Raises `Failure` if the engine does not answer: that does not mean that there are none.
    """
    listed = shell.run(Run(["docker", "top", container, "-eo", "pid,args"]), capture=True).stdout
    return {int(line.split()[0]) for line in listed.splitlines() if "worker process" in line}


def current_upstream(stack: Stack) -> tuple[str, ...]:
    """The replicas in the configuration that was last written for nginx."""
    path = stack.secrets / "nginx" / "http.conf"
    return proxy.serving(path.read_text()) if path.exists() else proxy.ALL
