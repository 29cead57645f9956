"""The recipes for continuous integration, as they stand in the page of the hosts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import yaml

from tests import pages
from tests.support import ROOT


@dataclass(frozen=True)
class Recipe:
    """A file of the page by its name, and its jobs that deploy."""

    file: str
    deploy: tuple[str, ...] = ("staging", "production")

    @cached_property
    def text(self) -> str:
        """The file as the page has it."""
        found = pages.blocks((ROOT / "deploy" / "hosts" / "README.md").read_text())
        [text] = [block.body for block in found if block.body.startswith(f"# {self.file}\n")]
        return text


GITHUB = Recipe(".github/workflows/deploy.yaml")
GITLAB = Recipe(".gitlab-ci.yml")


def recipe(which: Recipe) -> dict[str, Any]:
    """The recipe as a value."""
    found = yaml.safe_load(which.text)
    assert isinstance(found, dict)
    return found


def deploying(which: Recipe) -> list[str]:
    """The script of each job that deploys."""
    whole = recipe(which)
    if which == GITHUB:
        return [step["run"] for name in which.deploy for step in whole["jobs"][name]["steps"] if "run" in step]
    return ["\n".join(whole[whole[name]["extends"]]["script"]) for name in which.deploy]
