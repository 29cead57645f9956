"""An environment of hosts as a place: the tasks for a site that runs."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from deploy.core.action import Action, Question
from deploy.core.errors import Failure
from deploy.core.logs import Query
from deploy.core.report import ENTRIES, Grid, Report
from deploy.core.running import Notify, printable
from deploy.hosts import logs
from deploy.hosts.backup import make, restore
from deploy.hosts.environment.model import Host
from deploy.hosts.layout import LOCK, Layout
from deploy.hosts.release import deploy, health, maintenance, phases, state
from deploy.hosts.release import restart as restarting
from deploy.hosts.release import rotate as rotating
from deploy.hosts.release import scale as scaling
from deploy.hosts.release.phases import Operation, Target
from deploy.hosts.release.state import HostState
from deploy.hosts.release.view import View
from deploy.hosts.ssh import pinning
from deploy.hosts.ssh.channel import pipe, run_script, script
from deploy.hosts.ssh.connect import Connection, Connections, failures
from deploy.project import site
from deploy.project.maintenance import Wanted


@dataclass(frozen=True)
class Hosts:
    """The hosts of an environment that run the site, or some of those hosts."""

    target: Target
    notify: Notify

    @property
    def name(self) -> str:
        return self.target.environment.name

    def status(self) -> Report:
        """A row for each host, also of those with a server alone; what is wrong, by what visitors and servers get."""
        hosts = self._hosts()
        with self._connections() as connections, View([]) as view:
            found = phases.ask_health(Operation(self.target, connections, view), hosts)
        now, seen, data = time.time(), list[_Seen](), list[dict[str, object]]()
        wrong = []
        for host in hosts:
            said = found[host.name]
            if isinstance(said, Failure):
                wrong.append(said.message)
                data.append({"name": host.name, "roles": list(host.roles), "problems": [said.message]})
                continue
            has, state_of = said
            problems = list(map(printable, health.wrong(host.roles, has, state_of, self.name, now)))
            wrong += [f"{host.name}: {line}" for line in problems]
            seen.append(_Seen(host, has, state_of))
            data.append(health.as_data(host.roles, has, state_of, problems, now))
        alike = len({each.has.current for each in seen if each.host in self.target.hosts}) <= 1
        remarks = maintenance.remarks(
            {each.host.name: each.has.maintenance for each in seen if each.host in self.target.hosts}, self.name
        )
        remarks += [] if alike else ["the hosts serve different releases: deploy to all of them to fix that"]
        remarks += [f"{each.host.name}: {printable(each.health.lock)}" for each in seen if each.health.lock]
        remarks += [
            f"{each.host.name}: {printable(line)}"
            for each in seen
            for line in health.left_over(each.has, each.health, self.name)
        ]
        remarks += [f"{each.host.name}: {line}" for each in seen for line in scaling.remarks(each.has)]
        remarks += rotating.remarks([each.has for each in seen], self.name)
        remarks += self._given_up(seen)
        whole = {"environment": self.name, "project": self.target.project.name, "ok": not wrong, "hosts": data}
        return Report([_units(seen), _servers(seen, now)], remarks, wrong, whole)

    def _given_up(self, seen: Sequence[_Seen]) -> list[str]:
        """What the first host that was asked says about tasks that were given up: all have the same broker."""
        said = (answer.words for each in seen for answer in each.health.answers if answer.path == "/readyz")
        return site.given_up(next(said, ""), f"invoke remote-manage --env {self.name} --")

    def _hosts(self) -> list[Host]:
        """The chosen hosts of the site, and if all are chosen, those with a server alone."""
        every = self.target.environment.hosts
        chosen = self.target.hosts
        return list(every if chosen == self.target.environment.site_hosts else chosen)

    def releases(self) -> Report:
        """The releases on the hosts, and the last entries of their ledgers."""
        with self._connections() as connections:
            states = self._look(connections)
        kept = [
            (release.id, ", ".join(serves), ", ".join(kept), release.at[:16], release.who, release.subject)
            for release, serves, kept in state.rows(states)
        ]
        keys = ("at", "action", "release", "who", "hosts", "outcome")
        done = [tuple(entry.get(key, "") for key in keys) for entry in state.ledger(states, ENTRIES)]
        return Report(
            [
                _grid(("release", "serves on", "kept on", "made", "by", "what"), kept),
                _grid(("when", "what", "release", "by", "hosts", "how it ended"), done),
            ]
        )

    def logs(self, service: str, asked: Query) -> Action:
        """The log lines of the units of one kind, or of all, of all hosts in order of time."""
        if service not in ("release", "backup"):
            self._require_kind(service)

        def do() -> None:
            with self._connections() as connections:
                logs.show(connections, self.target.hosts, service, asked, self.notify)

        return Action(lambda: None, do)

    def restart(self, role: str) -> Action:
        """Restart the units of the release that serves, or those of a kind, without losing a request or a task."""
        self._require_kind(role)
        return Action(
            lambda: restarting.show(self.target, role), lambda: restarting.restart(self.target, role, self.notify)
        )

    def rotate(self, secret: str, *, finish: bool) -> Action:
        """Give all processes a new secret, without losing a request, a task or a session."""
        return rotating.rotate(self.target, secret, self.notify, finish=finish)

    def _require_kind(self, name: str) -> None:
        kinds = ("web", *(kind.process for kind in self.target.project.kinds), "beat")
        if name not in ("", *kinds):
            raise Failure(f"{name!r} is not {', '.join(kinds[:-1])} or {kinds[-1]}")

    def scale(self, service: str, number: int) -> Action:
        """Change the number of processes of web, or of a kind of workers, on each host that runs it."""
        kind = scaling.kind_of(service, self.target.project)
        return Action(
            lambda: scaling.show(self.target, kind, number),
            lambda: scaling.scale(self.target, kind, number, self.notify),
        )

    def manage(self, arguments: Sequence[str]) -> Action:
        """Run manage.py on the first host that has a release, in that release."""

        def show() -> None:
            with self._connections() as connections:
                host, words = self._command(connections, arguments)
            print(f"{host.name}: {shlex.join(words)}")

        return Action(show, lambda: self._manage(arguments))

    def _command(self, connections: Connections, arguments: Sequence[str]) -> tuple[Host, list[str]]:
        found = [pair for pair in zip(self.target.hosts, self._look(connections), strict=True) if pair[1].current]
        if not found:
            raise Failure(f"no release serves yet: `invoke remote-deploy --env {self.name}`")
        host, has = found[0]
        layout = Layout.of(self.target.project.name, self.name, has.site)
        return host, ["sudo", "-n", str(layout.helper), "manage", has.current, *arguments]

    def _manage(self, arguments: Sequence[str]) -> int:
        with self._connections() as connections:
            host, words = self._command(connections, arguments)
            connection = connections.to(host).open()
            if sys.stdin.isatty() and sys.stdout.isatty():
                return int(connection.end.fabric.run(shlex.join(words), pty=True, warn=True).exited)
            # Without a whole terminal, a command that prompts must end, not wait for an answer.
            given = None if sys.stdin.isatty() else sys.stdin.buffer
            return pipe(connection, words, given, sys.stdout.buffer, sys.stderr.buffer)

    def deploy(self, ref: str) -> Action:
        """Deploy a commit to all hosts, or to none."""
        return Action(lambda: deploy.show(self.target, ref), lambda: deploy.deploy(self.target, ref, self.notify))

    def rollback(self, to: str) -> Action:
        """Roll back to an earlier release, with the environment it had."""
        return Action(
            lambda: deploy.show_rollback(self.target, to), lambda: deploy.rollback(self.target, to, self.notify)
        )

    def maintenance(self, wanted: Wanted | None) -> Action:
        """Have nginx answer 503 with a page on all hosts, until None ends that."""
        return Action(
            lambda: maintenance.show(self.target, wanted),
            lambda: maintenance.maintain(self.target, wanted, self.notify),
        )

    def backup(self, *, verify: bool) -> Action:
        """Make a backup now, or restore the last one beside, and compare."""
        return make.backup(self.target, self.notify, verify=verify)

    def backups(self) -> Report:
        """The backups in the repository."""
        return make.report(self.target)

    def restore(self, to: str, *, keep_code: bool, confirmed: bool) -> Action:
        """Restore a backup with the release of its time, or with the one that serves."""
        if not to:
            raise Failure(f"name the backup: --to latest, or --to ID of `invoke remote-backups --env {self.name}`")
        return restore.restore(self.target, to, self.notify, keep_code=keep_code, confirmed=confirmed)

    def unlock(self) -> Action:
        """Stop the lock holder; a dry run names it. Only a deploy that is alive and hangs needs this."""
        question = Question("This stops a deploy that is running.", self.name)
        return Action(lambda: self._unlock("tell"), lambda: self._unlock("end"), question)

    def _unlock(self, word: str) -> None:
        text = f"{LOCK}\n{word}\n".encode()

        def end(connection: Connection) -> str:
            result = run_script(connection, script("unlock.sh"), text, seconds=60)
            if result.code:
                raise Failure(f"{connection.name}: {result.last_line}")
            return printable(result.text)

        with self._connections() as connections:
            results = connections.on_all(self.target.hosts, end)
        for name, said in results.items():
            if isinstance(said, str):
                self.notify(f"{name}: {said}")
        if failed := failures(results):
            raise failed

    def _connections(self) -> Connections:
        environment = self.target.environment
        return Connections(pinning.load(environment.root, environment.name), owner=self.target.owner)

    def _look(self, connections: Connections) -> list[HostState]:
        with View([]) as view:
            return list(phases.look(Operation(self.target, connections, view)).values())


@dataclass(frozen=True)
class _Seen:
    """A host, its state, and what a visitor and its servers get."""

    host: Host
    has: HostState
    health: health.Health


def _units(seen: Sequence[_Seen]) -> Grid:
    rows = []
    for each in seen:
        units = [f"{unit.kind} {unit.state}{_other(unit, each)}" for unit in each.has.units]
        free = min((disk.free for disk in each.health.disks), default=each.has.free)
        least = "unknown" if free is None else f"{free / 1e6:.1f} GB"
        rows.append((each.host.name, " ".join(each.host.roles), each.has.current or "none", ", ".join(units), least))
    return _grid(("host", "roles", "release", "units", "free"), rows)


def _servers(seen: Sequence[_Seen], now: float) -> Grid:
    rows = []
    for each in seen:
        answers = [f"{answer.path} {answer.code or 'no answer'}" for answer in each.health.answers]
        servers = [f"{name} {said}" for name, said in each.health.servers.items()]
        left = health.days(each.health, now)
        certificate = "none yet" if each.health.uncertified else "" if left is None else f"{left} days"
        backup = health.said_of_backups(each.health.backups, now) if each.health.backups else ""
        rows.append((each.host.name, ", ".join(answers), ", ".join(servers), certificate, backup))
    known = 5 if any(each.health.backups for each in seen) else 4
    headings = ("host", "answers", "servers", "certificate", "backup")
    return _grid(headings[:known], [row[:known] for row in rows])


def _other(unit: state.RunningUnit, seen: _Seen) -> str:
    """What is unusual about a unit: another release than the current one, and restarts."""
    often = health.restarts(seen.health, unit)
    said = [*([unit.release] if unit.release != seen.has.current else []), *([f"{often} restarts"] if often else [])]
    return f" ({', '.join(said)})" if said else ""


def _grid(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Grid:
    """A table with text from hosts, made printable."""
    return Grid(headings, [tuple(map(printable, row)) for row in rows])
