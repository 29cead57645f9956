"""A stack, its containers and an engine, for tests that only decide."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from deploy.compose.containers import Replica
from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.shell import Result, Run
from deploy.docker import env as server_env
from deploy.docker.stack import Stack
from deploy.project.config import Project
from tests.unit.examples import NAMES

PROJECT = Project(Path("/p"), "shop", NAMES, 8000, "", ".run", ("/readyz",), 3)
VALUES = {
    "STACK": "shop",
    "IMAGE": "registry.example/shop",
    "ALLOWED_HOSTS": "shop.example, .shop.example",
    "SECRET_KEY": "k" * 50,
    "POSTGRES_PASSWORD": "p" * 20,
    "RABBITMQ_PASSWORD": "r" * 20,
}


def stack(kind: str = "prod", **values: str) -> Stack:
    return Stack(PROJECT, kind, server_env.parse({**VALUES, **values}, ".env"))


def replica(
    name: str, service: str = "app", state: str = "running", health: str = "healthy", restarts: int = 0
) -> Replica:
    return Replica(name, service, state, health, 0, restarts, "", "", "sha256:1")


# --- An engine that does not answer ---


class Engine:
    """Docker's answers, by the beginning of the command; and the commands that it was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: Mapping[str, Result | list[Result]]) -> None:
        self.asked: list[str] = []
        self.answers = {words: each if isinstance(each, list) else [each] for words, each in answers.items()}
        monkeypatch.setattr(shell, "run", self.run)

    def run(self, command: Run, *, capture: bool = False, check: bool = True) -> Result:
        line = " ".join(command.argv)
        self.asked.append(line)
        for words, answers in self.answers.items():
            if words in line:
                result = answers.pop(0) if len(answers) > 1 else answers[0]
                if check and result.code:
                    raise Failure(result.stderr)
                return result
        return Result(0)
