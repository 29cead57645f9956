"""Commands for a manager of the swarm, local or over SSH: the only module that calls docker for it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from urllib.parse import urlsplit

from deploy import doctor
from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.shell import Result, Run
from deploy.swarm.render import StackFile
from deploy.swarm.state import NAMESPACE, Node, Snapshot, parse_nodes, parse_services, parse_tasks

#: Seconds for a manager to answer a query, and to accept a change. SSH by itself does not end a command when the
#: network is down.
ANSWER_SECONDS, CHANGE_SECONDS = 60.0, 300.0
#: Seconds to pull an image from a registry or push it to one.
TRANSFER_SECONDS = 1800.0
#: Seconds to fetch a log: its node may be down.
LOG_SECONDS = "10"
#: Lines shown of a failed replica's log.
LOG_LINES = "10"


@dataclass(frozen=True)
class Manager:
    """A manager and one stack on its swarm. ``engine`` is the environment of its docker commands."""

    stack: str
    engine: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def host(self) -> str:
        """The manager's URL, as DOCKER_HOST has it: empty for this machine's own engine."""
        return self.engine.get("DOCKER_HOST") or os.environ.get("DOCKER_HOST", "")

    @property
    def label(self) -> str:
        """The label of everything that belongs to the stack."""
        return f"{NAMESPACE}={self.stack}"

    def docker(self, *words: str, stdin: str = "", secret: bool = False) -> Run:
        """A docker command for this manager."""
        return Run(["docker", *words], self.engine, input=stdin, secret=secret)

    def ask(self, *words: str) -> str:
        """The output of a docker command. Raises `Failure` if it fails."""
        return shell.run(limited(self.docker(*words), ANSWER_SECONDS), capture=True).stdout

    def try_(self, *words: str, seconds: float = ANSWER_SECONDS) -> Result:
        """The result of a docker command, successful or not. Raises `Failure` if it takes longer than ``seconds``."""
        return shell.run(limited(self.docker(*words), seconds), capture=True, check=False)

    def tell(self, command: Run) -> None:
        """Run a command that changes something. Raises `Failure` with its output if it fails."""
        shell.run(limited(command, CHANGE_SECONDS), capture=True)

    def discard(self, *words: str, seconds: float = ANSWER_SECONDS) -> None:
        """Run a command that removes what is no longer needed. A failure here must not hide a result or an error."""
        with contextlib.suppress(Failure):
            self.try_(*words, seconds=seconds)

    # --- Looking ---

    def nodes(self) -> list[Node]:
        ids = self.ask("node", "ls", "-q").split()
        return parse_nodes(self.try_("node", "inspect", *ids).stdout) if ids else []

    def look(self, before: Snapshot | None = None) -> Snapshot:
        """The current state of the stack. Leaves out what is removed between the queries.

        With an earlier state, that of its services and their tasks, on its nodes: half as many queries.
        """
        nodes = before.nodes if before else self.nodes()
        services = [each.id for each in before.services] if before else self._services()
        if not services:
            return Snapshot(nodes)
        tasks = self.try_("service", "ps", "-q", "--no-trunc", *services).stdout.split()
        return Snapshot(
            nodes,
            parse_services(self.try_("service", "inspect", *services).stdout, self.stack, nodes),
            parse_tasks(self.try_("inspect", "--type", "task", *tasks).stdout) if tasks else [],
        )

    def _services(self) -> list[str]:
        return self.ask("service", "ls", "-q", "--filter", f"label={self.label}").split()

    def last_lines(self, task_or_service: str) -> str:
        """The last lines of the log of a replica, or of a service."""
        words = ["service", "logs", "--raw", "--tail", LOG_LINES, task_or_service]
        command = limited(self.docker(*words), ANSWER_SECONDS)
        # `timeout`, if this machine has it, keeps the output so far.
        command = replace(command, argv=[*doctor.at_most(LOG_SECONDS), *command.argv])
        try:
            result = shell.run(command, capture=True, check=False)
        except Failure as failure:
            return failure.message
        return result.stdout + result.stderr

    # --- Configs and secrets ---

    def names(self, kind: str) -> list[str]:
        """The names of the stack's configs or secrets; ``kind`` says which."""
        return self.ask(kind, "ls", "--format", "{{.Name}}", "--filter", f"label={self.label}").split()

    def contents(self, names: Sequence[str]) -> list[tuple[Mapping[str, str], str]]:
        """Labels and text of configs."""
        if not names:
            return []
        said = json.loads(self.ask("config", "inspect", *names))
        return [(each["Spec"]["Labels"], base64.b64decode(each["Spec"]["Data"]).decode()) for each in said]

    def create(self, kind: str, name: str, text: str, labels: Mapping[str, str] | None = None) -> Run:
        """The command that creates a config or a secret from its standard input."""
        marks = [f"{key}={value}" for key, value in {NAMESPACE: self.stack, **(labels or {})}.items()]
        words = [word for mark in marks for word in ("--label", mark)]
        return self.docker(kind, "create", *words, name, "-", stdin=text, secret=kind == "secret")

    def stack_deploy(self, file: StackFile) -> Run:
        """The command that deploys a stack file; it resolves no image and removes nothing."""
        words = ["--detach=true", "--resolve-image", "never", "--with-registry-auth", "--compose-file", "-"]
        return self.docker("stack", "deploy", *words, self.stack, stdin=file.text)


def limited(command: Run, seconds: float) -> Run:
    """The command with a limit in seconds, unless it has one already."""
    return replace(command, seconds=command.seconds or seconds)


def engine(host: str, context: str) -> dict[str, str]:
    """The options that select an engine. Raises `Failure` when both are given, or when the host is not a URL."""
    if host and context:
        raise Failure("--host and --context both name an engine: give one")
    if host and not re.fullmatch(r"(ssh|tcp|unix)://\S+", host):
        raise Failure(f"--host is {host!r}, but must begin with ssh://, such as ssh://me@manager.example.org")
    if host:
        return {"DOCKER_HOST": host, "DOCKER_CONTEXT": ""}
    return {"DOCKER_CONTEXT": context, "DOCKER_HOST": ""} if context else {}


def ssh_check(host: str) -> Run:
    """The command that checks that SSH reaches a host whose key is known; it never prompts."""
    address = urlsplit(host)
    port = ["-p", str(address.port)] if address.port else []
    user = ["-l", address.username] if address.username else []
    strict = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=15"]
    ask = ["docker", "version", "-f", "{{.Server.Version}}"]
    command = Run(["ssh", *strict, *port, *user, "--", address.hostname or "", *ask])
    return limited(command, ANSWER_SECONDS)


def why_not_ssh(host: str, said: str) -> str:
    """One line that explains ssh's error and names the remedy."""
    name = urlsplit(host).hostname
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in said or "Offending" in said:
        return (
            f"{host}: its host key is not the one in known_hosts: find out why before anything else; nothing was sent"
        )
    if "Host key verification failed" in said:
        return f"{host}: its host key is not known yet: run `ssh {name}` once, and compare its key with the host's"
    if "Permission denied" in said:
        return f"{host}: rejects your SSH key: `ssh-add -l` lists the agent's keys; to name one, use ~/.ssh/config"
    return f"{host}: {shell.last_line(said)}"


def require_engine(manager: Manager) -> None:
    """Raise `Failure`, with the remedy, if the engine cannot be reached."""
    if shutil.which("docker") is None:
        raise Failure(f"docker: not found on this machine: {doctor.this_system().install('engine', 'compose')}")
    if manager.host.startswith("ssh://"):
        asked = shell.run(ssh_check(manager.host), capture=True, check=False)
        if asked.code:
            raise Failure(why_not_ssh(manager.host, asked.stderr))
    asked = manager.try_("version", "--format", "{{.Server.Version}}")
    if asked.code:
        raise Failure(f"no container engine answers: {shell.last_line(asked.stderr)}")


def require_manager(manager: Manager) -> None:
    """Raise `Failure` if the engine is not a manager of a swarm."""
    require_engine(manager)
    swarm = json.loads(manager.ask("info", "--format", "{{json .Swarm}}"))
    where = manager.host or "this machine"
    if swarm["LocalNodeState"] == "inactive":
        raise Failure(f"{where} is in no swarm: `invoke swarm-init` creates one")
    if not swarm["ControlAvailable"]:
        others = ", ".join(each["Addr"].rpartition(":")[0] for each in swarm.get("RemoteManagers") or [])
        raise Failure(f"{where} is not a manager of its swarm: name one with --host ssh://…; managers are at {others}")
    asked = manager.try_("node", "ls", "-q")
    if asked.code:
        raise Failure(
            f"{where}: the swarm has no leader: too many of its managers are down: {shell.last_line(asked.stderr)}"
        )
