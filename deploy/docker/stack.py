"""The stack that `.env` and the compose files describe, and the files that are mounted into its containers."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from deploy.core import git, shell
from deploy.core import text as texts
from deploy.core.errors import Failure
from deploy.core.shell import MakeFolder, Run, Step, WriteSecret
from deploy.docker import images, watcher
from deploy.docker.env import ServerEnv
from deploy.docker.kinds import BEAT, documents
from deploy.project import certificate, local, proxy, site
from deploy.project.config import Project
from deploy.project.services import Redis
from deploy.project.values import problem
from deploy.project.workers import SERVICE
from deploy.venvs import installers

DEV, PROD, SWARM = "dev", "prod", "swarm"

#: The variables of the compose files that only development needs.
OF_DEVELOPMENT = (
    *("SITE", "SETTINGS", "ASGI", "CELERY", "IMPORTS", "SAMPLES"),
    *("PYTHON_IMAGE", "DEV_USER", "PACKAGES", "DOCKERFILE"),
)
#: Those that only the commands for backups set.
OF_BACKUPS = ("BACKUP_ADDRESS", "BACKUP_NETWORK", "POSTGRES_IMAGE", "PROOF_IMAGE")
DATASTORES = ("postgres", "rabbitmq", "redis")
#: The volume of uploads, also the label of the node of a swarm that keeps them; and where containers have it.
MEDIA, MEDIA_ROOT = "media", "/srv/media"
#: The folder of a maintenance for nginx on a swarm: a volume of this name. On one machine it lies beside nginx's files.
MAINTENANCE, MAINTENANCE_ROOT = "maintenance", "/srv/maintenance"
#: The mode of a file that containers of any user must read; only its owner can enter its folder.
READABLE = 0o444


@dataclass(frozen=True)
class Stack:
    """A stack of a project, with the values of `.env`. ``kind`` is `DEV`, `PROD` or `SWARM`."""

    project: Project
    kind: str
    env: ServerEnv
    #: The folder of an earlier release, whose `deploy/local` it has; None for the work tree's.
    earlier: Path | None = None

    @property
    def name(self) -> str:
        """The prefix of the names of containers, volumes and networks."""
        return f"{self.env.stack}-dev" if self.kind == DEV else self.env.stack

    @property
    def secrets(self) -> Path:
        """The folder of the files made from `.env` for containers; only its owner can enter it."""
        return self.project.secrets

    @property
    def celery(self) -> bool:
        """Whether the project has workers, beat and a broker."""
        return bool(self.project.names.celery)

    @property
    def workers(self) -> tuple[str, ...]:
        """The services of the kinds of workers."""
        return tuple(kind.service for kind in self.project.kinds)

    @property
    def alone(self) -> tuple[str, ...]:
        """The services of which there must never be two: beat first, then the kinds of workers that say so."""
        kinds = (kind.service for kind in self.project.kinds if kind.alone)
        return (*self._beat, *kinds) if self.celery else ()

    @property
    def _beat(self) -> tuple[str, ...]:
        """Beat, unless this place holds it."""
        return () if "beat" in self.env.hold else (BEAT,)

    @property
    def rolling(self) -> tuple[str, ...]:
        """The services whose new replicas start beside the old ones."""
        return ("app", *(name for name in self.workers if name not in self.alone))

    @property
    def watchers(self) -> tuple[str, ...]:
        """The service that builds the front end again in development, if there is one."""
        return (watcher.SERVICE,) if self.kind == DEV and watcher.document(self.project.assets) else ()

    @property
    def site_services(self) -> tuple[str, ...]:
        """The services that run the project."""
        return ("app", *self.workers, *self._beat) if self.celery else ("app",)

    def replicas(self, running: Mapping[str, int]) -> dict[str, int]:
        """The replicas of each rolling service: from `.env`, else as many as are ``running``, else the default."""
        named = {"app": self.env.app_replicas, SERVICE: self.env.worker_replicas}
        default = {"app": 2}
        return {name: named.get(name) or running.get(name) or default.get(name, 1) for name in self.rolling}

    def why_not_scaled(self, service: str) -> str:
        """Why a service has one replica; empty for one that may have more, or that there is not."""
        if service not in self.alone:
            return ""
        kind = next((each.name for each in self.project.kinds if each.service == service), "")
        return f"there must be one: project.workers.{kind}.alone in invoke.yaml" if kind else "there must be one beat"

    @property
    def datastores(self) -> tuple[str, ...]:
        """The servers that the project needs."""
        needed = {
            "rabbitmq": self.celery and not (self.redis and self.redis.broker),
            "redis": self.redis is not None,
        }
        return tuple(name for name in DATASTORES if needed.get(name, True))

    @property
    def redis(self) -> Redis | None:
        """Redis, if the project declares it; None for a release whose `.env` has no password for it."""
        return self.project.redis if self.env.redis_password else None

    @property
    def image(self) -> str:
        """The image from which the stack's next containers are created."""
        return f"{self.env.image}-dev:latest" if self.kind == DEV else f"{self.env.image}:latest"

    @property
    def port(self) -> int:
        """The port of the development site."""
        return self.env.port or self.project.port

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the compose files."""
        return {SWARM: ("base", PROD, SWARM), PROD: ("base", PROD, "backup")}.get(self.kind, ("base", self.kind))

    @property
    def own_files(self) -> list[str]:
        """The paths of the project's own compose files."""
        root = self.earlier or self.project.root
        names = local.compose_files(root, self.kind)
        return [str(root / name) for name in names] if self.earlier else names

    @property
    def media_url(self) -> str:
        """The path of uploads; empty in development, where Django serves them, and where there are none."""
        return "" if self.kind == DEV else self.project.media_url

    def front(self) -> proxy.Front:
        """How clients reach nginx."""
        trusted = [str(network) for network in self.env.trusted_proxies]
        return proxy.Front(
            self.env.allowed_hosts,
            self.env.tls,
            self.env.https_port,
            trusted,
            peers="nginx" if self.kind == SWARM else "",
            maintenance_root=MAINTENANCE_ROOT if self.kind == SWARM else proxy.Front.maintenance_root,
            media_url=self.media_url,
            media_root=MEDIA_ROOT,
            media_shared=self.project.media == "shared",
            upload_megabytes=self.project.upload_megabytes,
            metrics=self.project.metrics,
            own=local.nginx(self.earlier or self.project.root),
        )

    @property
    def place(self) -> str:
        """What hooks are told of where a release goes: the environment's name, else prod or swarm."""
        return self.project.environment or self.kind

    def compose(self, *words: str) -> Run:
        """A `docker compose` command on this stack. Values of `.env` take precedence over variables of the shell."""
        given = {**self.env.interpolated(), "PORT": str(self.port), "PROBES": " ".join(self.project.probes)}
        given |= {"REDIS_LIMIT": f"{2 * self.redis.memory}m" if self.redis else ""}
        given |= proxy.sizes(self.project.upload_megabytes)
        own_broker = "rabbitmq" in self.datastores and not self.env.celery_broker_url
        given["BROKER_RIGHTS"] = "publish" if self.project.least_rights and own_broker else "all"
        given["QUEUES"] = ",".join(sorted({name for kind in self.project.kinds for name in kind.queues}))
        given |= dict.fromkeys(OF_BACKUPS, "")
        given["METRICS"] = str(int(self.project.metrics))
        given["SECRETS"] = f"../../{self.secrets.relative_to(self.project.root)}"
        given["CLOSED"] = "false" if self.project.egress or self.kind == DEV else "true"
        given |= self._development() if self.kind == DEV else dict.fromkeys(OF_DEVELOPMENT, "")
        ca, sources = self.build_ca, self.project.root / ".secrets" / images.SOURCES
        files = [word for name in self.files for word in ("-f", f"deploy/compose/{name}.yaml")]
        own = ["-f", str(own_file(self))] if own_text(self) else []
        own += [word for name in self.own_files for word in ("-f", name)]
        # No `.env`: its values are given here, and Compose would stop at a line that it reads in another way.
        return Run(
            ["docker", "compose", "--env-file", "/dev/null", *files, *own, *words],
            {
                **given,
                **({"BUILD_CA_FILE": ca} if ca else {}),
                "PACKAGE_SOURCES_FILE": str(sources) if sources.is_file() else "",
                "COMPOSE_PROJECT_NAME": "",
                "COMPOSE_FILE": "",
                "COMPOSE_PROFILES": ",".join(["celery"] * self.celery + ["redis"] * (self.redis is not None)),
            },
            cwd=self.project.root,
        )

    @cached_property
    def build_ca(self) -> str:
        """A private certificate authority for builds: from `.env`, else the one that pip's and uv's settings name."""
        return str(self.env.build_ca_file or installers.configured(self.project.root, os.environ).certificate)

    def _development(self) -> dict[str, str]:
        """The project's own names. In production the image has them."""
        names = self.project.names
        image, user = images.python_image(self.project), f"{os.getuid()}:{os.getgid()}"
        packages, dockerfile = " ".join(self.project.packages), images.own_dockerfile(self.project) or "Dockerfile"
        parts = (names.site, names.dev, names.asgi, names.celery, names.imports, self.project.samples)
        values = (*parts, image, user, packages, str(dockerfile))
        return dict(zip(OF_DEVELOPMENT, values, strict=True))


def stack_of(
    project: Project, kind: str, env: ServerEnv, earlier: Path | None = None, *, dry_run: bool = False
) -> Stack:
    """The stack with these values. In development it always has its own servers: DATABASE_URL is for production.

    The file with what the project declares is written here: every command of Compose reads it. A dry run runs none,
    unless the project has compose files of its own, which are tested.
    """
    own = {"database_url": None, "celery_broker_url": None} if kind == DEV else {}
    stack = Stack(project, kind, env.model_copy(update=own), earlier)
    if dry_run and not stack.own_files:
        return stack
    if text := own_text(stack):
        shell.perform([MakeFolder(stack.secrets, 0o700), WriteSecret(own_file(stack), text)])
    if kind == DEV and (path := images.own_dockerfile(project)):
        shell.perform([MakeFolder(path.parent, 0o700), WriteSecret(path, local.dockerfile(project.root))])
    return stack


def own_text(stack: Stack) -> str:
    """A compose file for what the project declares: kinds of workers, and variables of its own; empty for neither.

    It contains no secret: those are files, and NAME_FILE has the path.
    """
    kinds, watched = documents(stack.files, stack.project.kinds), stack.kind == DEV
    more = (_variables(stack), watcher.document(stack.project.assets) if watched else "")
    return "---\n".join(filter(None, (*kinds, *more)))


def _variables(stack: Stack) -> str:
    """The document that gives the project's own variables to its services, as JSON; empty if there are none."""
    mode = site.DEVELOPMENT if stack.kind == DEV else site.PRODUCTION
    # Whether there are metrics stands in the files themselves.
    seeing = {name: value for name, value in site.seeing(stack.project, mode).items() if name != site.METRICS}
    plain = {**seeing, **{name: value.replace("$", "$$") for name, value in stack.env.own_plain.items()}}
    given = {name.removeprefix("own.") for name in stack.env.redis_files(stack.redis) if name.startswith("own.")}
    secret = sorted({*stack.env.own_secret, *given})
    url = stack.media_url
    if not plain and not secret and not url:
        return ""
    variables = {**plain, **{f"{name}_FILE": f"/run/secrets/{name}" for name in secret}}
    names = ("release", *stack.site_services)
    services: dict[str, dict[str, object]] = {each: {"environment": variables, "secrets": secret} for each in names}
    document: dict[str, object] = {"services": services}
    document["secrets"] = {name: {"file": str(stack.secrets / f"own.{name}")} for name in secret}
    if url:
        document["volumes"] = {MEDIA: {}}
        services["nginx"] = {"volumes": [f"{MEDIA}:{MEDIA_ROOT}:ro"]}
        for each in names:
            services[each] |= _with_uploads(stack, variables, url)
    return f"{json.dumps(document, indent=2, sort_keys=True)}\n"


def _with_uploads(stack: Stack, variables: Mapping[str, str], url: str) -> dict[str, object]:
    """What a service of the site has more that writes uploads. On a swarm, it runs where they are kept."""
    more = {"MEDIA_ROOT": MEDIA_ROOT, "MEDIA_URL": url}
    found: dict[str, object] = {"environment": {**variables, **more}, "volumes": [f"{MEDIA}:{MEDIA_ROOT}"]}
    if stack.kind == SWARM and stack.project.media == "local":
        found["deploy"] = {"placement": {"constraints": [f"node.labels.{MEDIA} == true"]}}
    return found


def own_file(stack: Stack) -> Path:
    """That file. Its name changes with its content, so that each release keeps the one that it was deployed with."""
    digest = hashlib.sha256(own_text(stack).encode()).hexdigest()
    return stack.secrets / f"own-{digest[:12]}.yaml"


def secret_texts(stack: Stack) -> dict[str, str]:
    """The secret files of containers, by name. Raises `Failure` for a secret whose source does not give it."""
    fetched = stack.env.fetched(stack.project.root, os.environ, stack.project.env_path.name)
    return {**fetched.secret_files(least=stack.project.least_rights), **fetched.redis_files(stack.redis)}


def secret_steps(stack: Stack) -> list[Step]:
    """The steps that write the secret files: readable in containers, in a folder that only we can enter."""
    return files_of(stack, secret_texts(stack))


def files_of(stack: Stack, texts: Mapping[str, str]) -> list[Step]:
    """The steps that write these secret files."""
    return [
        MakeFolder(stack.secrets, 0o700),
        *(WriteSecret(stack.secrets / name, text, READABLE) for name, text in texts.items()),
    ]


def absent_steps(stack: Stack) -> list[Step]:
    """The steps that write the secret files that are not there yet, such as those of a server that is new."""
    return files_of(
        stack, {name: text for name, text in secret_texts(stack).items() if not (stack.secrets / name).exists()}
    )


def nginx_files(stack: Stack) -> dict[str, str]:
    """nginx's files by name, with the certificate, according to the work tree and `.env`."""
    found = {path.name: texts.read(path) for path in sorted((stack.project.root / "nginx").glob("*.conf"))}
    found |= proxy.runtime_files(stack.front(), proxy.ALL)
    if stack.env.tls_certificate and stack.env.tls_key:
        found["tls.crt"] = texts.read(stack.env.tls_certificate)
        found["tls.key"] = texts.read(stack.env.tls_key)
    return found


def nginx_steps(
    stack: Stack, upstream: Sequence[str], resolved: Sequence[str] = (), files: Mapping[str, str] | None = None
) -> list[Step]:
    """The steps that write nginx's configuration: that of the work tree, or ``files``.

    nginx gets a copy, so that it does not read an unfinished edit in the work tree when it restarts.
    """
    folder = stack.secrets / "nginx"
    texts = dict(nginx_files(stack) if files is None else files)
    texts["http.conf"] = proxy.with_upstream(texts["http.conf"], upstream, resolved)
    return [
        MakeFolder(folder, 0o755),
        *(WriteSecret(folder / name, text, READABLE) for name, text in texts.items()),
    ]


def check(stack: Stack) -> None:
    """Raise `Failure` for problems that would stop a rollout later, on a swarm or on this machine."""
    file = stack.project.env_path.name
    if stack.kind == SWARM and "beat" in stack.env.hold:
        raise Failure(f"{file}: HOLD is beat, which a swarm does not hold yet: remove it, or use `invoke prod`")
    if stack.project.redis and not stack.redis:
        command = f"python3 -c 'import secrets; print(\"REDIS_PASSWORD=\" + secrets.token_hex(24))' >>{file}"
        raise Failure(f"{file}: REDIS_PASSWORD is missing, which project.services.redis needs: `{command}` adds one")
    if (url := stack.env.database_url) and (said := problem("DATABASE_URL", url.get_secret_value())):  # SQLite
        raise Failure(f"{file}: DATABASE_URL {said}")
    images.require_ca(stack.project, stack.build_ca)
    if stack.env.tls_certificate and stack.env.tls_key:
        certificate.check_certificate(
            stack.env.tls_certificate, stack.env.tls_key, source=file, names=stack.env.allowed_hosts
        )


def build(stack: Stack, tag: str = "", platform: str = "") -> Run:
    """The command that builds the production image under a tag, or under its revision and as the stack's next image."""
    version = git.revision(stack.project.root)
    names = [f"{stack.env.image}:{tag}"] if tag else [f"{stack.env.image}:{version.tag}", stack.image]
    return images.build(stack.project, "app", names, version, ca=stack.build_ca, platform=platform)
