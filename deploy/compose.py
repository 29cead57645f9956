"""The compose stacks of this machine: what they are made of, what runs of them, the small commands on them.

Command lists and decisions are functions of their arguments. `rollout` puts a release into service without losing a
request; `live` is development.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deploy import proxy, server_env, shell
from deploy.config import Project
from deploy.errors import Failure
from deploy.running import HOST, confirm, taken
from deploy.server_env import ServerEnv
from deploy.shell import MakeFolder, Run, Step, WriteSecret

Say = Callable[[str], None]

DEV, PROD, SWARM = "dev", "prod", "swarm"
#: The oldest engine whose health checks can be asked more often while a container starts.
OLDEST_ENGINE = 25
#: Replicas where neither `.env` nor what runs says how many.
DEFAULT_REPLICAS = {"app": 2, "celery_worker": 1}
DATASTORES = ("postgres", "rabbitmq")
#: The mode of a file that containers read, whoever they run as; its folder is its owner's alone.
READABLE = 0o444


@dataclass(frozen=True)
class Stack:
    """One of the two stacks of a project, with the values of `.env`."""

    project: Project
    kind: str
    env: ServerEnv

    @property
    def name(self) -> str:
        """What the engine's names of containers, volumes and networks begin with."""
        return f"{self.env.stack}-dev" if self.kind == DEV else self.env.stack

    @property
    def secrets(self) -> Path:
        """Where what containers get from `.env` lies: its owner's alone."""
        return self.project.root / ".secrets"

    @property
    def image(self) -> str:
        """The image that the stack's next container is made of."""
        return f"{self.env.image}-dev:latest" if self.kind == DEV else f"{self.env.image}:latest"

    @property
    def port(self) -> int:
        """The port of the development site."""
        return self.env.port or self.project.port

    def front(self) -> proxy.Front:
        """How nginx is to face the world."""
        trusted = [str(network) for network in self.env.trusted_proxies]
        peers = "nginx" if self.kind == SWARM else ""
        return proxy.Front(self.env.allowed_hosts, self.env.tls, self.env.https_port, trusted, peers=peers)

    def compose(self, *words: str) -> Run:
        """`docker compose` on this stack. `.env` decides, not what a shell happens to have under the same name."""
        values = {**self.env.interpolated(), "PORT": str(self.port), "PROBES": " ".join(self.project.probes)}
        ca = build_ca(self.env)
        kinds = ("base", PROD, SWARM) if self.kind == SWARM else ("base", self.kind)
        files = [word for kind in kinds for word in ("-f", f"deploy/compose/{kind}.yaml")]
        return Run(
            ["docker", "compose", "--env-file", ".env", *files, *words],
            {**values, **({"BUILD_CA_FILE": ca} if ca else {}), "COMPOSE_PROJECT_NAME": "", "COMPOSE_FILE": ""},
            cwd=self.project.root,
        )


@dataclass(frozen=True)
class Replica:
    """A container of a stack."""

    name: str
    service: str
    state: str
    health: str
    exit_code: int
    restarts: int
    started: str
    revision: str
    #: The id of the image that it was made of.
    image: str = ""

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def well(self) -> bool:
        return self.running and self.health in ("healthy", "")

    def failed(self, restarts: int) -> str:
        """How it has failed, and not merely is not ready yet; empty when it has not. ``restarts``: of earlier."""
        if self.state in ("exited", "dead", "restarting"):
            return f"ended with exit code {self.exit_code}"
        if self.restarts > restarts:
            return "ended, and was started again"
        return "is unhealthy" if self.health == "unhealthy" else ""


def build_ca(env: ServerEnv) -> str:
    """A private certificate authority for builds: from `.env`, else the one that this machine's programs are told."""
    return str(env.build_ca_file or os.environ.get("SSL_CERT_FILE", ""))


# --- .env ---


def load(project: Project, kind: str) -> Stack:
    """The stack as `.env` has it. Raises `Failure` without one, and for each value that is wrong."""
    path = project.root / ".env"
    if not path.exists():
        command = "swarm-init" if kind == SWARM else kind
        raise Failure(f"there is no .env yet: `invoke {command}` writes it")
    env = server_env.load(path)
    if kind != SWARM and (env.database_url or env.celery_broker_url):
        raise Failure(".env: DATABASE_URL and CELERY_BROKER_URL are for the swarm: compose brings its own servers")
    return Stack(project, kind, env)


def prepare(project: Project, kind: str, *, dry_run: bool, say: Say) -> Stack:
    """The stack as `.env` has it; a missing `.env` is written first, with random secrets."""
    path = project.root / ".env"
    if path.exists():
        return load(project, kind)
    text = server_env.fresh((project.root / ".env.example").read_text(), stack=project.name, development=kind == DEV)
    stack = Stack(project, kind, server_env.read(text, path.name))
    orphan = f"{stack.name}_postgres"
    if (
        kind != SWARM
        and not dry_run
        and shell.run(Run(["docker", "volume", "inspect", orphan]), capture=True, check=False).code == 0
    ):
        raise Failure(
            f"there is no .env, but the volume {orphan} has a database made with an earlier one's password: bring that"
            f" .env back, or give the data up with `docker volume rm {orphan} {stack.name}_rabbitmq`"
        )
    shell.perform([WriteSecret(path, text)], dry_run=dry_run)
    wrote = "would write" if dry_run else "wrote"
    say(f"{wrote} {path} with random secrets, for you alone; keep a copy of it, as of the data")
    return stack


def secret_steps(stack: Stack) -> list[Step]:
    """What lays the secret files out: readable in containers, in a folder that only we may enter."""
    files = stack.env.secret_files().items()
    return [
        MakeFolder(stack.secrets, 0o700),
        *(WriteSecret(stack.secrets / name, text, READABLE) for name, text in files),
    ]


def nginx_steps(stack: Stack, upstream: Sequence[str], resolved: Sequence[str] = ()) -> list[Step]:
    """What lays nginx's configuration out, certificate included.

    A copy, so that a half-done edit in the work tree is not what nginx finds when it has to start again.
    """
    folder = stack.secrets / "nginx"
    texts = {path.name: path.read_text() for path in sorted((stack.project.root / "nginx").glob("*.conf"))}
    texts |= proxy.runtime_files(stack.front(), upstream, resolved)
    if stack.env.tls_certificate and stack.env.tls_key:
        texts["tls.crt"] = stack.env.tls_certificate.read_text()
        texts["tls.key"] = stack.env.tls_key.read_text()
    return [
        MakeFolder(folder, 0o755),
        *(WriteSecret(folder / name, text, READABLE) for name, text in texts.items()),
    ]


# --- The engine ---


def need_engine(free_gigabytes: int) -> None:
    """Raise `Failure` when there is no engine, one that is too old, no Compose v2, or no room: with what mends it."""
    from deploy import doctor

    install = doctor.this_system().install
    if shutil.which("docker") is None:
        raise Failure(f"docker: not found on this machine: {install('engine', 'compose')}")
    facts = "{{.ServerVersion}} {{.DockerRootDir}}"
    asked = shell.run(
        Run([*doctor.at_most(doctor.ENGINE_SECONDS), "docker", "info", "--format", facts]), capture=True, check=False
    )
    version, _, folder = asked.stdout.strip().partition(" ")
    if asked.code or not version:
        reason = shell.last_line(asked.stderr) or f"no answer within {doctor.ENGINE_SECONDS} s"
        raise Failure(f"no container engine answers ({reason}): {doctor.engine_remedy(reason)}")
    if int(version.partition(".")[0]) < OLDEST_ENGINE:
        raise Failure(f"the container engine is {version}, but must be {OLDEST_ENGINE} or newer: {install('engine')}")
    if not doctor.compose():
        raise Failure(f"this docker has no Compose v2 (`docker compose`): {install('compose')}")
    need_room(folder, free_gigabytes)


def need_room(folder: str, gigabytes: int) -> None:
    """Raise `Failure` when the engine's disk, where it is one of this machine, has less than that left."""
    if os.path.isdir(folder):
        free = shutil.disk_usage(folder).free / 1e9
        if free < gigabytes:
            raise Failure(
                f"{folder} has {free:.1f} GB left, but an image and its build want {gigabytes}"
                " (project.free_gigabytes): `docker system prune` removes what nothing uses"
            )


def need_ports(wanted: dict[str, tuple[str, int]], running: Sequence[Replica]) -> None:
    """Raise `Failure` for a port that another program has. ``wanted``: key in `.env`, the service and the port."""
    ours = {replica.service for replica in running if replica.running}
    for key, (service, port) in wanted.items():
        if service in ours:
            continue
        try:
            used = taken(port, "0.0.0.0" if service == "nginx" else HOST)
        except OSError:  # not ours to try, as a low port is: the engine will
            continue
        if used:
            raise Failure(f"port {port} is in use by another program: end that, or set {key} in .env")


def parse_replicas(text: str) -> list[Replica]:
    """The containers in what `docker inspect` says, the one-shot ones of `run` left out."""
    found = []
    for each in json.loads(text or "[]"):
        labels, state = each["Config"]["Labels"], each["State"]
        if labels.get("com.docker.compose.oneoff") == "True":
            continue
        found.append(
            Replica(
                name=each["Name"].lstrip("/"),
                service=labels["com.docker.compose.service"],
                state=state["Status"],
                health=state.get("Health", {}).get("Status", ""),
                exit_code=state["ExitCode"],
                restarts=each["RestartCount"],
                started=state["StartedAt"],
                revision=labels.get("org.opencontainers.image.revision", ""),
                image=each.get("Image", ""),
            )
        )
    return sorted(found, key=lambda replica: (replica.service, _number(replica.name), replica.name))


def _number(name: str) -> int:
    last = name.rpartition("-")[2]
    return int(last) if last.isdecimal() else 0


def replicas(stack_name: str, *services: str) -> list[Replica]:
    """The containers of a stack, or of some of its services, as they are now. Raises `Failure` without an answer."""
    mine = ["--filter", f"label=com.docker.compose.project={stack_name}"]
    listed = shell.run(Run(["docker", "ps", "-aq", "--no-trunc", *mine]), capture=True).stdout.split()
    if not listed:
        return []
    # One may go between the two questions, and is then not in the answer.
    return [replica for replica in _inspected(listed) if not services or replica.service in services]


def inspect(some: Sequence[Replica]) -> list[Replica]:
    """The same containers as they are now, in the same order; one that is gone has ended.

    Raises `Failure` without an answer.
    """
    if not some:
        return []
    now = {each.name: each for each in _inspected([each.name for each in some])}
    return [now.get(each.name, replace(each, state="dead")) for each in some]


def _inspected(containers: Sequence[str]) -> list[Replica]:
    """What the engine says of containers, without those that are gone. Raises `Failure` when it does not answer."""
    command = Run(["docker", "inspect", *containers])
    asked = shell.run(command, capture=True, check=False)
    gone = [line for line in asked.stderr.splitlines() if "no such object" in line.lower()]
    if asked.code and not gone:
        reason = shell.last_line(asked.stderr) or f"exit code {asked.code}"
        raise Failure(f"cannot ask the container engine about {containers[0]}: {reason}")
    return parse_replicas(asked.stdout)


def running_stack(project: Project, kind: str = "", *, stopped: bool = False) -> Stack | None:
    """The stack of this project that runs: the one of that kind, else whichever; None where none does.

    With ``stopped``, one whose containers have all ended will do where none runs. Raises `Failure` when it would be
    both, and none is named.
    """
    if not (project.root / ".env").exists() or shutil.which("docker") is None:
        return None
    stacks = [load(project, each) for each in ([kind] if kind else [PROD, DEV])]
    for which in ("-q", "-aq") if stopped else ("-q",):
        found = [stack for stack in stacks if _has_containers(stack, which)]
        if len(found) > 1:
            raise Failure("both stacks of this project run: say --stack prod or --stack dev")
        if found:
            return found[0]
    return None


def _has_containers(stack: Stack, which: str) -> bool:
    """Whether it has some; without an engine it has none. Raises `Failure` when that cannot be found out."""
    from deploy import doctor

    mine = ["--filter", f"label=com.docker.compose.project={stack.name}"]
    asked = shell.run(Run(["docker", "ps", which, *mine]), capture=True, check=False)
    if asked.code and not doctor.stopped(asked.stderr):
        reason = shell.last_line(asked.stderr) or f"exit code {asked.code}"
        raise Failure(
            f"cannot ask the container engine whether {stack.name} runs ({reason}): {doctor.engine_remedy(reason)};"
            " where there is --stack, `--stack native` does not ask"
        )
    return asked.code == 0 and bool(asked.stdout.strip())


def known_stack(project: Project, kind: str = "") -> Stack:
    """The stack named, or the one that has containers, running or not."""
    return load(project, _kind(kind)) if kind else need_stack(project)


def _kind(text: str) -> str:
    if text not in (DEV, PROD):
        raise Failure(f"--stack is {text!r}, but must be dev, prod or swarm")
    return text


def need_stack(project: Project, kind: str = "", *, stopped: bool = True) -> Stack:
    """The stack that runs, or with ``stopped`` has run. Raises `Failure` when there is none."""
    stack = running_stack(project, _kind(kind) if kind else "", stopped=stopped)
    if stack is None:
        raise Failure("no stack of this project runs: `invoke dev` or `invoke prod` starts one")
    return stack


# --- Commands on a running stack ---


def down(stack: Stack, *, volumes: bool, confirmed: bool, dry_run: bool) -> None:
    """Stop and remove a stack; its data only when that was confirmed. Raises `Failure` when it was not."""
    if volumes and not dry_run:
        confirm(f"This deletes the database, queues and files of {stack.name}.", stack.name, confirmed)
    more = ["--volumes"] if volumes else []
    shell.perform([stack.compose("down", "--remove-orphans", *more)], dry_run=dry_run)


def logs(stack: Stack, service: str, *, follow: bool) -> Run:
    """The log of a service, or of all. Raises `Failure` for a service that there is not."""
    known = sorted({replica.service for replica in replicas(stack.name)})
    if service and service not in known:
        raise Failure(f"--service is {service!r}; there are: {', '.join(known)}")
    words = ["--tail", "200", *(["--follow"] if follow else []), *([service] if service else [])]
    return stack.compose("logs", *words)


def manage(stack: Stack, arguments: Sequence[str]) -> Run:
    """manage.py in a container of the site; as this user in development, where it writes into the work tree."""
    terminal = [] if sys.stdin.isatty() else ["-T"]
    user = ["--user", f"{os.getuid()}:{os.getgid()}"] if stack.kind == DEV else []
    return stack.compose("exec", *terminal, *user, "app", "python", "manage.py", *arguments)


def show(stack: Stack) -> None:
    """Print a line for each container: state, health, release, since when."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("container", "service", "state", "restarts", "release", "since"):
        table.add_column(heading, no_wrap=True)
    for each in replicas(stack.name):
        ended = "" if each.running else f" ({each.exit_code})"
        state = f"{each.state}{ended}" if not each.health else f"{each.state}, {each.health}"
        since = each.started[:19].replace("T", " ")
        table.add_row(each.name, each.service, state, str(each.restarts or ""), each.revision[:12], since)
    Console(width=None if sys.stdout.isatty() else 200).print(table)
