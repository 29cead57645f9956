"""Hooks: one before a deploy stops it, one after it is told; both know what is deployed where."""

from pathlib import Path

import pytest

from deploy.compose import rollout
from deploy.core.errors import Failure
from deploy.docker import env
from deploy.project import hooks
from tests.unit.stacks import VALUES, stack


def run(words: list[str], root: Path, *, after: bool = False) -> None:
    hooks.run(words, root, "staging", "abc123", key="HOOK_AFTER" if after else "HOOK_BEFORE", after=after)


def test_a_hook_runs_in_the_projects_folder_and_knows_place_and_release(tmp_path: Path) -> None:
    run(["sh", "-c", 'echo "$PORTICO_ENVIRONMENT $PORTICO_RELEASE" >said'], tmp_path)
    assert (tmp_path / "said").read_text() == "staging abc123\n"
    run([], tmp_path)


@pytest.mark.parametrize(("after", "so"), [(False, "nothing was deployed"), (True, "abc123 serves")])
def test_a_hook_that_fails_names_itself_and_what_was_deployed(tmp_path: Path, after: bool, so: str) -> None:
    with pytest.raises(Failure, match=rf"^HOOK_\w+: `false` failed with exit code 1; {so}$"):
        run(["false"], tmp_path, after=after)
    with pytest.raises(Failure, match=rf"^HOOK_\w+: nowhere: not found on this machine.*; {so}$"):
        run(["nowhere"], tmp_path, after=after)


def test_env_has_a_command_and_a_dry_run_shows_it_where_it_would_run() -> None:
    made = stack(HOOK_BEFORE="test -s 'a b'", HOOK_AFTER="curl -f https://x.example")
    assert (made.env.hook_before, made.env.hook_after) == (("test", "-s", "a b"), ("curl", "-f", "https://x.example"))
    lines = [each.render() for each in rollout.first_steps(made, "v1")]
    assert lines[0] == "(cd /p && PORTICO_ENVIRONMENT=prod PORTICO_RELEASE=v1 test -s 'a b')"
    assert lines[-1].endswith("curl -f https://x.example)")
    with pytest.raises(Failure, match=r"HOOK_BEFORE.* No closing quotation"):
        env.parse({**VALUES, "HOOK_BEFORE": "echo 'a"}, ".env")
