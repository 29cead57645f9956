"""The health check of a container: exits with 0 or 1.

python -m portico_site.healthcheck http://127.0.0.1:8000/readyz     this URL answers without an error
                                   http://… --first "/readyz /"     until all of these paths have answered once, check
                                                                    them instead
                                   /tmp/ready [SECONDS]             this file exists, and was touched within so many
                                                                    seconds

It runs every second while a container starts, and every few seconds later. So it imports as little as possible: with
`http.client` and `urllib`, it takes more than twice the processor time.
"""

import os
import socket
import sys
import time

#: Seconds for a whole answer.
TIMEOUT = 4
#: Bytes of an answer that are read; more than the JSON of `/readyz` needs.
MOST = 4000
#: Created when all of the first paths have answered: from then on a database that is down does not make it unhealthy.
BEEN_READY = "/tmp/been-ready"


def host() -> str:
    """A host name of the site: the first of ALLOWED_HOSTS."""
    first = os.environ.get("ALLOWED_HOSTS", "").split(",")[0].strip().lstrip(".")
    return first if first not in ("", "*") else "localhost"


def ask(address: str, port: int, path: str) -> tuple[int, str]:
    """The status and the beginning of the text of an answer. Raises OSError without one, or for one that is no HTTP."""
    end = time.monotonic() + TIMEOUT
    # The same headers as from our proxy; otherwise the answer would be a redirect to HTTPS.
    headers = f"Host: {host()}\r\nX-Forwarded-Proto: https\r\nConnection: close"
    answer = b""
    with socket.create_connection((address, port), TIMEOUT) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\n{headers}\r\n\r\n".encode())
        while len(answer) < MOST:
            connection.settimeout(max(end - time.monotonic(), 0.001))
            piece = connection.recv(MOST)
            if not piece:
                break
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise OSError("its answer is not HTTP")
    return int(words[1]), body.decode(errors="replace").strip()


def problem(target: str, seconds: float) -> str:
    """What is wrong; empty if it is healthy."""
    if not target.startswith("http"):
        try:
            age = time.time() - os.path.getmtime(target)
        except FileNotFoundError:
            return "not running yet"
        return f"no heartbeat for {age:.0f} s" if age > seconds else ""
    where, _, rest = target.removeprefix("http://").partition("/")
    address, _, port = where.partition(":")
    path = f"/{rest}"
    try:
        status, text = ask(address, int(port or 80), path)
    except OSError as error:
        return f"{path}: {error}"
    shown = "" if text.startswith("<") else text[:500]  # HTML does not fit in one line
    return "" if status < 400 else f"{path}: {status} {shown}".strip()


def first_problem(target: str, paths: list[str]) -> str:
    """The readiness problem until it has been ready once; afterwards only the liveness problem."""
    if os.path.exists(BEEN_READY):
        return problem(target, 0)
    start = target[: target.index("/", len("http://"))]
    for path in paths:
        if said := problem(start + path, 0):
            return said
    with open(BEEN_READY, "w"):
        pass
    return ""


def main(target: str, *more: str) -> str:
    if more[:1] == ("--first",):
        return first_problem(target, more[1].split())
    return problem(target, float(more[0]) if more else float("inf"))


if __name__ == "__main__":
    if said := main(*sys.argv[1:]):
        sys.exit(said)
