"""Whether what runs beside this is well: exits 0 or 1. Standard library only, to be quick.

healthcheck.py http://127.0.0.1:8000/readyz     that address answers, and not with an error
healthcheck.py /tmp/ready [SECONDS]             that file exists, and was touched within so many seconds
"""

import os
import sys
import time
from http.client import HTTPConnection
from urllib.parse import urlsplit

#: Seconds for an answer.
TIMEOUT = 4


def host() -> str:
    """A name that the site answers to: the first of ALLOWED_HOSTS."""
    first = os.environ.get("ALLOWED_HOSTS", "").split(",")[0].strip().lstrip(".")
    return first if first not in ("", "*") else "localhost"


def problem(target: str, seconds: float) -> str:
    """What is wrong; empty when nothing is."""
    if not target.startswith("http"):
        try:
            age = time.time() - os.path.getmtime(target)
        except FileNotFoundError:
            return "not at work yet"
        return f"no sign of life for {age:.0f} s" if age > seconds else ""
    address = urlsplit(target)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT)
    try:
        # As our own proxy asks, or the answer would be a redirect to HTTPS.
        connection.request("GET", address.path, headers={"Host": host(), "X-Forwarded-Proto": "https"})
        response = connection.getresponse()
        text = response.read(500).decode(errors="replace").strip()
        shown = "" if text.startswith("<") else text  # a page says nothing in one line
        return "" if response.status < 400 else f"{address.path}: {response.status} {shown}".strip()
    except OSError as error:
        return f"{address.path}: {error}"
    finally:
        connection.close()


if __name__ == "__main__":
    said = problem(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else float("inf"))
    if said:
        sys.exit(said)
