"""Convert one compose document to one stack file: pure, deterministic, by an allow-list.

`docker stack deploy` does not support the whole Compose specification, and ignores some unknown keys. Here each key is
kept, dropped because it has no meaning in a swarm (`DROPPED`), or rejected by name. The document is the output of
`docker compose config --format json`. Each `$` in it is doubled. Values keep it doubled, as the stack file is
interpolated too; keys, file names and contents are not interpolated, so there it becomes a single `$` again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from pydantic import ValidationError

from deploy.core.errors import Failure
from deploy.swarm.coerce import plain
from deploy.swarm.model import INSTEAD, Content, Document, dump

#: The maximal length of the name of a config or secret, and the length of the content's hash in it, in characters.
NAME_LENGTH, HASH_LENGTH = 64, 12
#: The maximal size of a config, and of a secret (https://docs.docker.com/engine/swarm/secrets/, …/configs/).
CONFIG_BYTES, SECRET_BYTES = 1_000_000, 500 * 1024


# --- Rendering ---


@dataclass(frozen=True)
class StackFile:
    """A stack file, and the configs and secrets that it names: these must be in the swarm before it is deployed."""

    services: Mapping[str, Mapping[str, Any]]
    sections: Mapping[str, Mapping[str, Any]]
    configs: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def text(self) -> str:
        """The file's text; it contains no secret."""
        return to_yaml({"services": self.services, **{key: each for key, each in self.sections.items() if each}})

    def only(self, names: Iterable[str]) -> StackFile:
        """The file with only these services, and what they name."""
        services = {name: self.services[name] for name in names}
        sections = {key: _used(key, each, services) for key, each in self.sections.items()}
        return StackFile(services, sections)

    @classmethod
    def read(cls, text: str) -> StackFile:
        """Parse a file that `text` has written."""
        document = yaml.safe_load(text)
        return cls(document.pop("services"), document)


def referenced(document: Mapping[str, Any]) -> list[str]:
    """The files whose contents `render` needs."""
    sources = [*(document.get("configs") or {}).values(), *(document.get("secrets") or {}).values()]
    return sorted({plain(each["file"]) for each in sources if each and each.get("file")})


def render(
    document: Mapping[str, Any], stack: str, contents: Mapping[str, str], images: Mapping[str, str]
) -> StackFile:
    """The stack file of a compose document.

    ``contents`` has the text of each file that `referenced` returns. ``images`` maps names of images to names with a
    digest. Raises `Failure` with a line for each thing that a swarm does not support.
    """
    checked = check(document)
    services = {
        name: {**dump(service), "image": images.get(service.image, service.image)}
        for name, service in checked.services.items()
    }
    # Networks have their full name already: the stack has the same name as the compose project.
    sections: dict[str, dict[str, Any]] = {
        "networks": {name: dump(each) if each else {} for name, each in checked.networks.items()},
        "volumes": {name: dump(each) if each else {} for name, each in checked.volumes.items()},
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
    """Parse the document. Raises `Failure` with a line for each key or value that a swarm does not accept."""
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
    """A line for a rejected key or value: the service, the key, the reason and the remedy."""
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
        return f"{subject}: {INSTEAD.get(last, 'is not supported in a swarm: remove it')}"
    if kind == "missing":
        return f"{subject}: is missing"
    if kind == "literal_error":
        return f"{subject}: must be {context.get('expected')}"
    return f"{subject}: {message.removeprefix('Value error, ')}"


def content_name(stack: str, name: str, text: str, *, secret: bool) -> str:
    """A name that changes with the content, as configs and secrets are immutable in a swarm.

    The hash of a secret is slow (scrypt with RFC 7914's parameters for interactive logins), so that nobody can guess
    the password from the name.
    """
    data, label = text.encode(), f"{stack}_{name}"
    digest = hashlib.scrypt(data, salt=label.encode(), n=2**14, r=8, p=1) if secret else hashlib.sha256(data).digest()
    return f"{label[: NAME_LENGTH - HASH_LENGTH - 1]}_{digest.hex()[:HASH_LENGTH]}"


def _content(name: str, source: Content, contents: Mapping[str, str]) -> str:
    return source.content if source.content is not None else contents[source.file or name]


def _names(services: Mapping[str, Mapping[str, Any]], kind: str) -> list[str]:
    """The networks, volumes, secrets or configs (``kind``) that the services name, each once."""
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
    """A line for each thing that a service names but the document does not define."""
    services = {name: dump(service) for name, service in document.services.items()}
    lines = []
    for kind in ("networks", "volumes", "secrets", "configs"):
        for name, service in services.items():
            lines += [
                f"service {name}: {kind}: {each}: is not defined: add it under {kind}"
                for each in _names({name: service}, kind)
                if each not in getattr(document, kind)
            ]
    return lines


# --- Writing ---


class _Dumper(yaml.SafeDumper):
    """Quotes every text that another YAML parser could read as a number, a boolean or null."""

    def ignore_aliases(self, _: object) -> bool:
        return True


PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./ @-]*[A-Za-z0-9_/]")
SPECIAL = {"true", "false", "yes", "no", "on", "off", "null", "none", "nan", "inf"}


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = PLAIN.fullmatch(text) and text.lower() not in SPECIAL
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _represent)


def to_yaml(document: Mapping[str, Any]) -> str:
    """YAML that all parsers read the same way."""
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=True, width=100_000, allow_unicode=True)
    return text
