"""The files that are mounted into the containers of a stack now: what a failed update puts back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.docker.stack import Stack


@dataclass(frozen=True)
class Mounted:
    """The files that are mounted into containers: secrets and nginx's configuration, by name."""

    secrets: Mapping[str, str]
    nginx: Mapping[str, str]


def mounted(stack: Stack) -> Mounted:
    """The files that are mounted now; none before the first start."""
    names = {*stack.env.secret_files(), *stack.env.redis_files(stack.redis)}
    return Mounted(_texts(stack.secrets, names), _texts(stack.secrets / "nginx", None))


def _texts(folder: Path, names: Collection[str] | None) -> dict[str, str]:
    found = [path for path in sorted(folder.glob("*")) if path.is_file() and (names is None or path.name in names)]
    return {path.name: path.read_text() for path in found if not path.name.startswith(".")}
