"""A steady load on a site of this machine: half are votes, each by a new visitor; half are pages and their files."""

import random
import re
import secrets
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from types import TracebackType
from typing import Self

#: The maximum number of requests of one load, and the default for the seconds after which it ends by itself.
MOST_REQUESTS, MOST_SECONDS = 100_000, 900


@dataclass
class Load:
    """Clients that send requests to 127.0.0.1, each over its own connection."""

    port: int
    clients: int = 6
    #: Seconds that a client waits after each request: six of them send up to 16 requests a second. A faster load takes
    #: the processors from the deploy, which then takes longer instead of meeting more requests.
    rest: float = 0.35
    #: The name of the site that is asked for.
    host: str = "localhost"
    #: Seconds after which it ends by itself.
    most_seconds: float = MOST_SECONDS
    #: What the page of a maintenance says: a 503 with that page is no failure.
    maintenance: str = ""
    codes: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    accepted: int = 0
    files: set[str] = field(default_factory=set)

    def __enter__(self) -> Self:
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._began = time.monotonic()
        page = self._ask("GET", "/")[1]
        self.poll = re.findall(r'href="(/\d+/)"', page)[0]
        self.choice = re.findall(r'name="choice" value="(\d+)"', self._ask("GET", self.poll)[1])[0]
        self._threads = [threading.Thread(target=self._client, args=(n,), daemon=True) for n in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(30)

    @property
    def total(self) -> int:
        return sum(self.codes.values()) + len(self.failures)

    def _client(self, number: int) -> None:
        while (
            not self._end.is_set() and self.total < MOST_REQUESTS and time.monotonic() < self._began + self.most_seconds
        ):
            if number % 2:
                self._vote()
            elif self.files and random.random() < 0.4:
                self._get(random.choice(sorted(self.files)))
            else:
                page = self._get(random.choice(["/", self.poll, f"{self.poll}results/"]))
                # Every file in a page of any release: a page that is still open must find all of them.
                self.files |= set(re.findall(r'(?:href|src)="(/static/[^"]+)"', page))
            time.sleep(self.rest)

    def _get(self, path: str) -> str:
        began = time.monotonic()
        code, text = self._count("GET", path)
        if self._is_maintenance(code, text):
            return ""
        if code and code != 200:
            self._fail(f"GET {path}: {code}", began)
        return text

    def _vote(self) -> None:
        token = secrets.token_hex(16)
        body = f"csrfmiddlewaretoken={token}&choice={self.choice}"
        began = time.monotonic()
        code, text = self._count("POST", self.poll, body, {"Cookie": f"csrftoken={token}"})
        if self._is_maintenance(code, text):
            return
        if code == 302:
            with self._lock:
                self.accepted += 1
        elif code:
            self._fail(f"POST {self.poll}: {code}", began)

    def _is_maintenance(self, code: int, text: str) -> bool:
        return code == 503 and bool(self.maintenance) and self.maintenance in text

    def _count(self, method: str, path: str, body: str = "", headers: dict[str, str] | None = None) -> tuple[int, str]:
        began = time.monotonic()
        try:
            code, text = self._ask(method, path, body, headers)
        except (TimeoutError, HTTPException, OSError) as error:
            self._fail(f"{method} {path}: {error!r}", began)
            return 0, ""
        with self._lock:
            self.codes[code] += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
        return code, text

    def _ask(self, method: str, path: str, body: str = "", headers: dict[str, str] | None = None) -> tuple[int, str]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            more = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
            connection.request(
                method, path, body or None, {"Connection": "close", "Host": self.host, **more, **(headers or {})}
            )
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")
        finally:
            connection.close()

    def _fail(self, line: str, began: float) -> None:
        """Record a failure, with the time at which its request was sent."""
        with self._lock:
            self.failures.append(f"{began - self._began:.1f} s: {line}")

    def sent_after(self, moment: float) -> list[str]:
        """The failures of requests sent after a moment, in seconds of the monotonic clock."""
        return [line for line in self.failures if float(line.partition(" ")[0]) > moment - self._began]

    def report(self) -> str:
        return f"{self.total} requests, {len(self.failures)} failed, slowest {self.slowest:.2f} s, {dict(self.codes)}"
