"""The health check of a container: exits with 0 or 1. Standard library only, to be fast.

python -m portico_site.healthcheck http://127.0.0.1:8000/readyz     this URL answers without an error
                                   http://… --first "/readyz /"     until all of these paths have answered once, check
                                                                    them instead
                                   /tmp/ready [SECONDS]             this file exists, and was touched within so many
                                                                    seconds
"""

import os
import sys
import time
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urljoin, urlsplit

#: Seconds for an answer.
TIMEOUT = 4
#: Created when all of the first paths have answered: from then on a database that is down does not make it unhealthy.
BEEN_READY = Path("/tmp/been-ready")


def host() -> str:
    """A host name of the site: the first of ALLOWED_HOSTS."""
    first = os.environ.get("ALLOWED_HOSTS", "").split(",")[0].strip().lstrip(".")
    return first if first not in ("", "*") else "localhost"


def problem(target: str, seconds: float) -> str:
    """What is wrong; empty if it is healthy."""
    if not target.startswith("http"):
        try:
            age = time.time() - os.path.getmtime(target)
        except FileNotFoundError:
            return "not running yet"
        return f"no heartbeat for {age:.0f} s" if age > seconds else ""
    address = urlsplit(target)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT)
    try:
        # The same headers as from our proxy; otherwise the answer would be a redirect to HTTPS.
        connection.request("GET", address.path, headers={"Host": host(), "X-Forwarded-Proto": "https"})
        response = connection.getresponse()
        text = response.read(500).decode(errors="replace").strip()
        shown = "" if text.startswith("<") else text  # HTML does not fit in one line
        return "" if response.status < 400 else f"{address.path}: {response.status} {shown}".strip()
    except OSError as error:
        return f"{address.path}: {error}"
    finally:
        connection.close()


def first_problem(target: str, paths: list[str]) -> str:
    """The readiness problem until it has been ready once; afterwards only the liveness problem."""
    if BEEN_READY.exists():
        return problem(target, 0)
    for path in paths:
        if said := problem(urljoin(target, path), 0):
            return said
    BEEN_READY.touch()
    return ""


def main(target: str, *more: str) -> str:
    if more[:1] == ("--first",):
        return first_problem(target, more[1].split())
    return problem(target, float(more[0]) if more else float("inf"))


if __name__ == "__main__":
    if said := main(*sys.argv[1:]):
        sys.exit(said)
