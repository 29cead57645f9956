"""The sections of a compose document that a swarm supports, each with the keys that are kept."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from deploy.swarm.coerce import (
    SIZE,
    TMPFS,
    Call,
    Text,
    Texts,
    Whole,
    Words,
    _address,
    _hosts,
    _mode,
    _not_of_the_shell,
    _octal,
    _one_port,
    _subnet,
    plain,
)

#: Keys of a service that have no meaning in a swarm. The deploy itself starts services in the right order.
DROPPED = ("build", "depends_on", "develop", "expose", "profiles")
#: What to use instead of some rejected keys.
INSTEAD = {
    "bind": "a node has no folder of this machine: use a volume, a config or a secret",
    "container_name": "replicas cannot share a name",
    "cpus": "set deploy.resources.limits.cpus",
    "devices": "a swarm does not support devices: remove the key",
    "environment": "content from a shell differs between clients: use a file",
    "host_ip": "a swarm publishes on every address of a node: remove the key",
    "mem_limit": "set deploy.resources.limits.memory",
    "network_mode": "name networks instead",
    "pids_limit": "set deploy.resources.limits.pids",
    "platform": "set deploy.placement.constraints, such as node.platform.arch == x86_64",
    "privileged": "name the capabilities that it needs in cap_add",
    "pull_policy": "images are named by their digest",
    "scale": "set deploy.replicas",
    "security_opt": "set it for all containers in /etc/docker/daemon.json of each node",
    "shm_size": "mount a tmpfs of that size at /dev/shm",
}


class Section(BaseModel):
    """A part of the file: unknown keys are rejected, extensions and empty values are dropped."""

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
        """A swarm accepts only one of the two; in Compose, which merges files, `disable` wins."""
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
    """A config or a secret as a service mounts it."""

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
        """The docker client rejects these only after it has changed services, or drops them silently."""
        nocopy = self.volume and self.volume.nocopy
        if self.type == "tmpfs" and (self.source or nocopy):
            raise ValueError(f"{self.target}: a tmpfs has no source and no nocopy: remove them")
        if self.type == "volume" and self.tmpfs and self.tmpfs.size:
            raise ValueError(f"{self.target}: a volume has no tmpfs.size: remove it")
        if nocopy and not self.source:
            raise ValueError(f"{self.target}: an anonymous volume has no nocopy: name the volume")
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
            raise ValueError(f"mode {mode} runs one replica on each node: remove the number")
        return replicas


class Ulimit(Section):
    """Compose omits a limit of 0, such as ``core: 0``, from its output."""

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
    # These have other names in a stack file.
    restart: Annotated[RestartPolicy, BeforeValidator(lambda value: restart_policy(str(value)))] | None = Field(
        None, exclude=True
    )
    tmpfs: list[Annotated[Mount, BeforeValidator(lambda value: memory(str(value)))]] | None = Field(None, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _without_dropped_keys(cls, value: object) -> object:
        return {key: each for key, each in value.items() if key not in DROPPED} if isinstance(value, dict) else value

    @field_validator("ports")
    @classmethod
    def _ports_fit_the_endpoint_mode(cls, ports: list[Port] | None, info: ValidationInfo) -> list[Port] | None:
        """Each port once: the docker client rejects duplicates."""
        deploy = info.data.get("deploy")
        ingress = [str(port.target) for port in ports or [] if port.mode == "ingress"]
        if ingress and deploy is not None and deploy.endpoint_mode == "dnsrr":
            raise ValueError(f"{', '.join(ingress)} needs `mode: host`, because deploy.endpoint_mode is dnsrr")
        return ports and [port for number, port in enumerate(ports) if port not in ports[:number]]

    @model_validator(mode="after")
    def _as_swarm_keys(self) -> Self:
        """As in Compose, `deploy.restart_policy` takes precedence over `restart`."""
        if self.restart:
            self.deploy = self.deploy or Deploy()
            policy = self.deploy.restart_policy or RestartPolicy()
            if not policy.condition:
                self.deploy.restart_policy = RestartPolicy(**{**dump(self.restart), **dump(policy)})
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
    def _external_has_no_options(self) -> Self:
        said = {name for name, each in dump(self).items() if each} - {"name", "external"}
        if self.external and said:
            raise ValueError(f"{', '.join(sorted(said))}: an external network is configured elsewhere: remove the keys")
        return self


class Volume(Section):
    name: str | None = None
    driver: str | None = None
    driver_opts: Texts | None = None
    external: bool | None = None
    labels: Texts | None = None


class Content(Section):
    """A config or a secret: a file of this machine, text in the document, or one that the swarm already has."""

    name: str | None = None
    file: str | None = None
    content: str | None = None
    external: bool | None = None

    @field_validator("file", "content")
    @classmethod
    def _not_interpolated(cls, value: str | None) -> str | None:
        return None if value is None else plain(value)

    @model_validator(mode="after")
    def _from_somewhere(self) -> Self:
        if not self.external and (self.file is None) == (self.content is None):
            raise ValueError("needs a file, or content")
        return self


class Document(Section):
    """The output of `docker compose config`."""

    name: str | None = None
    services: dict[str, Service] = Field(min_length=1)
    networks: dict[str, Network | None] = {}
    volumes: dict[str, Volume | None] = {}
    secrets: dict[str, Content] = {}
    configs: dict[str, Content] = {}


def restart_policy(restart: str) -> dict[str, Any]:
    """Convert Compose's restart policy to a swarm's. Raises ValueError for anything else."""
    name, _, most = restart.partition(":")
    if restart in ("always", "unless-stopped"):
        return {"condition": "any"}
    if restart == "no":
        return {"condition": "none"}
    if name == "on-failure" and (not most or most.isdecimal()):
        return {"condition": "on-failure", **({"max_attempts": int(most)} if most else {})}
    raise ValueError(f"{restart!r} is not a restart policy: write always, unless-stopped, on-failure[:MAX] or no")


def memory(tmpfs: str) -> dict[str, Any]:
    """Convert a short `tmpfs` to a mount. Raises ValueError for an option that a swarm's mount does not support."""
    found = TMPFS.fullmatch(tmpfs)
    if not found:
        raise ValueError(f"{tmpfs!r} must be a path, with its options after a colon")
    mount: dict[str, Any] = {"type": "tmpfs", "target": found["path"]}
    for option in filter(None, (found["options"] or "").split(",")):
        name, _, value = option.partition("=")
        size = SIZE.fullmatch(value)
        if name == "size" and size:
            mount["tmpfs"] = {"size": int(size[1]) * 1024 ** " kmg".index(size[2].lower() or " ")}
        elif option not in ("mode=1777", "mode=01777", "rw", "noexec", "nosuid", "nodev"):  # the defaults
            raise ValueError(f"{found['path']}: {option}: a swarm supports only a size here: remove the option")
    return mount


def dump(section: Section) -> dict[str, Any]:
    return section.model_dump(exclude_none=True)
