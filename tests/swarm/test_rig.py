"""The rig itself: it waits for everything that it starts."""

import ssl
import subprocess
import threading
from pathlib import Path

import httpx
import pytest

from tests.rig import nodes
from tests.rig.engine import docker, network
from tests.rig.nodes import Authority, Registry

#: Seconds by which the container starts later than it is asked for, as on a busy machine.
LATE = 2.0


def start_late(*words: str) -> str:
    """Start a container after a while; returns at once."""
    threading.Timer(LATE, subprocess.run, [["docker", *words]], {"check": True, "capture_output": True}).start()
    return ""


def test_a_registry_that_was_started_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"rig-{tmp_path.stat().st_ino}"
    hosts = network(name)
    registry = Registry(f"{name}-registry", next(hosts), name, Authority(tmp_path), tmp_path, "user", "password")
    try:
        with monkeypatch.context() as patched:
            patched.setattr(nodes, "docker", start_late)
            registry.start()
        trusting = ssl.create_default_context(cafile=str(registry.ca))
        assert httpx.get(f"https://{registry.address}/v2/", verify=trusting, trust_env=False).status_code == 401
    finally:
        registry.down()
        docker("network", "rm", name)
