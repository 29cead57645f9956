"""What a project adds to its stacks, and whether Compose and nginx take it: asked before anything is replaced."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import replace

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.shell import Run
from deploy.docker import stack as stacks
from deploy.docker.stack import Stack, nginx_files
from deploy.project import local, proxy

#: Seconds for Compose to read its files, and for a container to test nginx's: its image may have to be pulled.
READ_SECONDS, TEST_SECONDS = 60, 300
#: The script that unpacks nginx's files from base64 and tests them, in a container without a network.
_TEST = "base64 -d | tar -x -C /etc/nginx/site && nginx -t -q -c /etc/nginx/site/nginx.conf"


def services(stack: Stack) -> tuple[str, ...]:
    """The services that only the project's own compose files define. Raises `Failure` for files with a mistake."""
    files = stack.own_files
    if not files:
        return ()
    ours = stack.compose("config", "--services")
    words = list(ours.argv)
    for name in files:
        at = words.index(name)
        del words[at - 1 : at + 1]
    without = shell.run(replace(ours, argv=words, seconds=READ_SECONDS), capture=True, check=False)
    both = shell.run(replace(ours, seconds=READ_SECONDS), capture=True, check=False)
    if both.code and not without.code:
        raise Failure(f"{' or '.join(files)}: {shell.last_line(both.stderr)}")
    return tuple(name for name in both.stdout.split() if name not in without.stdout.split())


def beside(stack: Stack) -> tuple[str, ...]:
    """The services that start before the site: the servers, and what the project adds."""
    return (*stack.datastores, *services(stack))


def nginx_test(stack: Stack, engine: Mapping[str, str] | None = None) -> Run:
    """The command that tests nginx's files, in its image; ``engine`` has the variables that name another engine.

    They go in as a stream, which a remote engine gets too. The key of a certificate is only in memory.
    """
    image = image_of(stack, "nginx")
    words = ["run", "--rm", "--interactive", "--network", "none", "--tmpfs", "/etc/nginx/site", "--entrypoint", "sh"]
    packed = base64.b64encode(_packed(nginx_files(stack))).decode()
    return Run(["docker", *words, image, "-c", _TEST], engine or {}, input=packed, secret=True, seconds=TEST_SECONDS)


def require_nginx(stack: Stack, engine: Mapping[str, str] | None = None) -> None:
    """Raise `Failure` if nginx does not take the project's own lines."""
    if stack.front().own == local.NOTHING:
        return
    tested = shell.run(nginx_test(stack, engine), capture=True, check=False)
    if tested.code:
        raise Failure(f"nginx rejects its configuration: {proxy.complaint(tested.stderr)}")


def check(stack: Stack) -> None:
    """Raise `Failure` for problems that would stop a rollout later, those of the project's own files among them."""
    stacks.check(stack)
    services(stack)
    require_nginx(stack)


def image_of(stack: Stack, service: str) -> str:
    """The image of a service, which the project may have replaced."""
    shown = shell.run(replace(stack.compose("config", "--format", "json"), seconds=READ_SECONDS), capture=True).stdout
    return str(json.loads(shown)["services"][service]["image"])


def _packed(texts: Mapping[str, str]) -> bytes:
    with io.BytesIO() as output:
        with tarfile.open(fileobj=output, mode="w") as archive:
            for name, text in texts.items():
                entry = tarfile.TarInfo(name)
                data = text.encode()
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        return output.getvalue()
