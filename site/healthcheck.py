"""Whether what runs beside this is well: exits 0 or 1. Standard library only, to be quick.

    healthcheck.py http://127.0.0.1:8000/readyz     that address answers 200
    healthcheck.py /tmp/ready [SECONDS]             that file exists, and was touched within so many seconds
"""

import os
import sys
import time
import urllib.error
import urllib.request

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
    request = urllib.request.Request(target, headers={"Host": host()})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=TIMEOUT):
            return ""
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read(500).decode(errors='replace').strip()}"
    except OSError as error:
        return str(error)


if __name__ == "__main__":
    said = problem(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else float("inf"))
    if said:
        sys.exit(said)
