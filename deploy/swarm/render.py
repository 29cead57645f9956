"""One compose document becomes one stack file: pure, deterministic, by an allow-list.

`docker stack deploy` never took over the Compose specification, and ignores some of what it does not know. Here each
key is carried over, dropped because it has no meaning in a swarm (`DROPPED`), or refused by name. The document is what
`docker compose config --format json` makes of the files. Each `$` in it is doubled: in a value it is kept so, as the
stack file is interpolated too; in a key, a file's name and a content it is one again, as those are not.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from deploy.core.errors import Failure

#: Keys of a service that have no meaning in a swarm. Order is kept by the deploy, which starts what is needed first.
DROPPED = ("build", "depends_on", "develop", "expose", "profiles")
#: What to do instead of some keys that are refused.
INSTEAD = {
    "bind": "a node has no folder of this machine: use a volume, a config or a secret",
    "container_name": "replicas cannot share a name",
    "cpus": "set deploy.resources.limits.cpus",
    "devices": "a swarm hands out no devices",
    "environment": "content from a shell differs from one client to the next: use a file",
    "host_ip": "a swarm publishes on every address of a node",
    "mem_limit": "set deploy.resources.limits.memory",
    "network_mode": "name networks instead",
    "pids_limit": "set deploy.resources.limits.pids",
    "platform": "set deploy.placement.constraints, as node.platform.arch == x86_64",
    "privileged": "name the capabilities that it needs in cap_add",
    "pull_policy": "images are named by their digest",
    "scale": "set deploy.replicas",
    "security_opt": "set it for all containers in /etc/docker/daemon.json of each node",
    "shm_size": "mount a tmpfs of that size at /dev/shm",
}
#: The most characters of a name of a config or secret, and those of its content's hash.
NAME_LENGTH, HASH_LENGTH = 64, 12
#: The most bytes of a config, and of a secret (https://docs.docker.com/engine/swarm/secrets/, …/configs/).
CONFIG_BYTES, SECRET_BYTES = 1_000_000, 500 * 1024
TMPFS = re.compile(r"(?P<path>/[^:]*)(:(?P<options>.*))?")
SIZE = re.compile(r"(\d+)([kmg]?)b?", re.IGNORECASE)


# --- What a stack file may hold: the keys of these classes, and no others ---


def _text(value: object) -> object:
    """Text, also of a number or a truth value."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def _octal(value: object) -> object:
    return int(value, 8) if isinstance(value, str) and re.fullmatch("0?[0-7]{3}", value) else value


def _mode(value: int) -> int:
    """A file's mode. One in quotes is what Compose 2.26 takes for a decimal number."""
    if value > 0o777 or value in (400, 440, 444):
        raise ValueError(f"is {value:#o}: write it without quotes, as 0440")
    return value


def _one_port(value: object) -> object:
    if isinstance(value, str) and "-" in value:
        raise ValueError("is a range: name each port")
    return int(value) if isinstance(value, str) and value.isdecimal() else value or None


def _hosts(value: object) -> object:
    return [str(each).replace("=", ":", 1) for each in value] if isinstance(value, list) else value


def _address(value: str) -> str:
    """Of a name server: the client leaves out, without a word, what is none."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        raise ValueError(f"{value} is no address") from None
    return value


def _subnet(value: str) -> str:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f"{value} is no subnet") from None
    return value


def _some(value: list[str] | None) -> list[str] | None:
    if value == []:
        raise ValueError("is empty, which a swarm takes for what the image says")
    return value


def _plain(text: str) -> str:
    """Text that nothing interpolates any more."""
    return text.replace("$$", "$")


def _values(value: object) -> object:
    """A mapping without what the client's shell was to give and did not."""
    if not isinstance(value, dict):
        return value
    return {_plain(str(key)): each for key, each in value.items() if each is not None}


def _not_of_the_shell(values: dict[str, str]) -> dict[str, str]:
    """Variables. Raises ValueError for an empty one, which `docker stack deploy` fills from its own environment."""
    if empty := [name for name, value in values.items() if not value]:
        raise ValueError(f"{', '.join(empty)} is empty, and would be taken from the client's shell: leave it out")
    return values


Text = Annotated[str, BeforeValidator(_text)]
Texts = Annotated[dict[str, Text], BeforeValidator(_values)]
Words = list[str]
Call = Annotated[Words | None, AfterValidator(_some)]
Whole = Annotated[int, BeforeValidator(lambda value: int(value) if isinstance(value, str) else value)]


class Section(BaseModel):
    """A part of the file: unknown keys are refused, extensions and empty values are left out."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _without_extensions(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {key: each for key, each in value.items() if each is not None and not str(key).startswith("x-")}


class Healthcheck(Section):
    test: Words | None = None
    interval: str | None = None
    timeout: str | None = None
    retries: int | None = None
    start_period: str | None = None
    start_interval: str | None = None
    disable: bool | None = None

    @model_validator(mode="after")
    def _none_when_disabled(self) -> Self:
        """A swarm takes either; in Compose, where files are merged, `disable` wins."""
        if self.disable:
            self.test = None
        return self


class Logging(Section):
    driver: str | None = None
    options: Texts | None = None


class Port(Section):
    target: int
    published: Annotated[int | None, BeforeValidator(_one_port)] = None
    protocol: Literal["tcp", "udp", "sctp"] = "tcp"
    mode: Literal["host", "ingress"] = "ingress"


class Reference(Section):
    """A config or a secret as a service gets it."""

    source: str
    target: str | None = None
    uid: Text | None = None
    gid: Text | None = None
    mode: Annotated[int, BeforeValidator(_octal), AfterValidator(_mode)] | None = None


class VolumeOptions(Section):
    nocopy: bool | None = None


class TmpfsOptions(Section):
    size: Whole | None = None


class Mount(Section):
    type: Literal["volume", "tmpfs"]
    source: str | None = None
    target: str
    read_only: bool | None = None
    volume: VolumeOptions | None = None
    tmpfs: TmpfsOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_folder_of_this_machine(cls, value: object) -> object:
        if isinstance(value, dict) and value.get("type") == "bind":
            raise ValueError(f"{value.get('source')} is a bind mount: {INSTEAD['bind']}")
        return value

    @model_validator(mode="after")
    def _options_fit_the_type(self) -> Self:
        """The client refuses these when services change already, or drops them without a word."""
        nocopy = self.volume and self.volume.nocopy
        if self.type == "tmpfs" and (self.source or nocopy):
            raise ValueError(f"{self.target}: a tmpfs has no source, and no nocopy")
        if self.type == "volume" and self.tmpfs and self.tmpfs.size:
            raise ValueError(f"{self.target}: a volume has no tmpfs.size")
        if nocopy and not self.source:
            raise ValueError(f"{self.target}: an anonymous volume has no nocopy: give it a name")
        self.volume = self.volume if nocopy else None
        self.tmpfs = self.tmpfs if self.type == "tmpfs" else None
        return self


class Attachment(Section):
    aliases: Words | None = None


class Limits(Section):
    cpus: Text | None = None
    memory: Text | None = None
    pids: int | None = None


class Reservations(Section):
    cpus: Text | None = None
    memory: Text | None = None


class Resources(Section):
    limits: Limits | None = None
    reservations: Reservations | None = None


class RestartPolicy(Section):
    condition: Literal["any", "none", "on-failure"] | None = None
    delay: str | None = None
    max_attempts: int | None = None
    window: str | None = None


class Spread(Section):
    spread: str


class Placement(Section):
    constraints: Words | None = None
    preferences: list[Spread] | None = None
    max_replicas_per_node: int | None = None


class UpdateConfig(Section):
    parallelism: int | None = None
    delay: str | None = None
    failure_action: Literal["continue", "pause", "rollback"] | None = None
    monitor: str | None = None
    max_failure_ratio: float | None = None
    order: Literal["start-first", "stop-first"] | None = None


class Deploy(Section):
    mode: Literal["replicated", "global", "replicated-job", "global-job"] | None = None
    replicas: int | None = None
    endpoint_mode: Literal["vip", "dnsrr"] | None = None
    labels: Texts | None = None
    resources: Resources | None = None
    placement: Placement | None = None
    restart_policy: RestartPolicy | None = None
    update_config: UpdateConfig | None = None
    rollback_config: UpdateConfig | None = None

    @field_validator("replicas")
    @classmethod
    def _global_is_one_a_node(cls, replicas: int | None, info: ValidationInfo) -> int | None:
        mode = info.data.get("mode")
        if mode in ("global", "global-job") and replicas is not None:
            raise ValueError(f"mode {mode} is one replica a node")
        return replicas


class Ulimit(Section):
    """Compose prints no limit of 0, as that of ``core: 0``."""

    soft: int = 0
    hard: int = 0

    @model_validator(mode="before")
    @classmethod
    def _one_for_both(cls, value: object) -> object:
        return {"soft": value, "hard": value} if isinstance(value, int) else value


class Service(Section):
    image: str
    command: Call = None
    entrypoint: Call = None
    environment: Annotated[Texts, AfterValidator(_not_of_the_shell)] | None = None
    user: Text | None = None
    working_dir: str | None = None
    hostname: str | None = None
    init: bool | None = None
    read_only: bool | None = None
    stdin_open: bool | None = None
    tty: bool | None = None
    stop_signal: str | None = None
    stop_grace_period: str | None = None
    cap_add: Words | None = None
    cap_drop: Words | None = None
    dns: list[Annotated[str, AfterValidator(_address)]] | None = None
    dns_search: Words | None = None
    extra_hosts: Annotated[Words | None, BeforeValidator(_hosts)] = None
    sysctls: Texts | None = None
    ulimits: dict[str, Ulimit] | None = None
    labels: Texts | None = None
    healthcheck: Healthcheck | None = None
    logging: Logging | None = None
    networks: dict[str, Attachment | None] | None = None
    volumes: list[Mount] | None = None
    secrets: list[Reference] | None = None
    configs: list[Reference] | None = None
    deploy: Deploy | None = None
    ports: list[Port] | None = None
    # Under other names in a stack file.
    restart: Annotated[RestartPolicy, BeforeValidator(lambda value: restart_policy(str(value)))] | None = Field(
        None, exclude=True
    )
    tmpfs: list[Annotated[Mount, BeforeValidator(lambda value: memory(str(value)))]] | None = Field(None, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _without_what_means_nothing_here(cls, value: object) -> object:
        return {key: each for key, each in value.items() if key not in DROPPED} if isinstance(value, dict) else value

    @field_validator("ports")
    @classmethod
    def _ports_fit_the_names(cls, ports: list[Port] | None, info: ValidationInfo) -> list[Port] | None:
        """Each once, as the client insists."""
        deploy = info.data.get("deploy")
        ingress = [str(port.target) for port in ports or [] if port.mode == "ingress"]
        if ingress and deploy is not None and deploy.endpoint_mode == "dnsrr":
            raise ValueError(f"{', '.join(ingress)} needs `mode: host`, because deploy.endpoint_mode is dnsrr")
        return ports and [port for number, port in enumerate(ports) if port not in ports[:number]]

    @model_validator(mode="after")
    def _in_the_words_of_a_swarm(self) -> Self:
        """A condition of the swarm's own comes before `restart`, as it does in Compose."""
        if self.restart:
            self.deploy = self.deploy or Deploy()
            policy = self.deploy.restart_policy or RestartPolicy()
            if not policy.condition:
                self.deploy.restart_policy = RestartPolicy(**{**_dump(self.restart), **_dump(policy)})
        if self.tmpfs:
            self.volumes = [*(self.volumes or []), *self.tmpfs]
        return self


class Subnet(Section):
    subnet: Annotated[str, AfterValidator(_subnet)]


class Ipam(Section):
    driver: str | None = None
    config: list[Subnet] | None = None


class Network(Section):
    name: str | None = None
    driver: Literal["overlay"] | None = None
    driver_opts: Texts | None = None
    internal: bool | None = None
    attachable: bool | None = None
    external: bool | None = None
    labels: Texts | None = None
    ipam: Ipam | None = None

    @model_validator(mode="after")
    def _another_made_it(self) -> Self:
        said = {name for name, each in _dump(self).items() if each} - {"name", "external"}
        if self.external and said:
            raise ValueError(f"{', '.join(sorted(said))}: whoever made an external network has decided that")
        return self


class Volume(Section):
    name: str | None = None
    driver: str | None = None
    driver_opts: Texts | None = None
    external: bool | None = None
    labels: Texts | None = None


class Content(Section):
    """A config or a secret: a file of this machine, text in the document, or what the swarm has already."""

    name: str | None = None
    file: str | None = None
    content: str | None = None
    external: bool | None = None

    @field_validator("file", "content")
    @classmethod
    def _as_it_is_meant(cls, value: str | None) -> str | None:
        return None if value is None else _plain(value)

    @model_validator(mode="after")
    def _from_somewhere(self) -> Self:
        if not self.external and (self.file is None) == (self.content is None):
            raise ValueError("needs a file, or content")
        return self


class Document(Section):
    """What `docker compose config` prints."""

    name: str | None = None
    services: dict[str, Service] = Field(min_length=1)
    networks: dict[str, Network | None] = {}
    volumes: dict[str, Volume | None] = {}
    secrets: dict[str, Content] = {}
    configs: dict[str, Content] = {}


# --- Rendering ---


@dataclass(frozen=True)
class StackFile:
    """A stack file, and the contents that it names: to be in the swarm before it is deployed."""

    services: Mapping[str, Mapping[str, Any]]
    sections: Mapping[str, Mapping[str, Any]]
    configs: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def text(self) -> str:
        """The file itself: nothing secret is in it."""
        return to_yaml({"services": self.services, **{key: each for key, each in self.sections.items() if each}})

    def only(self, names: Iterable[str]) -> StackFile:
        """The same with these services alone, and what they name."""
        services = {name: self.services[name] for name in names}
        sections = {key: _used(key, each, services) for key, each in self.sections.items()}
        return StackFile(services, sections)

    @classmethod
    def read(cls, text: str) -> StackFile:
        """A file as `text` wrote it."""
        document = yaml.safe_load(text)
        return cls(document.pop("services"), document)


def referenced(document: Mapping[str, Any]) -> list[str]:
    """The files whose contents `render` needs."""
    sources = [*(document.get("configs") or {}).values(), *(document.get("secrets") or {}).values()]
    return sorted({_plain(each["file"]) for each in sources if each and each.get("file")})


def render(
    document: Mapping[str, Any], stack: str, contents: Mapping[str, str], images: Mapping[str, str]
) -> StackFile:
    """The stack file of a compose document.

    ``contents`` has the text of each file that `referenced` names. ``images`` maps names of images to names with a
    digest. Raises `Failure` with a line for each thing that a swarm cannot do.
    """
    checked = check(document)
    services = {
        name: {**_dump(service), "image": images.get(service.image, service.image)}
        for name, service in checked.services.items()
    }
    # Networks have their full name already, for the stack is called as compose calls the project.
    sections: dict[str, dict[str, Any]] = {
        "networks": {name: _dump(each) if each else {} for name, each in checked.networks.items()},
        "volumes": {name: _dump(each) if each else {} for name, each in checked.volumes.items()},
    }
    named: dict[str, dict[str, str]] = {}
    unfit: list[str] = []
    for kind, sources in (("configs", checked.configs), ("secrets", checked.secrets)):
        used = {name: sources[name] for name in _names(services, kind)}
        texts = {name: _content(name, each, contents) for name, each in used.items() if not each.external}
        limit = CONFIG_BYTES if kind == "configs" else SECRET_BYTES
        unfit += [
            f"{kind[:-1]} {name}: {'file' if used[name].file else 'content'}: is empty, or over {limit} bytes"
            for name, text in texts.items()
            if not 0 < len(text.encode()) <= limit
        ]
        names = {name: content_name(stack, name, text, secret=kind == "secrets") for name, text in texts.items()}
        sections[kind] = {
            name: {"external": True, "name": names.get(name) or each.name or name} for name, each in used.items()
        }
        named[kind] = {names[name]: text for name, text in texts.items()}
    if unfit:
        raise Failure("\n".join(unfit))
    sections = {kind: _used(kind, each, services) for kind, each in sections.items()}
    return StackFile(services, sections, named["configs"], named["secrets"])


def check(document: Mapping[str, Any]) -> Document:
    """The document as a value. Raises `Failure` with a line for each key or value that a swarm does not take."""
    try:
        checked = Document.model_validate(document)
    except ValidationError as error:
        raise Failure(
            "\n".join(
                dict.fromkeys(
                    refusal(each["loc"], each["type"], each["msg"], each.get("ctx") or {})
                    for each in error.errors(include_url=False)
                )
            )
        ) from None
    if lines := _missing(checked):
        raise Failure("\n".join(lines))
    return checked


def refusal(where: tuple[int | str, ...], kind: str, message: str, context: Mapping[str, Any]) -> str:
    """A line for what is not taken: the service, the key, why, and what would do."""
    path = [str(each) for each in where if not isinstance(each, int)]
    section, *rest = path or ["the document"]
    label = {
        "services": "service",
        "networks": "network",
        "volumes": "volume",
        "secrets": "secret",
        "configs": "config",
    }
    subject = ": ".join([f"{label[section]} {rest[0]}", *rest[1:]] if section in label and rest else path)
    last = path[-1] if path else ""
    if kind == "extra_forbidden":
        return f"{subject}: {INSTEAD.get(last, 'is not carried over to a swarm')}"
    if kind == "missing":
        return f"{subject}: is missing"
    if kind == "literal_error":
        return f"{subject}: must be {context.get('expected')}"
    return f"{subject}: {message.removeprefix('Value error, ')}"


def content_name(stack: str, name: str, text: str, *, secret: bool) -> str:
    """A name that is another whenever the content is: both are immutable in a swarm.

    That of a secret is made so slowly that nobody who reads it tries out passwords (RFC 7914, for interactive logins).
    """
    data, label = text.encode(), f"{stack}_{name}"
    digest = hashlib.scrypt(data, salt=label.encode(), n=2**14, r=8, p=1) if secret else hashlib.sha256(data).digest()
    return f"{label[: NAME_LENGTH - HASH_LENGTH - 1]}_{digest.hex()[:HASH_LENGTH]}"


def restart_policy(restart: str) -> dict[str, Any]:
    """Compose's restart policy as a swarm's. Raises ValueError for one that is none."""
    name, _, most = restart.partition(":")
    if restart in ("always", "unless-stopped"):
        return {"condition": "any"}
    if restart == "no":
        return {"condition": "none"}
    if name == "on-failure" and (not most or most.isdecimal()):
        return {"condition": "on-failure", **({"max_attempts": int(most)} if most else {})}
    raise ValueError(f"{restart!r} is no restart policy")


def memory(tmpfs: str) -> dict[str, Any]:
    """A short `tmpfs` as a mount. Raises ValueError for an option that a swarm's mount cannot have."""
    found = TMPFS.fullmatch(tmpfs)
    if not found:
        raise ValueError(f"{tmpfs!r} must be a path, with its options after a colon")
    mount: dict[str, Any] = {"type": "tmpfs", "target": found["path"]}
    for option in filter(None, (found["options"] or "").split(",")):
        name, _, value = option.partition("=")
        size = SIZE.fullmatch(value)
        if name == "size" and size:
            mount["tmpfs"] = {"size": int(size[1]) * 1024 ** " kmg".index(size[2].lower() or " ")}
        elif option not in ("mode=1777", "mode=01777", "rw", "noexec", "nosuid", "nodev"):  # as it is anyway
            raise ValueError(f"{found['path']}: {option}: a swarm's has only a size")
    return mount


def _dump(section: Section) -> dict[str, Any]:
    return section.model_dump(exclude_none=True)


def _content(name: str, source: Content, contents: Mapping[str, str]) -> str:
    return source.content if source.content is not None else contents[source.file or name]


def _names(services: Mapping[str, Mapping[str, Any]], kind: str) -> list[str]:
    """What the services name of a kind, each once."""
    found: dict[str, None] = {}
    for service in services.values():
        for each in service.get(kind) or []:
            name = each if isinstance(each, str) else each.get("source")
            if name and (kind != "volumes" or each["type"] == "volume"):
                found[name] = None
    return sorted(found)


def _used(kind: str, section: Mapping[str, Any], services: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    names = _names(services, kind)
    return {name: each for name, each in section.items() if name in names or (kind == "networks" and name == "default")}


def _missing(document: Document) -> list[str]:
    """A line for each thing that a service names and nothing defines."""
    services = {name: _dump(service) for name, service in document.services.items()}
    lines = []
    for kind in ("networks", "volumes", "secrets", "configs"):
        for name, service in services.items():
            lines += [
                f"service {name}: {kind}: {each}: there is none of that name"
                for each in _names({name: service}, kind)
                if each not in getattr(document, kind)
            ]
    return lines


# --- Writing ---


class _Dumper(yaml.SafeDumper):
    """Quotes every text that a reader of another YAML could take for a number, a truth value or nothing."""

    def ignore_aliases(self, _: object) -> bool:
        return True


PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./ @-]*[A-Za-z0-9_/]")
SPECIAL = {"true", "false", "yes", "no", "on", "off", "null", "none", "nan", "inf"}


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = PLAIN.fullmatch(text) and text.lower() not in SPECIAL
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _represent)


def to_yaml(document: Mapping[str, Any]) -> str:
    """YAML that every reader reads alike."""
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=True, width=100_000, allow_unicode=True)
    return text
