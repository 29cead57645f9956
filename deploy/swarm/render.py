"""One compose document becomes one stack file: pure, deterministic, by an allow-list.

`docker stack deploy` never took over the Compose specification, and ignores some of what it does not know. Here each
key is carried over, dropped because it has no meaning in a swarm (`DROPPED`), or refused by name. The document is what
`docker compose config --format json` makes of the files. Each `$` in it is doubled: in a value it is kept so, as the
stack file is interpolated too; in a key, a file's name and a content it is one again, as those are not.
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

#: The most characters of a name of a config or secret, and those of its content's hash.
NAME_LENGTH, HASH_LENGTH = 64, 12
#: The most bytes of a config, and of a secret (https://docs.docker.com/engine/swarm/secrets/, …/configs/).
CONFIG_BYTES, SECRET_BYTES = 1_000_000, 500 * 1024


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
    return sorted({plain(each["file"]) for each in sources if each and each.get("file")})


def render(
    document: Mapping[str, Any], stack: str, contents: Mapping[str, str], images: Mapping[str, str]
) -> StackFile:
    """The stack file of a compose document.

    ``contents`` has the text of each file that `referenced` names. ``images`` maps names of images to names with a
    digest. Raises `Failure` with a line for each thing that a swarm cannot do.
    """
    checked = check(document)
    services = {
        name: {**dump(service), "image": images.get(service.image, service.image)}
        for name, service in checked.services.items()
    }
    # Networks have their full name already, for the stack is called as compose calls the project.
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
    services = {name: dump(service) for name, service in document.services.items()}
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
