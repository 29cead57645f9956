"""Ports of this machine for tests; parallel processes never share one."""

import contextlib
import itertools
import os
import random
import socket
from collections.abc import Iterator

#: Below the ports of outgoing connections (Linux: net.ipv4.ip_local_port_range), above those that Chromium blocks.
PORTS = range(20_000, 32_000)


def share(number: int, processes: int) -> range:
    """The ports of test process ``number``, counted from 0, of ``processes``."""
    return PORTS[number % processes :: processes]


def _endless() -> Iterator[int]:
    """The ports of this process, starting at a random one, because other test runs may be active."""
    number = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    own = share(int(number), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    begin = random.randrange(len(own))
    return itertools.cycle([*own[begin:], *own[:begin]])


_PORTS = _endless()


def free_port() -> int:
    """A port on which no program listens. It is not reused soon, because its program may be restarted."""
    while True:
        port = next(_PORTS)
        with contextlib.suppress(OSError), socket.socket() as listener:
            listener.bind(("", port))
            return port
