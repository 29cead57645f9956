"""The container engine, for every suite that needs one: skipping without it, networks, the acceptance suite."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy import doctor
from deploy.core.errors import Failure
from deploy.core.shell import Run, run
from tests import support
from tests.rig.visitor import ADMIN


def together(*jobs: Callable[[], object]) -> None:
    """Run all jobs in parallel and wait for them; then raise the first failure."""
    with ThreadPoolExecutor() as pool:
        started = [pool.submit(job) for job in jobs]
    for job in started:
        job.result()


def network(name: str) -> Iterator[str]:
    """Create a network; returns its addresses. Fixed addresses for containers need a network with an explicit range."""
    docker("network", "create", name)
    for _ in range(5):
        subnet = docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", name).strip()
        docker("network", "rm", name)
        # Another network may have got the range meanwhile.
        with contextlib.suppress(Failure):
            docker("network", "create", "--subnet", subnet, name)
            break
        docker("network", "create", name)
    hosts = map(str, ipaddress.ip_network(subnet).hosts())
    next(hosts)  # the gateway
    return hosts


def engine_or_skip(items: list[pytest.Item], image: str = "") -> None:
    """Skip the tests, with the reason, if no engine answers or it lacks an image of the rig."""
    if not items:
        return
    why = doctor.why_native()
    if not why and image and not docker("image", "ls", "-q", image).strip():
        why = f"the engine has no image {image}"
    if why:
        for item in items:
            item.add_marker(pytest.mark.skip(reason=f"{why}; `tests/rig/up` installs one on Debian"))


def docker(*words: str, check: bool = True) -> str:
    """The output of a docker command."""
    result = run(Run(["docker", *words]), capture=True, check=check)
    return result.stdout + (result.stderr if words[0] == "logs" else "")


#: Of containers that were entered: the first process, and when it was started.
_INITS: dict[str, tuple[int, str]] = {}
#: As root has it in a machine.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def inside(container: str) -> list[str]:
    """What runs a command in a container that is a machine, as root.

    Tests ask often, and beside what enters its namespaces, `docker exec` takes ten times the processor time.
    """
    pid, began = _INITS.get(container, (0, ""))
    if not os.geteuid() and (not pid or _started(pid) != began):
        pid = int(docker("inspect", "--format", "{{.State.Pid}}", container, check=False).strip() or 0)
        _INITS[container] = (pid, _started(pid))
    if not pid:
        return ["docker", "exec", "-i", container]
    return ["nsenter", "--target", str(pid), "--all", "env", "-i", "HOME=/root", f"PATH={PATH}"]


def _started(pid: int) -> str:
    """When a process of this machine was started, in ticks since the machine was; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def accept(url: str, ca: str = "") -> None:
    """Run the acceptance suite on a site with our administrator; it must pass."""
    command = [sys.executable, "-m", "pytest", "tests/acceptance", "-q", "-p", "no:cacheprovider"]
    options = ["--base-url", url, "--admin", ADMIN, "--require", "acceptance"]
    done = subprocess.run(
        [*command, *options, *(["--ca", ca] if ca else [])],
        cwd=support.ROOT,
        env=support.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert re.search(r"\d+ passed", done.stdout)
