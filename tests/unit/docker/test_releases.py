"""How releases are shown, on every runtime."""

import pytest

from deploy.compose import ledger as compose
from deploy.docker.releases import grid
from deploy.swarm import ledger as swarm
from deploy.swarm.render import StackFile

CHANGED = "a" * 40 + "-changed"
AT = "2026-01-01T10:00:00+00:00"


def release(runtime: str, number: int, of: int, revision: str) -> compose.Release | swarm.Release:
    if runtime == "compose":
        return compose.Release(number, of, "sha256:1", revision, "jan@laptop", AT)
    return swarm.Release(number, of, revision, "jan@laptop", AT, StackFile({}, {}))


@pytest.mark.parametrize("runtime", ["compose", "swarm"])
def test_a_release_of_a_changed_work_tree_is_told_from_its_commit(runtime: str) -> None:
    first, back = release(runtime, 1, 1, CHANGED), release(runtime, 2, 1, "b" * 40)
    assert grid([first, back]).rows == [
        ("2", "b" * 12, "2026-01-01T10:00", "jan@laptop", "serves, release 1 again"),
        ("1", "aaaaaaaaaaaa-changed", "2026-01-01T10:00", "jan@laptop", ""),
    ]
    assert first.title == "release 1 (aaaaaaaaaaaa-changed, 2026-01-01T10:00, by jan@laptop)"
