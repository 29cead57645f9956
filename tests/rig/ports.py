"""Ports of this machine for the tests, which several processes at once never share."""

import contextlib
import itertools
import os
import random
import socket
from collections.abc import Iterator

#: Below those of outgoing connections (Linux: net.ipv4.ip_local_port_range), above those that Chromium refuses.
PORTS = range(20_000, 32_000)


def share(number: int, processes: int) -> range:
    """The ports of one of so many test processes; the first has the number 0."""
    return PORTS[number % processes :: processes]


def _endless() -> Iterator[int]:
    """The ports of this process, from anywhere among them: other test runs may go on beside this one."""
    number = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    own = share(int(number), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    begin = random.randrange(len(own))
    return itertools.cycle([*own[begin:], *own[:begin]])


_PORTS = _endless()


def free_port() -> int:
    """A port that nobody listens on. It is not given again soon: what listened there may be started again."""
    while True:
        port = next(_PORTS)
        with contextlib.suppress(OSError), socket.socket() as listener:
            listener.bind(("", port))
            return port
