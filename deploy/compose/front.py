"""nginx in front of the replicas: which of them it sends requests to, and the change from some to others."""

from __future__ import annotations

import time
from collections.abc import Sequence

from deploy.compose.containers import replicas
from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.shell import Run, WriteSecret
from deploy.docker.stack import READABLE, Stack, nginx_steps
from deploy.project import proxy

#: Seconds to wait for nginx processes that still serve old connections; those then go on without the old replicas.
DRAIN_SECONDS = 60
#: Seconds for nginx to start new processes, and to look up the names that they are told.
RELOAD_SECONDS, RESOLVE_SECONDS = 5, 1.0


def serve(stack: Stack, upstream: Sequence[str], *, wait: bool = False) -> None:
    """Turn nginx to these replicas; with ``wait``, return when no process of it knows any others.

    In two steps: first it learns the addresses, still serving by those before; then it uses them. Raises `Failure` for
    a configuration that it does not take; then the files are as they were, too.
    """
    laid = [path for path in (stack.secrets / "nginx").glob("*") if path.is_file()]
    before = [WriteSecret(path, path.read_text(), READABLE) for path in laid]
    try:
        _turn(stack, upstream, wait=wait)
    except Failure:
        shell.perform(before)
        raise


def _turn(stack: Stack, upstream: Sequence[str], *, wait: bool) -> None:
    fronts = [each.name for each in replicas(stack.name, "nginx") if each.running]
    before = current_upstream(stack)
    if fronts and set(before) != set(upstream):
        shell.perform(nginx_steps(stack, before, [name for name in upstream if name not in before]))
        for front in fronts:
            reload(front)
        time.sleep(RESOLVE_SECONDS)
    shell.perform(nginx_steps(stack, upstream))
    for front in fronts:
        reload(front, wait=wait)


def reload(front: str, *, wait: bool = False) -> None:
    """Have nginx take its configuration, and return when it has; with ``wait``, when none of its processes goes by
    the one before. Raises `Failure` for a configuration that it does not take: it goes on as it was."""
    nginx = ["docker", "exec", front, "nginx", "-c", "/etc/nginx/site/nginx.conf"]
    tested = shell.run(Run([*nginx, "-q", "-t"]), capture=True, check=False)
    if tested.code:
        raise Failure(f"nginx does not take its configuration: {proxy.complaint(tested.stderr)}")
    before = nginx_workers(front)
    shell.run(Run([*nginx, "-s", "reload"]), capture=True)
    began = time.monotonic()
    while True:
        now, seconds = nginx_workers(front), time.monotonic() - began
        if (now - before or seconds > RELOAD_SECONDS) and not (wait and now & before and seconds < DRAIN_SECONDS):
            return
        time.sleep(0.1)


def nginx_workers(container: str) -> set[int]:
    """The ids of the processes that serve, those included that only finish what they have."""
    listed = shell.run(Run(["docker", "top", container, "-eo", "pid,args"]), capture=True, check=False).stdout
    return {int(line.split()[0]) for line in listed.splitlines() if "worker process" in line}


def current_upstream(stack: Stack) -> tuple[str, ...]:
    path = stack.secrets / "nginx" / "http.conf"
    return proxy.serving(path.read_text()) if path.exists() else proxy.ALL
