"""What editors and Git's hooks read of the repository: it names tasks and programs that there are."""

import json
import re
import shlex

import yaml

from deploy import checks
from deploy.docker import images
from deploy.project import config, file
from deploy.project.upgrade import manifest
from deploy.venvs.store import Store
from tests.support import ROOT

HOOKS = ROOT / ".pre-commit-config.yaml"
CONTAINER = ROOT / ".devcontainer" / "devcontainer.json"
PROJECT = config.load(ROOT, {**file.DEFAULTS, "name": "portico"})


def test_hooks_are_pieces_of_lint_and_fetch_nothing() -> None:
    said = yaml.safe_load(HOOKS.read_text())
    [repository] = said["repos"]
    assert repository["repo"] == "local"
    commands = [command.argv for command in checks.lint_commands(PROJECT, Store.of(ROOT), fix=False).values()]
    pieces = [[word.replace(f"{ROOT}/", "") for word in words] for words in commands]
    hooks = {hook["id"]: hook for hook in repository["hooks"]}
    for hook in hooks.values():
        assert hook["language"] == "system", "no environment of pre-commit's own, which it would fetch"
        # --force-exclude: of files that are named one by one, ruff leaves out what its configuration does.
        words = [word for word in shlex.split(hook["entry"]) if word != "--force-exclude"]
        if words[:2] == ["python3", "tasks.py"]:
            assert not hook["pass_filenames"]
            assert words[2:] in (["check"], ["lint"])
        else:
            assert [piece for piece in pieces if piece[: len(words)] == words], words
    assert hooks["lint"]["stages"] == ["pre-push"], "all of it takes too long for each commit"
    assert set(said["default_install_hook_types"]) == {"pre-commit", "pre-push"}


def test_the_container_of_an_editor_has_the_python_of_the_image_and_runs_our_tasks() -> None:
    said = json.loads(CONTAINER.read_text())
    version = re.search(r"-(3\.\d+)-(\w+)$", said["image"])
    assert version
    assert images.python_image(PROJECT) == f"python:{version[1]}-slim-{version[2]}"
    assert said["updateContentCommand"] == "python3 tasks.py venv"
    assert said["forwardPorts"] == [PROJECT.port]
    assert said["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"].endswith(
        "/.venvs/dev/bin/python"
    )
    assert "portico" not in CONTAINER.read_text() + HOOKS.read_text(), "no name of a project, so a clone keeps them"


def test_both_are_the_project_s_own_and_no_upgrade_touches_them() -> None:
    for path in (HOOKS, CONTAINER):
        name = str(path.relative_to(ROOT))
        assert not manifest.is_ours(name)
        assert name not in list(manifest.present(ROOT))
