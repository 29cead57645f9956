"""The values of this machine's `.env`, checked as a whole, and the secret files made from them for containers."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic import model_validator as checked

from deploy.core import text as texts
from deploy.core.errors import Failure
from deploy.docker import accounts
from deploy.project import backups, env_file, limits, services, sources, values
from deploy.project.config import HOST
from deploy.project.services import Redis
from deploy.project.sources import Source

#: The files with the address of the broker: of web and beat, of workers, of releases.
BROKER_URLS = ("broker_url", "worker_broker_url", "owner_broker_url")
#: Characters that need no quoting in a URL, in a shell or in RabbitMQ's configuration.
PLAIN = r"[A-Za-z0-9_-]+"


def _words(value: object) -> object:
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


def _digits(value: object) -> object:
    """Only digits: what Compose would not take for the same number, such as `8_0`, is no number."""
    if isinstance(value, str) and not re.fullmatch("[0-9]{1,9}", value):
        raise ValueError("must be a whole number")
    return value


Port = Annotated[int, BeforeValidator(_digits), Field(ge=1, le=65535)]
Count = Annotated[int, BeforeValidator(_digits), Field(ge=1, le=64)]
Words = Annotated[tuple[str, ...], PlainValidator(sources.words)]
Held = Literal["mail", "beat"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=40)]

#: Pydantic's names for what is no address and no network.
_NETWORKS = ("ip_v4_network", "ip_v6_network", "ip_v4_network_error", "ip_v6_network_error")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
#: A repository, as in the engine's reference grammar (distribution/reference), without a tag or digest.
_IMAGE = re.compile(rf"(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?{_COMPONENT}(?:/{_COMPONENT})*")


class ServerEnv(BaseModel):
    """The values of `.env`, under the same names; `.env.example` explains them."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=str.upper, hide_input_in_errors=True)

    stack: Name
    image: str
    allowed_hosts: Annotated[list[str], BeforeValidator(_words), Field(min_length=1)]
    secret_key: SecretStr
    postgres_password: Annotated[SecretStr, Field(min_length=16)]
    rabbitmq_password: Annotated[SecretStr, Field(min_length=16)]
    redis_password: Annotated[SecretStr, Field(min_length=16)] | None = None
    http_port: Port = 80
    https_port: Port = 443
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: Annotated[list[IPv4Network | IPv6Network], BeforeValidator(_words)] = []
    https_only: bool | None = None
    app_replicas: Count | None = None
    worker_replicas: Count | None = None
    web_concurrency: Count = 1
    port: Port | None = None
    postgres_port: Port = 5432
    rabbitmq_port: Port = 5672
    build_ca_file: Path | None = None
    encrypted_networks: bool = False
    database_url: SecretStr | None = None
    celery_broker_url: SecretStr | None = None
    #: Commands before and after a deploy, on the machine that deploys.
    hook_before: Words = ()
    hook_after: Words = ()
    #: What this place must not do, as it has data of another.
    hold: Annotated[list[Held], BeforeValidator(_words)] = []
    backup_repository: str = ""
    backup_password: SecretStr | None = None
    backup_keep: str = ""
    backup_ssh_key: SecretStr | None = None
    backup_ssh_known_hosts: SecretStr | None = None
    backup_aws_access_key_id: SecretStr | None = None
    backup_aws_secret_access_key: SecretStr | None = None
    backup_aws_default_region: SecretStr | None = None
    backup_restic_rest_username: SecretStr | None = None
    backup_restic_rest_password: SecretStr | None = None
    backup_b2_account_id: SecretStr | None = None
    backup_b2_account_key: SecretStr | None = None
    backup_azure_account_name: SecretStr | None = None
    backup_azure_account_key: SecretStr | None = None
    #: Variables that the project declares (`project.env`), by their kind. `parse` sets them, not the file.
    own_plain: Mapping[str, str] = {}
    own_secret: Mapping[str, SecretStr] = {}
    #: Of these, the ones that are fetched when they are written for containers: `env:`, `file:` or `command:`.
    own_sources: Mapping[str, Source] = {}

    @field_validator("image")
    @classmethod
    def _is_a_repository(cls, value: str) -> str:
        if not _IMAGE.fullmatch(value):
            raise ValueError("must be an image's name in lower case without a tag, such as registry.example.org/shop")
        return value

    @field_validator("postgres_password", "rabbitmq_password", "redis_password")
    @classmethod
    def _is_plain(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not re.fullmatch(PLAIN, value.get_secret_value()):
            raise ValueError("may contain only letters, digits, _ and -")
        return value

    @field_validator("secret_key", "database_url", "celery_broker_url")
    @classmethod
    def _suits_the_site(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value and value.get_secret_value().startswith("sqlite:"):
            return value  # of a project's own `.env`, for its developers; `stack.check` refuses it for servers
        if value and (said := values.problem(str(info.field_name).upper(), value.get_secret_value())):
            raise ValueError(said)
        return value

    @field_validator("backup_repository")
    @classmethod
    def _is_a_place_for_backups(cls, value: str) -> str:
        return _said(lambda: backups.repository(value, ""), value)

    @field_validator("backup_keep")
    @classmethod
    def _keeps_backups(cls, value: str) -> str:
        return _said(lambda: backups.Keep.parse(value, ""), value)

    @field_validator("tls_certificate", "tls_key", "build_ca_file")
    @classmethod
    def _is_a_path(cls, value: Path | None) -> Path | None:
        try:
            return value and value.expanduser()
        except RuntimeError:
            raise ValueError("begins with the ~ of an unknown user; fix the path") from None

    @field_validator("allowed_hosts")
    @classmethod
    def _are_names(cls, value: list[str]) -> list[str]:
        for name in value:
            if not HOST.fullmatch(name):
                raise ValueError(f"{name!r} is not a host name; name each host, or .example.org for all below it")
        return value

    @checked(mode="after")
    def _certificate_has_a_key(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("TLS_CERTIFICATE and TLS_KEY belong together: set both or neither")
        return self

    @checked(mode="after")
    def _ports_differ(self) -> Self:
        if self.http_port == self.https_port:
            raise ValueError(f"HTTP_PORT and HTTPS_PORT are both {self.http_port}; give each a port of its own")
        return self

    @property
    def tls(self) -> bool:
        """Whether nginx has a certificate."""
        return self.tls_certificate is not None

    @property
    def secure(self) -> bool:
        """Whether the site requires HTTPS."""
        return self.tls if self.https_only is None else self.https_only

    def interpolated(self) -> dict[str, str]:
        """The variables of the compose files, without secrets; empty where the files' own default applies."""
        return {
            "STACK": self.stack,
            "IMAGE": self.image,
            "ALLOWED_HOSTS": ",".join(self.allowed_hosts),
            "HTTP_PORT": str(self.http_port),
            "HTTPS_PORT": str(self.https_port),
            "HTTPS_ONLY": str(int(self.secure)),
            "APP_REPLICAS": str(self.app_replicas or ""),
            "WORKER_REPLICAS": str(self.worker_replicas or ""),
            "WEB_CONCURRENCY": str(self.web_concurrency),
            "PORT": str(self.port or ""),
            "POSTGRES_PORT": str(self.postgres_port),
            "RABBITMQ_PORT": str(self.rabbitmq_port),
            "BUILD_CA_FILE": str(self.build_ca_file or ""),
            "OWN_DATABASE": str(int(self.database_url is None)),
            "HOLD": ",".join(self.hold) or "none",
            "DATA_INTERNAL": str(not (self.database_url or self.celery_broker_url)).lower(),
        }

    def secret_files(self, *, least: bool = True) -> dict[str, str]:
        """The files that compose mounts as secrets: name and content. ``least``: each service has a role of its own."""
        database, broker = self.postgres_password.get_secret_value(), self.rabbitmq_password.get_secret_value()
        owner = _given(self.database_url) or accounts.database_url("site", database)
        data = accounts.database_url(accounts.DATA, accounts.derived(database, accounts.DATA))
        return {
            "secret_key": self.secret_key.get_secret_value(),
            "postgres_password": database,
            "database_url": data if least and not self.database_url else owner,
            "database_owner_url": owner,
            **self._broker_files(least=least and not self.celery_broker_url),
            "rabbitmq.conf": f"default_user = site\ndefault_pass = {broker}\n"
            f"consumer_timeout = {limits.CONSUMER * 1000}\n"
            "load_definitions = /run/secrets/definitions.json\n",
            accounts.DEFINITIONS: accounts.broker_definitions(broker),
            **{f"own.{name}": value.get_secret_value() for name, value in self.own_secret.items()},
        }

    def _broker_files(self, *, least: bool) -> dict[str, str]:
        """The broker's address for releases, for web and beat, and for workers; the same for all unless ``least``."""
        password = self.rabbitmq_password.get_secret_value()
        url = _given(self.celery_broker_url) or accounts.broker_url("site", password)
        own = {"broker_url": accounts.PUBLISHER, "worker_broker_url": accounts.WORKER}
        found = {
            name: accounts.broker_url(each, accounts.derived(password, each)) if least else url
            for name, each in own.items()
        }
        return {"owner_broker_url": url, **found}

    def redis_files(self, redis: Redis | None) -> dict[str, str]:
        """The same for Redis: its configuration, and the variables that name it; none without a password for it."""
        if not redis or not self.redis_password:
            return {}
        password = self.redis_password.get_secret_value()
        names = dict(services.variables(redis, f"redis://:{password}@redis:6379"))
        broker = names.pop("CELERY_BROKER_URL", "")
        return {
            "redis.conf": services.configuration(redis, password),
            **(dict.fromkeys(BROKER_URLS, broker) if broker and not self.celery_broker_url else {}),
            **{f"own.{name}": value for name, value in names.items() if name not in self.own_names},
        }

    @property
    def own_names(self) -> frozenset[str]:
        """The variables of the project's own that have a value."""
        return frozenset({*self.own_plain, *self.own_secret, *self.own_sources})

    def fetched(self, root: Path, environ: Mapping[str, str], file: str = ".env") -> Self:
        """The same with the secrets that sources name. Raises `Failure` with a line for each that cannot be fetched."""
        found, failures = {}, []
        for name, source in self.own_sources.items():
            try:
                found[name] = SecretStr(sources.fetch(source, root, environ))
            except Failure as failure:
                failures.append(f"{file}: {name}: {source}: {failure.message}")
        if failures:
            raise Failure("\n".join(failures))
        return self.model_copy(update={"own_secret": {**self.own_secret, **found}})


def _said(check: Callable[[], object], value: str) -> str:
    """The value, if it passes. Raises `ValueError` with what a `Failure` says after the name of its line."""
    try:
        check()
    except Failure as failure:
        raise ValueError(failure.message.removeprefix(": ")) from None
    return value


def _given(value: SecretStr | None) -> str:
    return value.get_secret_value() if value else ""


def fresh(example: str, *, stack: str, development: bool, celery: bool = True) -> str:
    """The text of a new `.env`: the example with random secrets, for the development or production stack."""

    def fill(line: str) -> str:
        name = line.partition("=")[0]
        if name == "SECRET_KEY":
            return f"{name}={secrets.token_urlsafe(50)}"
        if line.endswith("_PASSWORD="):
            return f"{line}{secrets.token_urlsafe(24)}"
        if name == "COMPOSE_PROFILES":
            return f"{name}={'celery' if celery else ''}"
        if name in ("STACK", "IMAGE"):
            return f"{name}={stack}"
        return line.replace(":deploy/compose/prod.yaml", ":deploy/compose/dev.yaml") if development else line

    return "".join(f"{fill(line)}\n" for line in example.splitlines())


def _source(name: str, value: str, file: str) -> Source | None:
    try:
        return sources.named(value)
    except ValueError as error:
        raise Failure(f"{file}: {name}: {error}") from None


def parse(said: Mapping[str, str | None], source: str, own: Mapping[str, str] | None = None) -> ServerEnv:
    """The checked values; ``own`` are the variables that the project declares, with their kinds.

    Raises `Failure` with a line for each invalid one; secrets are not printed.
    """
    kinds = own or {}
    if taken := sorted(name for name in kinds if name.lower() in ServerEnv.model_fields):
        raise Failure(
            f"project.env.{taken[0]} is a key of .env with a meaning of its own; give the variable another name"
        )
    given = {name: value for name, value in said.items() if value and not name.startswith("COMPOSE_")}
    ours = {name: value for name, value in given.items() if name not in kinds}
    plain = {name: given[name] for name, kind in kinds.items() if kind == "plain" and name in given}
    own_secret = {name: given[name] for name, kind in kinds.items() if kind == "secret" and name in given}
    found = {name: _source(name, value, source) for name, value in own_secret.items()}
    secret = {name: SecretStr(value) for name, value in own_secret.items()}
    update = {
        "own_plain": plain,
        "own_secret": secret,
        "own_sources": {name: each for name, each in found.items() if each},
    }
    try:
        return ServerEnv.model_validate(ours).model_copy(update=update)
    except ValidationError as error:
        problems = []
        for each in error.errors(include_url=False):
            name = str(each["loc"][0]) if each["loc"] else ""
            known = sorted(field.upper() for field in ServerEnv.model_fields if not field.startswith("own_"))
            why = {
                "missing": "is missing; .env.example explains it",
                "extra_forbidden": f"is not a known key; declare a variable of the project's own under project.env in"
                f" invoke.yaml; the keys are: {', '.join(known)}",
                "int_parsing": "must be a whole number",
                "greater_than_equal": f"must be at least {each.get('ctx', {}).get('ge')}",
                "less_than_equal": f"must be at most {each.get('ctx', {}).get('le')}",
                "bool_parsing": "must be 1 or 0",
                "string_pattern_mismatch": "may contain only lower-case letters, digits, _ and -, and no _ or - first",
                "string_too_long": f"is too long: at most {each.get('ctx', {}).get('max_length')} characters",
                **dict.fromkeys(_NETWORKS, "must be an address, or a network such as 10.0.0.0/8"),
                "too_short": f"is too short: at least {each.get('ctx', {}).get('min_length')} characters",
            }.get(each["type"], each["msg"].removeprefix("Value error, "))
            hidden = (
                not name
                or name == "SECRET_KEY"
                or name.endswith(("PASSWORD", "_URL"))
                or each["type"] == "extra_forbidden"
            )
            shown = "" if hidden or not ours.get(name) else f" is {ours[name]!r}:"
            problems.append(" ".join(f"{source}: {name}{shown} {why}".split()))
        raise Failure("\n".join(dict.fromkeys(problems))) from None


def read(text: str, source: str, own: Mapping[str, str] | None = None) -> ServerEnv:
    """The checked values of a `.env` file's text, with `$` taken literally. Raises `Failure` as `parse` does."""
    return parse(env_file.values(text, source), source, own)


def lacking(text: str, fresh: str) -> str:
    """The lines to add to a `.env` of the project's own, which has none of our keys; empty for one that is ours."""
    there = env_file.values(text, ".env")
    if "STACK" in there:
        return ""
    lines = [line for line in fresh.splitlines() if not line.startswith("#") and line.partition("=")[0] not in there]
    added = "\n".join(line for line in lines if line)
    end = "" if text.endswith("\n") or not text else "\n"
    return f"{end}\n# Portico; .env.example explains the keys.\n{added}\n"


def exists(path: Path) -> bool:
    """Whether there is a `.env`. Raises `Failure` for a link whose file is gone: a new one would have new passwords."""
    if path.is_symlink() and not path.exists():
        raise Failure(f"{path}: is a link to {path.readlink()}, which is not there: put it back, or remove the link")
    return path.exists()


def text_of(path: Path) -> str:
    """The text of a `.env` file. Raises `Failure` if others may read it, or if we may not."""
    try:
        texts.require_file(path, path.name)
        if path.stat().st_mode & 0o077:
            raise Failure(f"{path.name} holds secrets, but others may read it: chmod 600 {path}")
        return texts.read(path)
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}; change its owner or mode, or remove it") from None


def load(path: Path, own: Mapping[str, str] | None = None) -> ServerEnv:
    """Read and check `.env`. Raises `Failure` naming each problem."""
    return read(text_of(path), path.name, own)
