"""The kinds of workers as services of Compose: copies of the service `celery_worker`, made from the compose files.

Each compose file yields a document with the copies of what it says of that service, so that Compose merges these as it
merges the files; a last document has what makes the kinds differ. Without kinds in `invoke.yaml`, there is none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import lru_cache
from pathlib import Path

import yaml

from deploy.project.workers import DEFAULT, ONE, SERVICE, Kind

FOLDER = Path(__file__).resolve().parents[1] / "compose"
BEAT = "celery_beat"
#: The label of a swarm's service that must have one replica.
ALONE = "portico.alone"


@lru_cache(maxsize=8)
def documents(files: tuple[str, ...], kinds: tuple[Kind, ...]) -> tuple[str, ...]:
    """The documents for these compose files (`base`, `prod` …), in their order; none for the default kind alone."""
    if not kinds or kinds == ONE:
        return ()
    layers = [_services(name) for name in files]
    copies = [_copies(services, kinds, swarm=name == "swarm") for name, services in zip(files, layers, strict=True)]
    command = next(each for services in reversed(layers) for each in _command(services.get(SERVICE)))
    last = json.dumps({"services": {kind.service: _own(kind, kinds, command) for kind in kinds}}, indent=2)
    return (*(yaml.serialize(each, Dumper=yaml.SafeDumper) for each in copies if each), f"{last}\n")


def _services(name: str) -> dict[str, yaml.Node]:
    """The services of a compose file, not constructed: Compose's own tags stay."""
    document = yaml.compose((FOLDER / f"{name}.yaml").read_text(), Loader=yaml.SafeLoader)
    return _mapping(_mapping(document)["services"])


def _mapping(node: yaml.Node | None) -> dict[str, yaml.Node]:
    return {key.value: value for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}


def _made(values: dict[str, yaml.Node]) -> yaml.MappingNode:
    return yaml.MappingNode("tag:yaml.org,2002:map", [(_text(key), value) for key, value in values.items()])


def _text(value: str) -> yaml.ScalarNode:
    return yaml.ScalarNode(f"tag:yaml.org,2002:{'merge' if value == '<<' else 'str'}", value)


def _copies(services: dict[str, yaml.Node], kinds: Sequence[Kind], *, swarm: bool) -> yaml.MappingNode | None:
    """What a compose file says of each kind; None for a file that says nothing."""
    worker, beat = _mapping(services.get(SERVICE)), _mapping(services.get(BEAT))
    found = {}
    for kind in kinds:
        said = {} if kind.name == DEFAULT else dict(worker)
        if kind.alone and swarm:  # replaced as beat is
            said["deploy"] = beat["deploy"]
        if said:
            found[kind.service] = _made(deepcopy(said))  # an alias of a tagged node is not for all versions of Compose
    return _made({"services": _made(dict(found))}) if found else None


def _command(worker: yaml.Node | None) -> Iterator[list[str]]:
    """The command of the service, up to the arguments of `celery worker`."""
    command = _mapping(worker).get("command")
    if isinstance(command, yaml.SequenceNode):
        words = [str(each.value) for each in command.value]
        yield words[: words.index("worker") + 1]


def _own(kind: Kind, kinds: Sequence[Kind], command: Sequence[str]) -> dict[str, object]:
    """What makes a kind differ from the others."""
    deploy: dict[str, object] = {} if kind.name == DEFAULT and not kind.alone else {"replicas": 1}
    labels = {"labels": {ALONE: "true"}} if kind.alone else {}
    names = {"PORTICO_KINDS": ",".join(each.name for each in kinds)} if len(kinds) > 1 else {}
    return {"command": [*command, *kind.words()], "environment": names, "deploy": {**deploy, **labels}}
