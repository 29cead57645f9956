"""The stack file of a compose document: what it contains, and what is rejected rather than lost."""

import copy
import hashlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from deploy.core.errors import Failure
from deploy.docker import env as server_env
from deploy.docker.stack import SWARM, Stack
from deploy.swarm import render
from deploy.swarm import stack as stack_files
from deploy.swarm.render import StackFile
from tests.support import ROOT
from tests.unit.stacks import PROJECT, VALUES

Json = dict[str, Any]


def has_compose() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0


needs_docker = pytest.mark.skipif(not has_compose(), reason="needs docker's command with compose; no engine")

# --- Nothing is lost: documents of all kinds, read again by docker's own command ---


class Plain(str):
    """Text that is in the file without quotes."""


class Dumper(yaml.SafeDumper):
    def ignore_aliases(self, _: object) -> bool:
        return True


class Loader(yaml.SafeLoader):
    """Reads a lone `=` as text, as docker's own parser does."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: node.value)
Dumper.add_representer(Plain, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text)))
Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))

BARE = ["1e3", "yes", "0o17", "017", "1_000", "12:30:45", "~", "null", ".inf", "2001-01-01", "0x1F", "Off", "é", "- x"]
SIGNS = [" ", "a: b", "#x", "a #x", "trailing ", "two\nlines\n", "\ttab", "$$HOME", "$${A:?x}", "{{", "'", '"', "="]
QUOTED = [*BARE, *SIGNS]
FREE = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="$"), min_size=1)
TEXT = st.one_of(
    st.sampled_from(BARE).filter(lambda text: text != "- x").map(Plain),
    st.sampled_from(QUOTED),
    FREE,
    st.integers(-(10**6), 10**6),
    st.sampled_from([1.0, 0.1, 1e21]),
)
KEY = st.sampled_from(["A", "B_C", "list", "x-y", "K$Z", "yes", "é", "1", "NULL"])
PAIRS = st.one_of(
    st.dictionaries(KEY, TEXT, min_size=1, max_size=4),
    st.lists(
        st.builds("{}={}".format, st.sampled_from(["A", "b.c", "x-y", "K$$Z"]), st.sampled_from(QUOTED)),
        unique_by=lambda pair: pair.partition("=")[0],
        max_size=3,
    ),
)
WORDS = st.lists(st.sampled_from(["run", "--x=1", *QUOTED]), min_size=1, max_size=3)
TIME = st.sampled_from(["1s", "90s", "1m30s", "500ms", "250us", "26h"])
SIZE = st.sampled_from(["64m", "1g", "1048576", "1.5gb"])
WHOLE = st.integers(1, 9)
NAMES = ["one", "list", "str-1", "int", "app_2", "N.o"]
NAME = st.sampled_from(NAMES)
SHORT_TMPFS = {
    "/tmp": None,
    "/m1:mode=1777,size=64m": 64 * 1024**2,
    "/m2:size=4096,noexec": 4096,
    "/m3:size=1g": 1024**3,
    "/m4:size=8K,rw": 8192,
}
#: File systems that a short `tmpfs` cannot be in a swarm.
ODD_TMPFS = ["/t:mode=700", "/t:exec", "/t:size=50%", "/t:uid=5"]


def some(**strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries({}, optional=strategies)


def among(values: list[str], **options: Any) -> st.SearchStrategy[Any]:
    return st.lists(st.sampled_from(values), **options) if values else st.just([])


UPDATE = some(
    parallelism=st.integers(0, 9),
    delay=TIME,
    failure_action=st.sampled_from(["continue", "pause"]),
    monitor=TIME,
    max_failure_ratio=st.sampled_from([0.1, 0.00001, 1]),
    order=st.sampled_from(["start-first", "stop-first"]),
)
DEPLOY = some(
    mode=st.sampled_from(["replicated", "replicated", "global", "replicated-job"]),
    replicas=st.integers(0, 9),
    endpoint_mode=st.sampled_from(["vip", "vip", "dnsrr"]),
    labels=PAIRS,
    resources=some(
        limits=some(cpus=st.sampled_from(["0.5", 0.3, 2, "0.001"]), memory=SIZE, pids=WHOLE),
        reservations=some(cpus=st.sampled_from(["0.25", 1]), memory=SIZE),
    ),
    placement=some(
        constraints=st.lists(st.sampled_from(["node.role == manager", "node.labels.a != b"]), max_size=2),
        preferences=st.lists(st.just({"spread": "node.labels.zone"}), max_size=2),
        max_replicas_per_node=WHOLE,
    ),
    restart_policy=some(
        condition=st.sampled_from(["any", "none", "on-failure"]), delay=TIME, max_attempts=WHOLE, window=TIME
    ),
    update_config=UPDATE,
    rollback_config=UPDATE,
)
HEALTH = st.one_of(
    some(
        test=st.one_of(WORDS.map(lambda words: ["CMD", *words]), st.sampled_from(["curl $$HOST || exit 1", ["NONE"]])),
        interval=TIME,
        timeout=TIME,
        retries=st.integers(0, 9),
        start_period=TIME,
        start_interval=TIME,
    ),
    st.just({"disable": True}),
    st.just({"disable": True, "test": ["CMD", "x"], "interval": "5s"}),
)
PORTS = st.sampled_from(
    [
        *["80", 81, "8080:80", "8080:80/udp", "9000-9002:9000-9002", "5353:53/udp"],
        {"target": 80, "published": 8080},
        {"target": 443, "published": "8443", "mode": "host"},
        {"target": 5, "protocol": "udp"},
    ]
)
#: What a swarm takes, or what is dropped with a reason.
FINE: dict[str, st.SearchStrategy[Any]] = {
    "command": st.one_of(WORDS, st.just("sh -c 'echo $$HOME'")),
    "entrypoint": WORDS,
    "environment": PAIRS,
    "user": st.sampled_from(["1000", "root", "1:2", 5, Plain("0o17")]),
    "working_dir": st.sampled_from(["/srv", "/a b", "C:"]),
    "hostname": st.sampled_from(["h", "{{.Node.Hostname}}", "1e3"]),
    "init": st.booleans(),
    "read_only": st.booleans(),
    "stdin_open": st.booleans(),
    "tty": st.booleans(),
    "stop_signal": st.just("SIGQUIT"),
    "stop_grace_period": TIME,
    "cap_add": among(["ALL", "NET_ADMIN"], max_size=2),
    "cap_drop": among(["ALL", "CHOWN"], max_size=2, unique=True),
    "dns": st.sampled_from(["1.1.1.1", ["::1", "8.8.8.8"]]),
    "dns_search": st.sampled_from(["a.example", ["a.example", "."]]),
    "extra_hosts": st.sampled_from([["a:1.2.3.4", "b=::1", "c:[::2]"], {"a": "1.2.3.4", "b": "::1"}, ["a:1.1.1.1"]]),
    "sysctls": st.sampled_from([{"net.core.somaxconn": 1024}, ["net.core.somaxconn=1024", "a=b"]]),
    "ulimits": some(nofile=st.just({"soft": 0, "hard": 9}), nproc=st.integers(-1, 9), core=st.just(0)),
    "labels": PAIRS,
    "healthcheck": HEALTH,
    "logging": some(driver=st.sampled_from(["local", "json-file"]), options=st.just({"max-file": 5, "tag": "{{.ID}}"})),
    "ports": st.lists(PORTS, max_size=4),
    "tmpfs": st.one_of(among([*SHORT_TMPFS], max_size=3, unique=True), st.just("/tmp")),
    "deploy": DEPLOY,
    "restart": st.sampled_from(["no", "always", "unless-stopped", "on-failure", "on-failure:3"]),
    "expose": st.just(["80", 443]),
    "build": st.one_of(st.just("."), st.just({"context": ".", "target": "app", "args": {"A": "$$1"}})),
    "develop": st.just({"watch": [{"path": ".", "action": "rebuild"}]}),
    "env_file": st.just("some.env"),
    "x-more": st.just({"a": [1]}),
}
#: What a swarm has not, or has under conditions.
ODD: dict[str, st.SearchStrategy[Any]] = {
    "container_name": st.just("one"),
    "privileged": st.just(True),
    "devices": st.just(["/dev/a:/dev/b"]),
    "security_opt": st.just(["no-new-privileges:true"]),
    "shm_size": SIZE,
    "network_mode": st.sampled_from(["host", "none"]),
    "pid": st.just("host"),
    "ipc": st.just("host"),
    "platform": st.just("linux/amd64"),
    "pull_policy": st.just("always"),
    "scale": WHOLE,
    "mem_limit": SIZE,
    "cpus": st.just(0.5),
    "group_add": st.just(["1"]),
    "userns_mode": st.just("host"),
    "domainname": st.just("d.example"),
    "mac_address": st.just("02:42:ac:11:65:43"),
    "oom_score_adj": st.just(5),
    "runtime": st.just("runc"),
    "credential_spec": st.just({"file": "x.json"}),
    "annotations": st.just({"a": "b"}),
    "command": st.sampled_from([[], ""]),
    "entrypoint": st.just([]),
    "environment": st.sampled_from([{"A": ""}, ["A="], {"A": None}, ["A"]]),
    "restart": st.sampled_from(["always:3", "no:1", "sometimes"]),
    "tmpfs": among(ODD_TMPFS, min_size=1, max_size=2),
    "dns": st.just(["name.example"]),
    "ports": st.sampled_from(
        [
            *[["127.0.0.1:80:80"], ["[::1]:80:80"], ["8000-8010:80"], [{"target": 80, "host_ip": "127.0.0.1"}]],
            [{"target": 80, "published": "8000-8001"}],
            [{"target": 80, "app_protocol": "http", "name": "web"}],
        ]
    ),
    "volumes": st.sampled_from(
        [
            *[["/etc:/etc"], ["./x:/x:ro"], ["~/x:/x"], [{"type": "npipe", "source": "a", "target": "/b"}]],
            [{"type": "bind", "source": "/x", "target": "/y", "bind": {"propagation": "rshared"}}],
            [{"type": "tmpfs", "target": "/t", "tmpfs": {"mode": 448}}],
            [{"type": "tmpfs", "target": "/t", "source": "no"}],
            [{"type": "volume", "target": "/t", "volume": {"nocopy": True}}],
            [{"type": "volume", "target": "/t", "tmpfs": {"size": 5}}],
        ]
    ),
    "deploy": st.sampled_from(
        [
            {"mode": "global", "replicas": 2},
            {"resources": {"reservations": {"devices": [{"capabilities": ["gpu"]}]}}},
            {
                "resources": {
                    "reservations": {"generic_resources": [{"discrete_resource_spec": {"kind": "g", "value": 1}}]}
                }
            },
            {"restart_policy": {"condition": "always"}},
            {"update_config": {"failure_action": "explode"}},
        ]
    ),
}
NETWORK = some(
    driver=st.just("overlay"),
    driver_opts=st.just({"encrypted": "true", "n": 5}),
    internal=st.booleans(),
    attachable=st.booleans(),
    labels=PAIRS,
    name=st.just("other"),
    ipam=some(driver=st.just("default"), config=st.just([{"subnet": "10.9.0.0/16"}])),
)
ODD_NETWORK = st.sampled_from(
    [
        *[{"driver": "bridge"}, {"enable_ipv6": True}, {"external": True, "internal": True}],
        *[{"ipam": {"config": [each]}} for each in ({"subnet": "10.9.0.0/16", "gateway": "10.9.0.1"}, {"subnet": "x"})],
    ]
)
VOLUME = st.one_of(
    some(driver=st.just("local"), driver_opts=st.just({"type": "nfs", "o": "$$x"}), labels=PAIRS, name=st.just("v$$1")),
    st.sampled_from([None, {"external": True}, {"external": True, "name": "theirs"}]),
)
SOURCES = st.sampled_from(
    [{"file": "one"}, {"file": "t$$wo"}, {"external": True}, {"external": True, "name": "theirs"}]
)
CONFIG = st.one_of(SOURCES, FREE.map(lambda text: {"content": text}), st.just({"content": "a$$b\n${UNSET-}$$"}))
ODD_SOURCE = st.sampled_from(
    [
        {"environment": "A"},
        {"file": "one", "template_driver": "golang"},
        {"file": "none"},
        {"file": "one", "labels": {"a": "b"}},
    ]
)
#: What the files of this folder hold, as documents name them.
FILES = {"one": "1\n", "t$wo": "a$$b: é\n", "none": ""}


#: What chance would seldom bring about.
RARE: Json = {
    "name": "shop",
    "services": {
        "list": {
            "image": "i:1",
            "command": QUOTED,
            "environment": {f"K{number}": text for number, text in enumerate(QUOTED)},
            "labels": {f"K{number}": Plain(text) for number, text in enumerate(BARE[:-1])},
            "ports": ["80:80", {"target": 80, "published": 80}],
            "healthcheck": {"test": ["CMD", "x"], "disable": True},
            "ulimits": {"core": 0, "nofile": {"soft": 0, "hard": 9}, "nproc": -1},
            "user": "0o17",
            "configs": [{"source": "one", "mode": 0o440}],
            "tmpfs": [*SHORT_TMPFS],
        }
    },
    "configs": {"one": {"file": "t$$wo"}},
}


@st.composite
def references(draw: st.DrawFn, names: list[str]) -> list[Any]:
    found: list[Any] = []
    for name in draw(among(names, max_size=2)):
        target = draw(some(target=st.sampled_from(["/etc/x", "y"]), uid=st.just("5"), gid=st.just("6")))
        mode = draw(some(mode=st.sampled_from([0o400, 0o444, 0o440, 0o555, *draw(st.sampled_from([[], ["0440"]]))])))
        found.append(draw(st.sampled_from([name, {"source": name, **target, **mode}])))
    return found


@st.composite
def mounts(draw: st.DrawFn, volumes: list[str]) -> list[Any]:
    memory = some(tmpfs=some(size=st.sampled_from([5, "64m"])), read_only=st.booleans())
    found: list[Any] = [
        draw(
            st.sampled_from(
                [
                    *[
                        f"{volume}:{target}:ro",
                        f"{volume}:{target}",
                        {"type": "volume", "source": volume, "target": target},
                    ],
                    {"type": "volume", "source": volume, "target": target, "volume": {"nocopy": True}},
                    {"type": "volume", "source": volume, "target": target, "read_only": True, "volume": {}},
                ]
            )
        )
        for volume, target in zip(draw(among(volumes, max_size=2)), ["/v1", "/v$$2"], strict=False)
    ]
    found += draw(st.lists(st.just("/anonymous"), max_size=1))
    return [*found, *draw(st.lists(memory.map(lambda each: {"type": "tmpfs", "target": "/mem", **each}), max_size=1))]


@st.composite
def documents(draw: st.DrawFn) -> Json:
    """A document; every second one has something odd."""
    odd = draw(st.booleans())
    strange = draw(st.sampled_from(["service", "service", "service", "network", "source", "attachment"]))

    def section(kind: str, plain: st.SearchStrategy[Any], bad: st.SearchStrategy[Any]) -> Json:
        found = draw(st.dictionaries(NAME, plain, max_size=2))
        return found | draw(st.dictionaries(NAME, bad, min_size=1, max_size=1)) if odd and strange == kind else found

    networks = section("network", st.one_of(NETWORK, st.sampled_from([None, {"external": True}])), ODD_NETWORK)
    volumes = draw(st.dictionaries(NAME, VOLUME, max_size=2))
    secrets = section("source", SOURCES, ODD_SOURCE)
    configs = section("source", CONFIG, ODD_SOURCE)
    services: Json = {}
    for name in draw(among([*NAMES, "x-y"], min_size=1, max_size=2, unique=True)):
        keys = draw(st.lists(st.sampled_from([*FINE]), unique=True, min_size=1, max_size=12))
        service: Json = {"image": "i:1", **{key: draw(FINE[key]) for key in keys}}
        service["volumes"] = draw(mounts([*volumes]))
        service["secrets"], service["configs"] = draw(references([*secrets])), draw(references([*configs]))
        attachment: st.SearchStrategy[Any] = st.sampled_from([None, {}, {"aliases": ["also", "x-y"]}])
        if odd and strange == "attachment":
            attachment = st.sampled_from(
                [{"ipv4_address": "10.9.0.5"}, {"priority": 5}, {"link_local_ips": ["1.1.1.1"]}]
            )
        if networks:
            service["networks"] = draw(st.dictionaries(st.sampled_from([*networks]), attachment, max_size=2))
        if odd and strange == "service":
            more = {key: draw(ODD[key]) for key in draw(st.lists(st.sampled_from([*ODD]), min_size=1, max_size=2))}
            service = {**service, **more}
            if "network_mode" in more:
                service.pop("networks", None)
        services[name] = service
    first, *rest = services
    for name in rest:
        services[name]["depends_on"] = draw(st.sampled_from([[first], {first: {"condition": "service_started"}}]))
    return {
        "name": "shop",
        "x-top": {"a": 1},
        "services": services,
        "networks": networks,
        "volumes": volumes,
        "secrets": secrets,
        "configs": configs,
    }


def run(words: list[str], text: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        words, input=text, env={**kept, **env}, cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


def as_compose_has_it(text: str, folder: Path) -> Json | None:
    """The document as Compose prints it; None if Compose rejects it."""
    words = ["docker", "compose", "--env-file", "empty.env", "--project-directory", ".", "-f", "-", "config"]
    result = run([*words, "--format", "json"], text, folder)
    found: Json | None = json.loads(result.stdout) if result.returncode == 0 else None
    return found


def as_a_swarm_has_it(text: str, folder: Path) -> Json:
    """A stack file as docker's own command reads it, in a shell with variables of the same names."""
    result = run(["docker", "stack", "config", "-c", "-"], text, folder, A="shell", B_C="shell", HOST="shell")
    assert result.returncode == 0, result.stderr + text
    found: Json = yaml.load(result.stdout, Loader)
    return found


def plain(value: Any) -> Any:
    """Compose's output with each doubled `$` as one."""
    if isinstance(value, dict):
        return {plain(key): plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value.replace("$$", "$") if isinstance(value, str) else value


def pruned(value: Any) -> Any:
    """Drop empty values and extensions; from a mapping with user-defined keys, only keys without a value."""
    if not isinstance(value, dict):
        return [pruned(each) for each in value] if isinstance(value, list) else value
    found = {
        key: each if key in ("environment", "labels", "options", "driver_opts", "sysctls") else pruned(each)
        for key, each in value.items()
    }
    return {
        key: each
        for key, each in found.items()
        if each is not None and each not in ([], {}) and (each is not False or key == "init")
    }


def alike(service: Json) -> Json:
    """A service as either command prints it, in one order and one notation."""
    service = copy.deepcopy(service)
    for each in ((service.get("deploy") or {}).get("resources") or {}).values():
        if "cpus" in each:
            each["cpus"] = float(each["cpus"])
    for name in ("update_config", "rollback_config"):
        config = (service.get("deploy") or {}).get(name) or {}
        config["max_failure_ratio"] = float(config.get("max_failure_ratio") or 0)
    for name, limit in (service.get("ulimits") or {}).items():
        both = {"soft": limit, "hard": limit} if isinstance(limit, int) else limit
        service["ulimits"][name] = {"soft": 0, "hard": 0, **both}
    service["ports"] = sorted({json.dumps(pruned(port), sort_keys=True) for port in service.get("ports") or []})
    service["extra_hosts"] = sorted(service.get("extra_hosts") or [])
    networks = {name: pruned(each) or {} for name, each in (service.get("networks") or {}).items()}
    return {**pruned(service), "networks": networks}


def meant(document: Json) -> Json:
    """The service that a swarm must get from Compose's output: all of it, in the keys of the other command."""
    dropped = ("build", "depends_on", "develop", "expose", "profiles")
    service = {key: each for key, each in copy.deepcopy(document).items() if key not in dropped}
    service["environment"] = {key: each for key, each in (service.get("environment") or {}).items() if each is not None}
    deploy = service["deploy"] = service.get("deploy") or {}
    name, _, most = service.pop("restart", "").partition(":")
    policy = deploy.get("restart_policy") or {}
    if name and not policy.get("condition"):
        condition = {"no": "none", "on-failure": "on-failure"}.get(name, "any")
        deploy["restart_policy"] = {"condition": condition, **({"max_attempts": int(most)} if most else {}), **policy}
    for port in service.get("ports") or []:
        port["published"] = int(port["published"]) if port.get("published") else None
    service["extra_hosts"] = [each.replace("=", ":", 1) for each in service.get("extra_hosts") or []]
    mounts = service["volumes"] = service.get("volumes") or []
    for mount in mounts:
        if "size" in (mount.get("tmpfs") or {}):
            mount["tmpfs"]["size"] = int(mount["tmpfs"]["size"])
    for each in service.pop("tmpfs", None) or []:
        mounts.append({"type": "tmpfs", "target": each.partition(":")[0], "tmpfs": {"size": SHORT_TMPFS[each]}})
    for each in [*(service.get("configs") or []), *(service.get("secrets") or [])]:
        if isinstance(each.get("mode"), str):  # as newer versions of Compose print it
            each["mode"] = int(each["mode"], 8)
    if (service.get("healthcheck") or {}).get("disable"):
        service["healthcheck"].pop("test", None)
    return alike(service)


def meant_section(document: Json, kind: str, file: StackFile) -> Any:
    """What a document's services name of this kind, each with its content, or with its name in the swarm."""
    named = {
        name: document[kind][name] or {}
        for service in document["services"].values()
        for each in service.get(kind) or []
        if (name := each if isinstance(each, str) else each.get("source"))
        if kind != "volumes" or each["type"] == "volume"
    }
    if kind in ("networks", "volumes"):
        return pruned(named)
    made = {**file.configs, **file.secrets}
    for name, each in named.items():
        there = file.sections[kind][name]["name"]
        if not each.get("external"):
            text = each["content"] if "content" in each else FILES[Path(each["file"]).name]
            assert made[there] == text
            assert text not in file.text or len(text) < 10
        named[name] = {"external": True, "name": there if not each.get("external") else each["name"]}
    return named


def said(failure: Failure, document: Json) -> None:
    """Each line names a thing and keys that the document has."""
    for line in failure.message.splitlines():
        found = re.match(r"(service|network|volume|config|secret) (\S+): ([\w, -]+): \S", line)
        assert found, line
        kind, name, keys = found.groups()
        assert name in document[f"{kind}s"], line
        for key in keys.split(", "):
            assert key in document[f"{kind}s"][name] or line.endswith("image: is missing"), line


def check(document: Json, folder: Path) -> str:
    """The result for a document: nothing if Compose rejects it, else a complete stack file or a clear refusal."""
    text = yaml.dump(document, Dumper=Dumper, allow_unicode=True, width=10_000)
    composed = as_compose_has_it(text, folder)
    if composed is None:
        return ""
    contents = {str(folder / name): text for name, text in FILES.items()}
    assert set(render.referenced(composed)) <= set(contents)
    try:
        file = render.render(composed, "shop", contents, {})
    except Failure as failure:
        said(failure, composed)
        return "refused"
    there, whole = as_a_swarm_has_it(file.text, folder), plain(composed)
    expected = {name: meant(each) for name, each in whole["services"].items()}
    assert {name: alike(each) for name, each in there["services"].items()} == expected
    for kind in ("networks", "volumes", "configs", "secrets"):
        found, named = pruned(there.get(kind) or {}), meant_section(whole, kind, file)
        assert {name: each for name, each in found.items() if name != "default" or name in named} == named
    return "rendered"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the files that documents name."""
    for name, text in {**FILES, "empty.env": "", "some.env": "FROM_FILE=a$$b\n"}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@needs_docker
def test_text_that_looks_like_something_else_and_what_the_two_commands_note_apart_come_through(folder: Path) -> None:
    assert check(RARE, folder) == "rendered"


@needs_docker
def test_whatever_compose_takes_is_in_the_stack_file_or_named_as_refused(folder: Path) -> None:
    seen: list[str] = []

    @settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[*HealthCheck])
    @given(documents())
    def holds(document: Json) -> None:
        seen.append(check(document, folder))
        assume(seen[-1])

    holds()
    assert min(seen.count("rendered"), seen.count("refused")) >= 15, "a test of little"


# --- The project's own files ---


@pytest.fixture
def project(tmp_path: Path) -> Stack:
    """The stack from this work tree's files, with a certificate and a key."""
    for name in ("deploy/compose", "nginx"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in (".env", "tls.crt", "tls.key"):
        (tmp_path / name).write_text(f"{name} of shop.example\n" if name != ".env" else "")
    tls = {"TLS_CERTIFICATE": str(tmp_path / "tls.crt"), "TLS_KEY": str(tmp_path / "tls.key")}
    return Stack(replace(PROJECT, root=tmp_path), SWARM, server_env.parse({**VALUES, **tls}, ".env"))


@needs_docker
def test_the_projects_files_make_the_same_stack_file_each_time_and_docker_takes_it(project: Stack) -> None:
    file, again = (stack_files.stack_file(project, {project.image: "r.example/shop@sha256:0"}) for _ in range(2))
    assert (file, file.text) == (again, again.text)
    assert file.services["app"]["image"] == "r.example/shop@sha256:0"
    there = as_a_swarm_has_it(file.text, project.project.root)
    assert set(there["services"]) == set(file.services) >= {"postgres", "rabbitmq", "release", "static", "app", "nginx"}
    assert {each["deploy"]["endpoint_mode"] for each in there["services"].values()} == {"dnsrr"}


@needs_docker
def test_no_secret_is_in_the_stack_file_or_in_what_is_printed_of_it(project: Stack) -> None:
    file = stack_files.stack_file(project, {})
    values = [*("k" * 50, "p" * 20, "r" * 20), "tls.key of shop.example"]
    for value in values:
        assert value not in file.text + repr(file) + "".join(file.configs.values())
        assert any(value in text for text in file.secrets.values())


# --- Names, parts, reading back ---


def a_document(**service: Any) -> Json:
    """A document with one service, and with everything that it may name."""
    sources: Json = {"one": {"file": "/one"}, "other": {"content": "a$$b"}}
    return {
        "name": "shop",
        "services": {"app": {"image": "i", **service}},
        "networks": {"default": {"name": "shop_default", "ipam": {}}, "front": {"name": "shop_front"}},
        "volumes": {"data": {"name": "shop_data"}, "unused": {"name": "shop_unused"}},
        "configs": dict(sources),
        "secrets": {"one": {"file": "/one"}, "theirs": {"external": True, "name": "theirs"}},
    }


def rendered(document: Json, text: str = "1", stack: str = "shop") -> StackFile:
    return render.render(document, stack, {"/one": text}, {})


def refused(document: Json) -> list[str]:
    with pytest.raises(Failure) as caught:
        rendered(document)
    return caught.value.message.splitlines()


def test_the_name_of_a_content_is_another_when_the_content_is_and_a_secrets_is_no_plain_hash() -> None:
    document = a_document(configs=[{"source": "one"}], secrets=[{"source": "one"}])

    def names(text: str, stack: str = "shop") -> tuple[str, str]:
        file = rendered(document, text, stack)
        assert (list(file.configs.values()), list(file.secrets.values())) == ([text], [text])
        return file.sections["configs"]["one"]["name"], file.sections["secrets"]["one"]["name"]

    first, same, changed, other = names("1"), names("1"), names("2"), names("1", "another")
    assert first == same
    assert not set(first) & set(changed)
    ends = [[each.rpartition("_")[2] for each in pair] for pair in (first, other)]
    assert ends[0][0] == ends[1][0] == hashlib.sha256(b"1").hexdigest()[:12]
    assert len({ends[0][0], ends[0][1], ends[1][1]}) == 3, "nobody looks a secret up by its name"


@settings(max_examples=20, deadline=None)
@given(st.text("abcdefghij-_", min_size=1, max_size=80), st.text("abcdefghij.-_", min_size=1, max_size=80))
def test_no_name_is_longer_than_a_swarm_takes_and_each_ends_with_its_hash(stack: str, name: str) -> None:
    found = [render.content_name(stack, name, text, secret=secret) for text in "12" for secret in (False, True)]
    assert len(set(found)) == 4
    assert all(len(each) <= 64 and re.search(r"_[0-9a-f]{12}$", each) for each in found)


def test_a_content_is_what_was_meant_and_not_its_notation_for_compose() -> None:
    file = rendered(a_document(configs=[{"source": "other"}], labels={"a$$b": "a$$b"}))
    assert list(file.configs.values()) == ["a$b"]
    assert file.services["app"]["labels"] == {"a$b": "a$$b"}, "the client interpolates values, and no keys"


def test_a_part_of_a_stack_file_has_what_its_services_name_and_nothing_else() -> None:
    document = a_document(volumes=[{"type": "volume", "source": "data", "target": "/x"}], networks={"front": None})
    document["services"]["other"] = {"image": "i", "secrets": [{"source": "theirs"}], "configs": [{"source": "one"}]}
    file = rendered(document)
    assert "unused" not in file.sections["volumes"]
    part = file.only(["app"])
    assert list(part.services) == ["app"]
    assert {kind: set(each) for kind, each in part.sections.items() if each} == {
        "networks": {"default", "front"},
        "volumes": {"data"},
    }
    other = file.only(["other"]).sections
    assert (set(other["configs"]), other["secrets"]) == ({"one"}, {"theirs": {"external": True, "name": "theirs"}})


def test_what_was_written_is_read_back_and_the_order_of_a_document_changes_nothing() -> None:
    odd = {f"K{number}": str(text) for number, text in enumerate(QUOTED)}
    document = a_document(environment=odd, secrets=[{"source": "one", "mode": 0o400}], networks={"front": None})
    file = rendered(document)
    read = StackFile.read(file.text)
    assert read.services == file.services
    assert read.sections == {kind: each for kind, each in file.sections.items() if each}
    turned = json.loads(json.dumps(document), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    assert read.text == file.text == rendered(turned).text, "in one order"


# --- What is refused ---

MOUNT = {"type": "volume", "source": "data", "target": "/x"}
REFUSED: dict[str, Json] = {
    "volumes: /etc is a bind mount: a node has no folder": {"volumes": [{**MOUNT, "type": "bind", "source": "/etc"}]},
    "volumes: volume: subpath: is not": {"volumes": [{**MOUNT, "volume": {"subpath": "a"}}]},
    "volumes: /x: an anonymous volume has no nocopy": {
        "volumes": [{"type": "volume", "target": "/x", "volume": {"nocopy": True}}]
    },
    "volumes: /x: a tmpfs has no source": {"volumes": [{**MOUNT, "type": "tmpfs"}]},
    "volumes: /x: a volume has no tmpfs.size": {"volumes": [{**MOUNT, "tmpfs": {"size": 5}}]},
    "volumes: tmpfs: mode: is not": {"volumes": [{"type": "tmpfs", "target": "/x", "tmpfs": {"mode": 448}}]},
    "volumes: gone: is not defined": {"volumes": [{**MOUNT, "source": "gone"}]},
    "secrets: gone: is not defined": {"secrets": [{"source": "gone"}]},
    "secrets: mode: is 0o620: write it without quotes": {"secrets": [{"source": "one", "mode": 400}]},
    "ports: host_ip: a swarm publishes on every": {"ports": [{"target": 80, "host_ip": "127.0.0.1"}]},
    "ports: published: is a range": {"ports": [{"target": 80, "published": "80-90"}]},
    "ports: 80 needs `mode: host`, because deploy.endpoint_mode is dnsrr": {
        "ports": [{"target": 80}, {"target": 81, "mode": "host"}],
        "deploy": {"endpoint_mode": "dnsrr"},
    },
    "deploy: replicas: mode global runs one replica on each node": {"deploy": {"mode": "global", "replicas": 2}},
    "deploy: restart_policy: condition: must be 'any'": {"deploy": {"restart_policy": {"condition": "always"}}},
    "container_name: replicas cannot share a name": {"container_name": "one"},
    "privileged: name the capabilities": {"privileged": True},
    "security_opt: set it for all containers in": {"security_opt": ["no-new-privileges:true"]},
    "shm_size: mount a tmpfs of that size": {"shm_size": "128m"},
    "credential_spec: is not supported in a swarm": {"credential_spec": {"file": "x"}},
    "networks: front: ipv4_address: is not": {"networks": {"front": {"ipv4_address": "10.0.0.5"}}},
    "dns: name.example is not an IP address": {"dns": ["name.example"]},
    "entrypoint: is empty; a swarm would then use the image's own value": {"entrypoint": []},
    "environment: A is empty, so the client's shell would set it": {"environment": {"A": "", "B": "1"}},
    "restart: 'always:3' is not a restart policy": {"restart": "always:3"},
    "tmpfs: /x: mode=700: a swarm supports only a size": {"tmpfs": ["/x:mode=700"]},
    "tmpfs: 'x' must be a path": {"tmpfs": ["x"]},
    "image: is missing": {"image": None},
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_a_swarm_would_lose_is_refused_in_a_line_that_names_it(line: str) -> None:
    (said,) = refused(a_document(**REFUSED[line]))
    assert said.startswith(f"service app: {line}")


def addresses(**more: str) -> Json:
    return {"ipam": {"config": [{"subnet": "10.0.0.0/8", **more}]}}


@pytest.mark.parametrize(
    ("line", "sections"),
    [
        ("network front: driver: must be 'overlay'", {"networks": {"front": {"driver": "bridge"}}}),
        ("network front: enable_ipv6: is not", {"networks": {"front": {"enable_ipv6": True}}}),
        ("network front: ipam: config: gateway: is not", {"networks": {"front": addresses(gateway="10.0.0.1")}}),
        ("network front: ipam: config: subnet: x is not a subnet", {"networks": {"front": addresses(subnet="x")}}),
        ("network front: internal: an external network", {"networks": {"front": {"external": True, "internal": True}}}),
        ("secret one: environment: content from a shell", {"secrets": {"one": {"environment": "A"}}}),
        ("secret one: needs a file, or content", {"secrets": {"one": {}}}),
        ("secret one: template_driver: is not", {"secrets": {"one": {"file": "/one", "template_driver": "golang"}}}),
        ("config one: content: is empty, or over 1000000 bytes", {"configs": {"one": {"content": ""}}}),
        ("config one: content: is empty, or over 1000000 bytes", {"configs": {"one": {"content": "é" * 500_001}}}),
    ],
)  # fmt: skip
def test_so_is_what_the_other_sections_have(line: str, sections: Json) -> None:
    document = a_document(secrets=[{"source": "one"}], configs=[{"source": "one"}], networks={"front": None})
    (said,) = refused({**document, **sections})
    assert said.startswith(line)


def test_all_that_is_refused_is_said_at_once_whatever_the_services_are_called() -> None:
    one = {"image": "i", "restart": "sometimes", "tmpfs": ["/x:exec", "y"], "privileged": True}
    two = {
        "image": "i",
        "ports": [{"target": 80}],
        "deploy": {"endpoint_mode": "dnsrr"},
        "ulimits": {"int": {"soft": "x"}},
    }
    lines = refused({"services": {"list": one, "str-1": two}, "networks": {"dict": {"driver": "bridge"}}})
    assert sorted(" ".join(line.split()[:3]) for line in lines) == [
        "network dict: driver:",
        *["service list: privileged:", "service list: restart:", "service list: tmpfs:", "service list: tmpfs:"],
        *["service str-1: ports:", "service str-1: ulimits:"],
    ]


# --- Restart policies, memory ---


@pytest.mark.parametrize(
    ("restart", "own", "policy"),
    [
        ("no", {}, {"condition": "none"}),
        ("always", {}, {"condition": "any"}),
        ("unless-stopped", {}, {"condition": "any"}),
        ("on-failure", {}, {"condition": "on-failure"}),
        ("on-failure:3", {}, {"condition": "on-failure", "max_attempts": 3}),
        ("on-failure:3", {"delay": "2s"}, {"condition": "on-failure", "max_attempts": 3, "delay": "2s"}),
        ("on-failure:3", {"condition": "none"}, {"condition": "none"}),
    ],
)
def test_a_restart_policy_is_the_same_in_a_swarm_unless_the_swarm_has_its_own(
    restart: str, own: Json, policy: Json
) -> None:
    file = rendered(a_document(restart=restart, deploy={"restart_policy": own}))
    assert file.services["app"]["deploy"] == {"restart_policy": policy}


@pytest.mark.parametrize(("tmpfs", "size"), SHORT_TMPFS.items())
def test_a_file_system_in_memory_keeps_its_size(tmpfs: str, size: int | None) -> None:
    file = rendered(a_document(tmpfs=[tmpfs], volumes=[MOUNT]))
    mount = {"type": "tmpfs", "target": tmpfs.partition(":")[0], **({"tmpfs": {"size": size}} if size else {})}
    assert file.services["app"]["volumes"] == [MOUNT, mount]


# --- Networks ---


def test_encrypted_networks_are_all_but_another_s_and_only_where_env_asks_for_it() -> None:
    own, others = {"driver": "overlay", "internal": True}, {"external": True, "name": "theirs"}
    document = a_document() | {"networks": {"data": own, "theirs": others}}
    made = stack_files.encrypted(document)["networks"]
    assert made == {"data": {**own, "driver_opts": {"encrypted": "true"}}, "theirs": others}
    file = render.render(
        {**document, "networks": made} | {"services": {"app": {"image": "x", "networks": {"data": None}}}},
        "shop",
        {},
        {},
    )
    assert file.sections["networks"]["data"]["driver_opts"] == {"encrypted": "true"}
    values = {name: value for name, value in VALUES.items() if value}
    assert not server_env.parse(values, ".env").encrypted_networks, "a kernel without ESP would part the nodes"
    assert server_env.parse({**values, "ENCRYPTED_NETWORKS": "1"}, ".env").encrypted_networks
