"""Whose stack it is: known by the first commits of the repository that it was deployed from."""

import pytest

from deploy.core import git
from deploy.core.errors import Failure
from deploy.swarm import owner
from deploy.swarm.render import StackFile
from deploy.swarm.state import Service, Snapshot
from tests.unit.stacks import stack


def running(mark: str) -> Snapshot:
    labels = {owner.REPOSITORY: mark} if mark else {}
    return Snapshot(services=[Service("1", "app", "replicated", 1, "", "", labels, {})])


@pytest.mark.parametrize(
    ("mark", "ours"),
    [("", {"b"}), ("a", set()), ("a", {"a"}), ("a,b", {"b"}), ("a", {"a", "b"})],
    ids=["not marked", "shallow clone", "clone", "theirs was merged", "ours was merged"],
)
def test_a_clone_of_the_same_repository_may_deploy(mark: str, ours: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "roots", lambda _: tuple(ours))
    owner.require_own(running(mark), stack())


def test_another_project_s_stack_of_the_same_name_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "roots", lambda _: ("b",))
    with pytest.raises(Failure, match=r"is another project's: its repository begins with commit a.* another name"):
        owner.require_own(running("a"), stack())


def test_each_service_carries_the_mark_beside_its_other_labels() -> None:
    file = StackFile({"app": {"image": "x", "deploy": {"labels": {"a": "b"}}}, "nginx": {}}, {})
    services = owner.marked(file, {"b", "a"}).services
    assert services["app"] == {"image": "x", "deploy": {"labels": {"a": "b", owner.REPOSITORY: "a,b"}}}
    assert services["nginx"] == {"deploy": {"labels": {owner.REPOSITORY: "a,b"}}}
    assert owner.marked(file, ()) == file
