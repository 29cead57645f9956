"""nginx in front of the replicas: which of them it sends requests to, and the change from some to others."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from deploy.compose.containers import replicas
from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.shell import Run
from deploy.docker.stack import Stack, laid, nginx_steps
from deploy.project import limits, proxy

#: Seconds within which nginx must start new processes, and that it needs to look up the names that they are told.
RELOAD_SECONDS, RESOLVE_SECONDS = 20, 1.0


def serve(stack: Stack, upstream: Sequence[str], *, wait: bool = False, files: Mapping[str, str] | None = None) -> None:
    """Switch nginx to these replicas; with ``wait``, return when no process of it knows any others.

    Its configuration is then that of the work tree, or those ``files``. In two steps: first it learns the addresses,
    still serving by those before; then it uses them. Raises `Failure` for a configuration that it does not take; then
    the files are as they were, too.
    """
    before = laid(stack).nginx
    try:
        _switch(stack, upstream, files, wait=wait)
    except Failure:
        if before:
            shell.perform(nginx_steps(stack, proxy.serving(before["http.conf"]), files=before))
        raise


@contextmanager
def only(stack: Stack, upstream: Sequence[str], files: Mapping[str, str], *, wait: bool) -> Iterator[None]:
    """nginx sends requests to these replicas alone meanwhile, and afterwards to all that there are.

    What fails within is what is told; nginx may then go on by these, and the next command has it know all again.
    """
    serve(stack, upstream, wait=wait, files=files)
    try:
        yield
    except BaseException:
        with suppress(Failure):
            serve(stack, proxy.ALL, files=files)
        raise
    serve(stack, proxy.ALL, files=files)


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
    """Have nginx take its configuration, and return when it has; with ``wait``, when none of its processes goes by
    the one before, or `limits.DRAIN` have passed. Raises `Failure` when nginx does not take it: it goes on as it was.
    """
    nginx = ["docker", "exec", front, "nginx", "-c", "/etc/nginx/site/nginx.conf"]
    tested = shell.run(Run([*nginx, "-q", "-t"]), capture=True, check=False)
    if tested.code:
        raise Failure(f"nginx does not take its configuration: {proxy.complaint(tested.stderr)}")
    before = nginx_workers(front)
    shell.run(Run([*nginx, "-s", "reload"]), capture=True)
    began = time.monotonic()
    while not (now := nginx_workers(front)) - before:
        if time.monotonic() - began > RELOAD_SECONDS:
            raise Failure(f"{front} has not taken its configuration within {RELOAD_SECONDS} s: `docker logs {front}`")
        time.sleep(0.1)
    while wait and now & before and time.monotonic() - began < limits.DRAIN:
        time.sleep(0.1)
        now = nginx_workers(front)


def nginx_workers(container: str) -> set[int]:
    """The ids of the processes that serve, those included that only finish what they have.

    Raises `Failure` when the engine does not tell: no answer is not "none".
    """
    listed = shell.run(Run(["docker", "top", container, "-eo", "pid,args"]), capture=True).stdout
    return {int(line.split()[0]) for line in listed.splitlines() if "worker process" in line}


def current_upstream(stack: Stack) -> tuple[str, ...]:
    path = stack.secrets / "nginx" / "http.conf"
    return proxy.serving(path.read_text()) if path.exists() else proxy.ALL
