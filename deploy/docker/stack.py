"""The stack as `.env` and the compose files have it, and what is laid out for its containers."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.core import git, shell
from deploy.core.errors import Failure
from deploy.core.running import Notify
from deploy.core.shell import MakeFolder, Run, Step, WriteSecret
from deploy.docker import env as server_env
from deploy.docker import images
from deploy.docker.env import ServerEnv
from deploy.project import certificate, proxy
from deploy.project.config import Project

DEV, PROD, SWARM = "dev", "prod", "swarm"

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
    return stack_of(project, kind, server_env.load(path))


def stack_of(project: Project, kind: str, env: ServerEnv) -> Stack:
    """The stack of these values. In development it brings its own servers: those of a swarm are production's."""
    own = {"database_url": None, "celery_broker_url": None} if kind == DEV else {}
    return Stack(project, kind, env.model_copy(update=own))


def require_own_servers(stack: Stack) -> None:
    """Raise `Failure` for servers elsewhere, which compose in production does not use."""
    if stack.env.database_url or stack.env.celery_broker_url:
        raise Failure(
            ".env: DATABASE_URL and CELERY_BROKER_URL are for the swarm, and compose brings its own servers: remove"
            " them from .env, or deploy with `invoke swarm-deploy`"
        )


def prepare(project: Project, kind: str, *, dry_run: bool, notify: Notify) -> Stack:
    """The stack as `.env` has it; a missing `.env` is written first, with random secrets."""
    path = project.root / ".env"
    if path.exists():
        return load(project, kind)
    text = server_env.fresh((project.root / ".env.example").read_text(), stack=project.name, development=kind == DEV)
    stack = stack_of(project, kind, server_env.read(text, path.name))
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
    notify(f"{wrote} {path} with random secrets, for you alone; keep a copy of it, as of the data")
    return stack


def secret_steps(stack: Stack) -> list[Step]:
    """What lays the secret files out: readable in containers, in a folder that only we may enter."""
    return files_of(stack, stack.env.secret_files())


def files_of(stack: Stack, texts: Mapping[str, str]) -> list[Step]:
    """What lays these secret files out."""
    return [
        MakeFolder(stack.secrets, 0o700),
        *(WriteSecret(stack.secrets / name, text, READABLE) for name, text in texts.items()),
    ]


def nginx_files(stack: Stack) -> dict[str, str]:
    """nginx's configuration by name, certificate included, as the work tree and `.env` have it."""
    texts = {path.name: path.read_text() for path in sorted((stack.project.root / "nginx").glob("*.conf"))}
    texts |= proxy.runtime_files(stack.front(), proxy.ALL)
    if stack.env.tls_certificate and stack.env.tls_key:
        texts["tls.crt"] = stack.env.tls_certificate.read_text()
        texts["tls.key"] = stack.env.tls_key.read_text()
    return texts


def nginx_steps(
    stack: Stack, upstream: Sequence[str], resolved: Sequence[str] = (), files: Mapping[str, str] | None = None
) -> list[Step]:
    """What lays nginx's configuration out: that of the work tree, or those ``files``.

    A copy, so that a half-done edit in the work tree is not what nginx finds when it has to start again.
    """
    folder = stack.secrets / "nginx"
    texts = dict(nginx_files(stack) if files is None else files)
    texts["http.conf"] = proxy.with_upstream(texts["http.conf"], upstream, resolved)
    return [
        MakeFolder(folder, 0o755),
        *(WriteSecret(folder / name, text, READABLE) for name, text in texts.items()),
    ]


@dataclass(frozen=True)
class Laid:
    """What containers have been given by files: secrets, and nginx's configuration; each by its name."""

    secrets: Mapping[str, str]
    nginx: Mapping[str, str]


def laid(stack: Stack) -> Laid:
    """What is laid out at this moment; nothing before the first start."""
    return Laid(_texts(stack.secrets, stack.env.secret_files()), _texts(stack.secrets / "nginx", None))


def _texts(folder: Path, names: Collection[str] | None) -> dict[str, str]:
    found = [path for path in sorted(folder.glob("*")) if path.is_file() and (names is None or path.name in names)]
    return {path.name: path.read_text() for path in found if not path.name.startswith(".")}


def check(stack: Stack) -> None:
    """Raise `Failure` for what would stop a rollout later, of a swarm or of this machine."""
    if stack.env.tls_certificate and stack.env.tls_key:
        certificate.check_certificate(stack.env.tls_certificate, stack.env.tls_key)


def build(stack: Stack, tag: str = "", platform: str = "") -> Run:
    """Build the production image under its revision or a tag; without one, the next container is made of it."""
    version = git.revision(stack.project.root)
    names = [f"{stack.env.image}:{tag}"] if tag else [f"{stack.env.image}:{version.tag}", stack.image]
    return images.build(stack.project, "app", names, version, ca=build_ca(stack.env), platform=platform)
