"""One greedy client, with Python alone: `python greedy.py HOST PORT SECONDS`; prints a line of JSON.

It holds connections that say nothing, headers that come slowly and bodies that never end, and asks for exports and
votes as fast as it can, each as a new visitor.
"""

import http.client
import json
import re
import socket
import sys
import threading
import time
from collections import Counter
from contextlib import suppress

IDLE, BODIES, HEADERS, ASKING = 800, 100, 100, 12
#: More requests that would change something than one client may send at once.
BURST = 300
HOST, PORT, SECONDS = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
END = time.monotonic() + SECONDS
statuses: Counter[str] = Counter()
held: list[socket.socket] = []


def hold(number: int, text: bytes) -> None:
    """Open connections, say this on each, and no more."""
    for _ in range(number):
        with suppress(OSError):
            connection = socket.create_connection((HOST, PORT), 5)
            held.append(connection)
            connection.sendall(text)


def ask() -> None:
    """Ask for an export or vote, each time as a new visitor."""
    number = 0
    while time.monotonic() < END:
        number += 1
        try:
            connection = http.client.HTTPConnection(HOST, PORT, timeout=20)
            path = "/exports/" if number % 2 else "/1/"
            connection.request("GET", path, headers={"Host": "localhost"})
            page = connection.getresponse()
            cookies = "; ".join(each.split(";")[0] for each in page.headers.get_all("Set-Cookie") or [])
            token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.read().decode())
            statuses[str(page.status)] += 1
            if token:
                choice = "" if number % 2 else "&choice=1"
                headers = {"Host": "localhost", "Cookie": cookies, "Content-Type": "application/x-www-form-urlencoded"}
                connection.request("POST", path, f"csrfmiddlewaretoken={token[1]}{choice}", headers)
                answer = connection.getresponse()
                answer.read()
                statuses[str(answer.status)] += 1
            connection.close()
        except (OSError, http.client.HTTPException) as error:
            statuses[type(error).__name__] += 1


def trickle(slow: list[socket.socket]) -> None:
    while time.monotonic() < END:
        for each in slow:
            with suppress(OSError):
                each.sendall(b"X-Slow: 1\r\n")
        time.sleep(2)


hold(BODIES, b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9900000\r\n\r\n" + b"x" * 200_000)
hold(HEADERS, b"GET / HTTP/1.1\r\nHost: localhost\r\n")
slow = held[-HEADERS:]
hold(IDLE, b"")
# Beside those, whole requests.
threads = [threading.Thread(target=ask) for _ in range(ASKING)] + [threading.Thread(target=trickle, args=(slow,))]
for thread in threads:
    thread.start()
burst = []
for _ in range(BURST):
    with suppress(OSError):
        burst.append(socket.create_connection((HOST, PORT), 5))
# All are open before the first says anything: however slow this machine is, they arrive at once.
for each in burst:
    with suppress(OSError):
        each.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
for each in burst:
    with suppress(OSError, IndexError):
        each.settimeout(20)
        statuses[each.recv(100).split()[1].decode()] += 1
for thread in threads:
    thread.join()
print(json.dumps({"held": len(held), "statuses": statuses}))
