"""The logs of the site's units on all hosts: the last lines in order of time, or every line as it comes."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from deploy.core import logs
from deploy.core.errors import Failure
from deploy.core.logs import Entry, Printer, Put, Query
from deploy.core.running import Notify
from deploy.hosts.environment.model import Host
from deploy.hosts.ssh.channel import run_script, script
from deploy.hosts.ssh.connect import Connection, Connections, failures

#: Seconds that a host has to print its last lines.
READ_SECONDS = 60
#: Seconds after which what follows a host's log is started again, so that nothing is left running there for ever.
FOLLOW_SECONDS = 3600
#: Seconds between attempts to reach a host again.
AGAIN_SECONDS = 5
#: A unit of a site: its kind, for workers of a kind that kind, and the release.
_UNIT = re.compile(r"-([a-z]+)@(?:twin-|([a-z0-9_]+):)?[^:@]*\.service$")
#: The exit code of the helper for words that it does not know.
_UNKNOWN = 64


@dataclass
class Followed:
    """How far the log of a host was read: what comes again after a new connection is left out."""

    host: str
    kind: str
    #: Seconds since the epoch, as the host wrote them; empty if nothing was read yet.
    at: str = ""
    _there: set[str] = field(default_factory=set)

    def entry(self, line: str) -> Entry | None:
        """The entry that a line of `journalctl --output json` has; None for another kind's, or if it was read."""
        try:
            said = json.loads(line)
            micros, cursor = str(said["__REALTIME_TIMESTAMP"]), str(said["__CURSOR"])
            at = f"{micros[:-6]}.{micros[-6:]}"
        except (ValueError, KeyError, TypeError):
            return None
        if cursor in self._there:
            return None
        self._there = {*self._there, cursor} if at == self.at else {cursor}
        self.at = at
        kind = kind_of(str(said.get("UNIT") or said.get("_SYSTEMD_UNIT") or ""))
        if not kind or self.kind not in ("", kind):
            return None
        return Entry(float(at), f"{self.host} {kind}", message(said.get("MESSAGE")))


def kind_of(unit: str) -> str:
    """The kind of a unit of the site: web, worker, worker_NAME, beat, release or backup; empty for another unit."""
    found = _UNIT.search(unit)
    if not found:
        return ""
    return f"{found[1]}_{found[2]}" if found[2] and found[1] == "worker" else found[1]


def message(said: object) -> str:
    """A message of the journal, which is a list of bytes if it is not UTF-8."""
    if isinstance(said, list):
        return bytes(each for each in said if isinstance(each, int) and 0 <= each < 256).decode(errors="replace")
    return str(said or "")


def show(connections: Connections, hosts: Sequence[Host], kind: str, asked: Query, notify: Notify) -> None:
    """Print the last lines of units of a kind, or of all, in order of time; then follow them if that is asked for.

    A host that does not answer keeps no other from being shown. Raises `Failure` naming it in the end.
    """
    printer = Printer(asked)
    read = {host.name: Followed(host.name, kind) for host in hosts}

    def last(connection: Connection) -> list[Entry]:
        text = f"log\n{asked.to_read}\n{since(asked.since)}\n"
        result = run_script(connection, script("log.sh"), text.encode(), seconds=READ_SECONDS)
        require_helper(connection, result.code, result.last_line)
        # The helper prints the latest first, so that it need not read what is older.
        found = map(read[connection.name].entry, reversed(result.text.splitlines()))
        return [entry for entry in found if entry]

    results = connections.on_all(hosts, last)
    entries = [entry for found in results.values() if not isinstance(found, Failure) for entry in found]
    logs.show_last(entries, asked, printer.show)
    failed = failures(results)
    if not asked.follow:
        if failed:
            raise failed
        return
    if failed and not entries and all(isinstance(found, Failure) for found in results.values()):
        raise failed
    if failed:
        notify(failed.message)
    follower = _Follower(connections, notify)
    try:
        logs.follow([partial(follower.run, host, read[host.name]) for host in hosts], asked, printer.show)
    finally:
        follower.over.set()
        connections.close()


@dataclass
class _Follower:
    """Follows the logs of hosts until ``over``; a lost connection is said, and made again where the log was left."""

    connections: Connections
    notify: Notify
    over: threading.Event = field(default_factory=threading.Event)

    def run(self, host: Host, read: Followed, put: Put) -> None:
        """Give each entry of a host as it comes."""
        lost = False

        def line(text: str) -> None:
            if entry := read.entry(text):
                put(entry)

        while not self.over.is_set():
            began = time.monotonic()
            try:
                connection = self.connections.to(host).open()
                if lost:
                    self.notify(f"{host.name}: its log is followed again")
                    lost = False
                self._read(connection, f"@{read.at}" if read.at else "0", line)
            except Failure as failure:
                if self.over.is_set():
                    return
                if not lost:
                    self.notify(f"{failure.message.partition('. ')[0]}; the other hosts' lines go on")
                lost = True
            # What ended at once would end at once again.
            self.over.wait(AGAIN_SECONDS if lost or time.monotonic() - began < AGAIN_SECONDS else 0)

    def _read(self, connection: Connection, moment: str, line: Callable[[str], None]) -> None:
        """Follow the log of a host since a moment for `FOLLOW_SECONDS`. Raises `Failure` if the host cannot do it."""

        def held_open() -> Iterator[bytes]:
            """The input's end tells the helper that nobody reads any more."""
            yield f"follow\n0\n{moment}\n".encode()
            self.over.wait(FOLLOW_SECONDS)

        limit = FOLLOW_SECONDS + READ_SECONDS
        result = run_script(connection, script("log.sh"), held_open(), seconds=limit, line=line, keep=False)
        require_helper(connection, result.code, result.last_line)


def since(moment: float) -> str:
    """The helper's word for a time: seconds before now by the host's own clock, or `-` for any time."""
    return str(max(0, round(time.time() - moment))) if moment else "-"


def require_helper(connection: Connection, code: int, said: str) -> None:
    """Raises `Failure` if the host could not print its log."""
    if code == _UNKNOWN:
        renew = f"`invoke remote-setup --env {connection.end.known.environment}` renews it"
        raise Failure(f"{connection.name}: its helper is of an earlier version: {renew}")
    if code:
        raise Failure(f"{connection.name}: cannot read its log: {said or f'exit code {code}'}")
