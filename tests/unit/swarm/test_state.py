"""Decisions about a swarm: a service's progress, what would be lost, which release to roll back to, messages."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deploy.core.errors import Failure
from deploy.core.git import Revision
from deploy.core.shell import Result
from deploy.docker.releases import target
from deploy.project import proxy
from deploy.swarm import images as swarm_images
from deploy.swarm import ledger, manager, membership, state
from deploy.swarm import stack as stack_files
from deploy.swarm.ledger import Release
from deploy.swarm.manager import Manager
from deploy.swarm.render import StackFile
from deploy.swarm.state import Node, Service, Snapshot, Task
from tests.unit.stacks import stack

OLD, NEW = {"Image": "shop:1@sha256:1"}, {"Image": "shop:2@sha256:2"}
NODES = [Node(f"n{i}", f"node{i}", "ready", "active", "leader" if i == 1 else "reachable") for i in (1, 2, 3)]


def service(name: str = "app", wanted: int = 2, update: str = "", mode: str = "replicated", **more: Any) -> Service:
    return Service(f"id-{name}", name, mode, wanted, update, "update paused", {}, NEW, **more)


def task(
    id: str,
    state: str = "running",
    spec: Mapping[str, Any] = NEW,
    node: str = "n1",
    desired: str = "",
    message: str = "",
) -> Task:
    ends = {"running": "running", "complete": "complete", "pending": "running"}
    return Task(id, "id-app", node, state, desired or ends.get(state, "shutdown"), message, id, spec)


def seen(*tasks: Task) -> Snapshot:
    return Snapshot(NODES, [], sorted(tasks, key=lambda each: each.created, reverse=True))


def test_a_changed_value_of_env_is_an_update_without_a_build() -> None:
    commit, time = "abcdef012345" + "0" * 28, "2026-01-01T00:00:00"
    pinned = "registry.example/shop:abcdef012345@sha256:1"
    serves = Snapshot(services=[Service("1", "app", "replicated", 1, "", "", {}, {"Image": pinned})])

    def image(name: str, snapshot: Snapshot = serves) -> str:
        found = swarm_images.serving_from("registry.example/shop", Revision(name, time), snapshot)
        return found.pinned if found else ""

    assert image(commit) == pinned
    assert image(f"{commit}-changed") == image("unknown") == image("b" * 40) == image(commit, Snapshot()) == ""


# --- How far a service is ---


def test_a_service_is_done_when_all_of_its_replicas_are_of_its_present_definition() -> None:
    assert state.standing(service(), seen(task("1"), task("2"))).done
    half = state.standing(service(), seen(task("1", spec=OLD), task("2")))
    assert (half.running, half.done, half.failed) == (1, False, False)
    # Defaults that the engine adds to a service's definition are not a difference.
    assert state.standing(service(wanted=1), seen(task("1"))).done


def test_while_the_swarm_still_watches_an_update_it_is_not_done() -> None:
    assert not state.standing(service(update="updating"), seen(task("1"), task("2"))).done
    assert state.standing(service(update="completed"), seen(task("1"), task("2"))).done


@pytest.mark.parametrize("update", ["rollback_started", "rollback_completed", "rollback_paused", "paused"])
def test_a_service_that_was_rolled_back_has_failed_though_it_runs(update: str) -> None:
    bad = task("3", "failed", spec=OLD, message="task: non-zero exit (1)")
    found = state.standing(service(update=update), seen(task("1"), task("2"), bad))
    assert found.failed
    assert not found.done
    assert "non-zero exit (1)" in found.note
    assert found.culprit == bad


def test_a_service_that_does_not_stay_up_has_failed_and_old_failures_are_not_its() -> None:
    crashes = [task(str(n), "failed", message="exit 3") for n in range(3)]
    assert state.standing(service(), seen(*crashes)).failed
    assert not state.standing(service(), seen(*crashes), [each.id for each in crashes]).failed
    assert not state.standing(service(), seen(*crashes[:2])).failed


def test_a_job_is_done_when_it_is_complete_on_each_node_and_failed_with_its_first_failure() -> None:
    job = service(wanted=3, mode="global-job")
    complete = [task(str(n), "complete", node=f"n{n}") for n in (1, 2, 3)]
    assert state.standing(job, seen(*complete)).done
    assert not state.standing(job, seen(*complete[:2])).done
    assert state.standing(job, seen(*complete[:2], task("9", "failed", message="exit 1"))).failed


def test_a_task_on_a_node_that_is_down_does_not_count() -> None:
    down = Node("n1", "node1", "down", "active", "unreachable")
    snapshot = Snapshot([down, *NODES[1:]], [], [task("1"), task("2", node="n2")])
    assert state.standing(service(), snapshot).running == 1


def test_a_global_service_is_wanted_on_each_node_that_works_and_fits() -> None:
    nodes = [
        NODES[0],
        Node("n2", "node2", "ready", "drain", ""),
        Node("n3", "node3", "ready", "active", "", {"a": "b"}),
    ]
    spec = {"Name": "shop_nginx", "Mode": {"Global": {}}, "TaskTemplate": {"ContainerSpec": NEW, "Placement": {}}}
    told = {"ID": "x", "Spec": spec, "Version": {"Index": 7}}
    assert [each.wanted for each in state.parse_services(json.dumps([told]), "shop", nodes)] == [2]
    spec["TaskTemplate"] = {"ContainerSpec": NEW, "Placement": {"Constraints": ["node.labels.a==b"]}}
    assert [each.wanted for each in state.parse_services(json.dumps([told]), "shop", nodes)] == [1]
    assert state.fits(nodes[0], "node.role == manager")
    assert state.fits(nodes[1], "node.hostname != node1")


def test_a_replica_that_fits_nowhere_is_named_with_what_the_swarm_says() -> None:
    pending = task("1", "pending", message="no suitable node (scheduling constraints not satisfied on 3 nodes)")
    assert state.unplaceable(Snapshot(NODES, [service()], [pending])) == [f"app: {pending.message}"]


# --- What would be lost ---


def test_services_volumes_and_ports_that_the_files_no_more_have_are_named() -> None:
    data = {"Mounts": [{"Type": "volume", "Target": "/data"}, {"Type": "tmpfs", "Target": "/tmp"}]}
    running = Service("1", "db", "replicated", 1, "", "", {}, data, ports=[5432])
    snapshot = Snapshot(NODES, [running, service("app"), service("static", mode="global-job")])
    same = {"db": {"volumes": [{"type": "volume", "target": "/data"}], "ports": [{"published": 5432}]}, "app": {}}
    assert state.lost(snapshot, same, [], []) == []
    assert state.lost(snapshot, {"db": {}}, [], []) == ["db:/data", "db:5432", "app"]
    password = Service("1", "db", "replicated", 1, "", "", {}, {"Secrets": [{"SecretName": "shop_password_1"}]})
    another = Snapshot(NODES, [password])
    assert state.lost(another, {"db": {}}, ["shop_password_1"], ["db"]) == []
    assert state.lost(another, {"db": {}}, ["shop_password_2"], ["db"]) == ["db:shop_password_1"]
    assert state.lost(another, {"db": {}}, ["shop_password_2"], []) == [], "a key that changes is no loss elsewhere"
    file = StackFile({"db": same["db"]}, {})
    with pytest.raises(
        Failure, match=r"^app: runs, but is no longer defined in the compose files or \.env.*--remove app$"
    ):
        stack_files.guard(snapshot, file, [])
    stack_files.guard(snapshot, file, ["app"])
    with pytest.raises(Failure, match="--remove ap: the files still define it, or it does not run"):
        stack_files.guard(snapshot, file, ["ap"])


# --- Releases ---


def entry(number: int, of: int) -> Release:
    return Release(number, of, "r", "me", "now", StackFile({}, {}))


def test_going_back_twice_goes_two_releases_back() -> None:
    entries = [entry(1, 1), entry(2, 2), entry(3, 3)]
    assert target(entries, running=3) == entries[1]
    entries.append(entry(4, 2))
    assert target(entries, running=4) == entries[0]
    entries.append(entry(5, 1))
    with pytest.raises(Failure, match="there is no earlier release to return to"):
        target(entries, running=5)


def test_a_release_may_be_named_by_its_number() -> None:
    entries = [entry(1, 1), entry(2, 2), entry(3, 3)]
    assert target(entries, "1") == entries[0]
    with pytest.raises(Failure, match="--to 9: there is no such release; there are: 1, 2, 3"):
        target(entries, "9")


def test_a_release_whose_deploy_never_ended_is_left_for_the_last_that_served() -> None:
    entries = [entry(1, 1), entry(2, 2)]
    assert target(entries, running=3) == entries[1]
    with pytest.raises(Failure, match="there is no earlier release to return to"):
        target([], running=1)


def test_a_release_keeps_the_number_of_replicas_that_somebody_asked_for() -> None:
    file = StackFile({"app": {"deploy": {"replicas": 2}}, "postgres": {}}, {})
    marked = stack_files.as_release(file, 7, {"app": 5, "postgres": 1})
    assert marked.services["app"]["deploy"] == {"replicas": 5, "labels": {"portico.release": "7"}}
    assert "replicas" not in marked.services["postgres"]["deploy"]
    snapshot = Snapshot(NODES, [service("app", wanted=6)])
    assert stack_files.wanted(stack("swarm"), snapshot) == {"app": 6, "celery_worker": 1}
    assert stack_files.wanted(stack("swarm", APP_REPLICAS="3"), snapshot)["app"] == 3


def test_servers_of_ones_own_take_the_place_of_the_stacks() -> None:
    given = stack("swarm", DATABASE_URL="postgres://u:p@db.example/x")
    assert stack_files.external(given) == ["postgres"]
    assert given.env.secret_files()["database_url"] == "postgres://u:p@db.example/x"
    assert given.env.interpolated()["DATA_INTERNAL"] == "false"
    assert "p@db" not in repr(given.env)
    assert stack_files.without({"services": {"app": {}, "postgres": {}}, "name": "x"}, ["postgres"]) == {
        "services": {"app": {}},
        "name": "x",
    }


# --- Images ---


def test_an_image_without_a_registry_stays_on_its_node() -> None:
    assert swarm_images.repository("shop") == "127.0.0.1:5000/shop"
    assert swarm_images.repository("registry.example/shop") == "registry.example/shop"
    assert swarm_images.repository("me/shop") == "me/shop"


def test_an_image_is_named_by_tag_and_digest_of_its_own_registry() -> None:
    digests = ["other.example/shop@sha256:1", "r.example:5000/shop@sha256:2"]
    assert swarm_images.with_digest("r.example:5000/shop:abc", digests) == "r.example:5000/shop:abc@sha256:2"
    assert swarm_images.with_digest("postgres:17", ["postgres@sha256:3"]) == "postgres:17@sha256:3"
    with pytest.raises(Failure, match="has no digest: it is in no registry"):
        swarm_images.with_digest("shop:abc", digests)


# --- Managers ---


def test_a_host_is_checked_and_wins_over_what_the_shell_has() -> None:
    assert manager.engine("ssh://me@node1", "") == {"DOCKER_HOST": "ssh://me@node1", "DOCKER_CONTEXT": ""}
    assert manager.engine("", "cluster") == {"DOCKER_CONTEXT": "cluster", "DOCKER_HOST": ""}
    assert manager.engine("", "") == {}
    with pytest.raises(Failure, match="must begin with ssh://"):
        manager.engine("node1", "")
    with pytest.raises(Failure, match="give one"):
        manager.engine("ssh://a", "b")


def test_ssh_is_asked_strictly_and_without_questions() -> None:
    words = manager.ssh_check("ssh://me@node1:2222").argv
    assert "StrictHostKeyChecking=yes" in words
    assert "BatchMode=yes" in words
    assert words[words.index("-p") + 1] == "2222"
    assert words[words.index("--") + 1] == "node1"


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (
            "@@@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @@@\nHost key verification failed.",
            "is not the one in",
        ),
        (
            "No ED25519 host key is known for x.\nHost key verification failed.",
            "is not known yet: run `ssh node1` once",
        ),
        ("me@node1: Permission denied (publickey).", "rejects your SSH key"),
        ("ssh: connect to host node1 port 22: Connection refused", "Connection refused"),
    ],
)
def test_what_ssh_says_is_told_with_its_remedy(said: str, line: str) -> None:
    assert line in manager.why_not_ssh("ssh://me@node1", said)


def test_a_secret_goes_in_by_standard_input_and_is_not_shown() -> None:
    command = Manager("shop").create("secret", "shop_key_1", "hunter2")
    assert "hunter2" not in " ".join(command.argv) + command.render() + repr(command)
    assert command.input == "hunter2"


def test_labels_are_given_once() -> None:
    class Here(Manager):
        def ask(self, *words: str) -> str:
            return "abc\n"

    command = membership.label_steps(Here("shop"), {"postgres"})[0]
    more = [word for name in ("rabbitmq", "redis", "media") for word in ("--label-add", f"{name}=true")]
    assert command.argv[1:] == ["node", "update", *more, "abc"]
    assert membership.label_steps(Here("shop"), {"postgres", "rabbitmq", "redis", "media"}) == []


# --- nginx ---


def test_files_of_other_machines_are_asked_for_only_where_there_are_others() -> None:
    alone = proxy.runtime_files(proxy.Front(["a"], tls=False, https_port=443, trusted=[]), proxy.ALL)
    assert "8082" not in "".join(alone.values())
    assert "elsewhere" not in "".join(alone.values())
    among = proxy.runtime_files(stack("swarm").front(), proxy.ALL)
    assert "server nginx:8082 resolve" in among["http.conf"]
    assert "error_page" not in among["missing.conf"], "which would answer those who ask by themselves, too"


def test_a_protected_file_of_another_machine_has_the_headers_of_one_that_is_here() -> None:
    here = (Path(__file__).parents[3] / "nginx/site.conf").read_text()
    here = here[here.index("location /protected/ {") :].partition("}")[0]
    text, saved = proxy.ELSEWHERE, dict(re.findall(r"set \$(\w+) \$(\w+);", proxy.MISSING))
    for name, variable in saved.items():  # by then, the answer of the site is another's
        text = text.replace(f"${name} ", f"${variable} ")
    added = re.findall(r"add_header .*;", here)
    assert len(added) == 5
    assert re.findall(r"add_header .*;", text) == added


def test_a_certificate_of_a_swarm_is_a_config_and_its_key_a_secret(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("CERT")
    (tmp_path / "k").write_text("KEY")
    given = stack("swarm", TLS_CERTIFICATE=str(tmp_path / "c"), TLS_KEY=str(tmp_path / "k"))
    folder = given.secrets / "swarm"
    document = {
        "configs": {"tls.crt": {"file": str(folder / "tls.crt")}},
        "secrets": {"tls.key": {"file": str(folder / "tls.key")}},
    }
    assert sorted(stack_files.contents(given, document).values()) == ["CERT", "KEY"]
    with pytest.raises(Failure, match="a config or secret names it"):
        stack_files.contents(given, {"configs": {"x": {"file": "/nowhere/x"}}})


def test_what_no_kept_release_names_is_removed_and_the_rest_is_kept() -> None:
    removed: list[tuple[str, ...]] = []

    class There(Manager):
        def names(self, kind: str) -> list[str]:
            releases = [ledger.name("shop", number) for number in range(1, 11)]
            return [*releases, "shop_a_old", "shop_a_new"] if kind == "config" else ["shop_key_old", "shop_key_new"]

        def try_(self, *words: str, seconds: float = 0) -> Result:
            removed.append(words)
            return Result(0)

    def file(suffix: str) -> StackFile:
        names = {"configs": {"a": {"name": f"shop_a_{suffix}"}}, "secrets": {"key": {"name": f"shop_key_{suffix}"}}}
        return StackFile({}, names)

    entries = [Release(n, n, "r", "me", "now", file("old" if n < 3 else "new")) for n in range(1, 11)]
    ledger.prune(There("shop"), entries, lambda: None)
    gone = ["config rm shop_release_00001", "config rm shop_release_00002", "config rm shop_a_old"]
    assert [" ".join(words) for words in removed] == [*gone, "secret rm shop_key_old"]
