"""Asking and telling a manager of the swarm, here or over SSH: the only room that calls docker for it."""

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

#: Seconds within which a manager answers a question, and takes a change. SSH does not end a command by itself when the
#: network is gone.
ANSWER_SECONDS, CHANGE_SECONDS = 60.0, 300.0
#: Seconds for an image to come from a registry or go to one.
TRANSFER_SECONDS = 1800.0
#: Seconds for a log to be fetched: its node may be away.
LOG_SECONDS = "10"
#: Lines of a failed replica that are shown.
LOG_LINES = "10"


@dataclass(frozen=True)
class Manager:
    """A manager and one stack on its swarm. ``engine`` is what the docker command is told by its environment."""

    stack: str
    engine: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def host(self) -> str:
        """Where it is, as the docker command is told: empty for this machine's own engine."""
        return self.engine.get("DOCKER_HOST") or os.environ.get("DOCKER_HOST", "")

    @property
    def label(self) -> str:
        """What marks all that belongs to the stack."""
        return f"{NAMESPACE}={self.stack}"

    def docker(self, *words: str, stdin: str = "", secret: bool = False) -> Run:
        """A docker command for this manager."""
        return Run(["docker", *words], self.engine, input=stdin, secret=secret)

    def ask(self, *words: str) -> str:
        """What a docker command prints. Raises `Failure` when it fails."""
        return shell.run(limited(self.docker(*words), ANSWER_SECONDS), capture=True).stdout

    def try_(self, *words: str, seconds: float = ANSWER_SECONDS) -> Result:
        """How a docker command ended, whether well or not. Raises `Failure` when it has not ended by then."""
        return shell.run(limited(self.docker(*words), seconds), capture=True, check=False)

    def tell(self, command: Run) -> None:
        """Run a command that changes something. Raises `Failure` with what it said when it fails."""
        shell.run(limited(command, CHANGE_SECONDS), capture=True)

    def discard(self, *words: str, seconds: float = ANSWER_SECONDS) -> None:
        """Run a command that removes what nobody needs any more. That it fails must not hide a result or an error."""
        with contextlib.suppress(Failure):
            self.try_(*words, seconds=seconds)

    # --- Looking ---

    def nodes(self) -> list[Node]:
        ids = self.ask("node", "ls", "-q").split()
        return parse_nodes(self.try_("node", "inspect", *ids).stdout) if ids else []

    def look(self) -> Snapshot:
        """The stack at this moment. What goes between the questions is left out."""
        nodes = self.nodes()
        services = self.ask("service", "ls", "-q", "--filter", f"label={self.label}").split()
        if not services:
            return Snapshot(nodes)
        tasks = self.try_("service", "ps", "-q", "--no-trunc", *services).stdout.split()
        return Snapshot(
            nodes,
            parse_services(self.try_("service", "inspect", *services).stdout, self.stack, nodes),
            parse_tasks(self.try_("inspect", "--type", "task", *tasks).stdout) if tasks else [],
        )

    def last_lines(self, task_or_service: str) -> str:
        """The end of the log of a replica, or of a service."""
        words = ["service", "logs", "--raw", "--tail", LOG_LINES, task_or_service]
        command = limited(self.docker(*words), ANSWER_SECONDS)
        # `timeout`, where there is one, leaves us what came until then.
        command = replace(command, argv=[*doctor.at_most(LOG_SECONDS), *command.argv])
        try:
            result = shell.run(command, capture=True, check=False)
        except Failure as failure:
            return failure.message
        return result.stdout + result.stderr

    # --- Configs and secrets ---

    def names(self, kind: str) -> list[str]:
        """The configs or the secrets (``kind`` says which) of the stack."""
        return self.ask(kind, "ls", "--format", "{{.Name}}", "--filter", f"label={self.label}").split()

    def contents(self, names: Sequence[str]) -> list[tuple[Mapping[str, str], str]]:
        """Labels and text of configs."""
        if not names:
            return []
        said = json.loads(self.ask("config", "inspect", *names))
        return [(each["Spec"]["Labels"], base64.b64decode(each["Spec"]["Data"]).decode()) for each in said]

    def create(self, kind: str, name: str, text: str, labels: Mapping[str, str] | None = None) -> Run:
        """The command that makes a config or a secret; its text comes from standard input."""
        marks = [f"{key}={value}" for key, value in {NAMESPACE: self.stack, **(labels or {})}.items()]
        words = [word for mark in marks for word in ("--label", mark)]
        return self.docker(kind, "create", *words, name, "-", stdin=text, secret=kind == "secret")

    def stack_deploy(self, file: StackFile) -> Run:
        """The command that hands a stack file over; nothing is looked up or removed by it."""
        words = ["--detach=true", "--resolve-image", "never", "--with-registry-auth", "--compose-file", "-"]
        return self.docker("stack", "deploy", *words, self.stack, stdin=file.text)


def limited(command: Run, seconds: float) -> Run:
    """A command that is ended after so many seconds, unless it has a limit already."""
    return replace(command, seconds=command.seconds or seconds)


def engine(host: str, context: str) -> dict[str, str]:
    """The options that select an engine. Raises `Failure` when both are given, or when the host is not a URL."""
    if host and context:
        raise Failure("--host and --context both name an engine: give one")
    if host and not re.fullmatch(r"(ssh|tcp|unix)://\S+", host):
        raise Failure(f"--host is {host!r}, but must begin with ssh://, as ssh://me@manager.example.org")
    if host:
        return {"DOCKER_HOST": host, "DOCKER_CONTEXT": ""}
    return {"DOCKER_CONTEXT": context, "DOCKER_HOST": ""} if context else {}


def ssh_check(host: str) -> Run:
    """Asks whether a host can be reached by SSH, its key known, without a question to anybody."""
    address = urlsplit(host)
    port = ["-p", str(address.port)] if address.port else []
    user = ["-l", address.username] if address.username else []
    strict = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=15"]
    ask = ["docker", "version", "-f", "{{.Server.Version}}"]
    command = Run(["ssh", *strict, *port, *user, "--", address.hostname or "", *ask])
    return limited(command, ANSWER_SECONDS)


def why_not_ssh(host: str, said: str) -> str:
    """A line for what ssh said, with what fixes it."""
    name = urlsplit(host).hostname
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in said or "Offending" in said:
        return (
            f"{host}: its host key is not the one in known_hosts: find out why before anything else; nothing was sent"
        )
    if "Host key verification failed" in said:
        return (
            f"{host}: its host key is not known yet: run `ssh {name}` once, and compare what it shows with the host's"
        )
    if "Permission denied" in said:
        return f"{host}: it does not take your key: `ssh-add -l` shows those of the agent, ~/.ssh/config can name one"
    return f"{host}: {shell.last_line(said)}"


def require_engine(manager: Manager) -> None:
    """Raise `Failure` when the engine cannot be reached, with what fixes that."""
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
    """Raise `Failure` when the engine is not a manager of a swarm."""
    require_engine(manager)
    swarm = json.loads(manager.ask("info", "--format", "{{json .Swarm}}"))
    where = manager.host or "this machine"
    if swarm["LocalNodeState"] == "inactive":
        raise Failure(f"{where} is in no swarm: `invoke swarm-init` makes one")
    if not swarm["ControlAvailable"]:
        others = ", ".join(each["Addr"].rpartition(":")[0] for each in swarm.get("RemoteManagers") or [])
        raise Failure(f"{where} is no manager of its swarm: name one with --host ssh://…; managers are at {others}")
    asked = manager.try_("node", "ls", "-q")
    if asked.code:
        raise Failure(
            f"{where}: the swarm has no leader, too many of its managers are away: {shell.last_line(asked.stderr)}"
        )
