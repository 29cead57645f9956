"""A stack on three nodes: every node serves; the effects of updates, failures and lost nodes."""

import contextlib
import os
import re
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.core.shell import Result, Run, run
from deploy.docker import env as server_env
from deploy.project import limits
from deploy.swarm import lock
from deploy.swarm.manager import Manager, engine
from tests import support
from tests.contract.promises import *  # noqa: F403
from tests.contract.promises import Runtime
from tests.demonstration import ASK_FOR_EXPORT
from tests.rig import database
from tests.rig.load import Load
from tests.rig.nodes import Node
from tests.rig.visitor import Visitor
from tests.support import one_line, wait_until
from tests.swarm.conftest import HEAL_SECONDS, Swarm, accept

STYLE = "site/polls/static/polls/style.css"


@pytest.fixture(autouse=True)
def site_as_it_was(swarm: Swarm) -> Iterator[None]:
    """Each test changes the site as it likes."""
    yield
    restore(swarm)


def restore(swarm: Swarm) -> None:
    for name in ("site/polls", "site/mysite", "deploy/kit", "nginx"):
        run(Run(["rm", "-rf", str(swarm.project / name)]))
        run(Run(["cp", "-r", str(support.ROOT / name), str(swarm.project / name)]))


@contextlib.contextmanager
def load_on(nodes: list[Node], clients: int = 2, rest: float = 0.4, maintenance: str = "") -> Iterator[list[Load]]:
    """A steady load through the ports of these nodes."""
    with contextlib.ExitStack() as stack:
        loads = [Load(node.http_port, clients=clients, rest=rest, maintenance=maintenance) for node in nodes]
        yield [stack.enter_context(load) for load in loads]


def unhurt(loads: list[Load]) -> None:
    for load in loads:
        print(load.report())
        assert not load.failures, load.failures[:5]
        assert load.accepted > 50


def votes(swarm: Swarm) -> int:
    node, container = swarm.container("postgres")
    return database.votes(container, node.docker)


def change(swarm: Swarm, text: str) -> None:
    (swarm.project / STYLE).open("a").write(f"\n.{text} {{ color: red }}\n")


def exports(swarm: Swarm, node: Node, number: int) -> list[tuple[Visitor, str]]:
    """Start exports, each as a different visitor."""
    asked = []
    for _ in range(number):
        visitor = Visitor(swarm.url(node))
        asked.append((visitor, visitor.post("/exports/").headers["Location"]))
    return asked


def done(swarm: Swarm, asked: list[tuple[Visitor, str]]) -> bool:
    ids = [page.rstrip("/").rsplit("/", 1)[1] for _, page in asked]
    node, container = swarm.container("postgres")
    return database.states(container, ids, node.docker) == ["done"] * len(ids)


# --- Every node ---


def test_the_acceptance_suite_passes_through_each_node(swarm: Swarm) -> None:
    for node in swarm.nodes:
        accept(swarm.url(node))


def test_metrics_and_health_are_for_those_inside(swarm: Swarm) -> None:
    """Those outside have an address that is routed on the Internet (here TEST-NET-3)."""
    node = swarm.nodes[0]
    assert 'portico_queue_consumers{queue="celery"} 3' in Visitor(swarm.url(node)).get("/metrics").text.splitlines()
    node.docker("network", "create", "--subnet", "203.0.113.0/24", "outside")
    nginx = nginx_of(swarm, node)
    try:
        node.docker("network", "connect", "--alias", "front", "outside", nginx)
        ask = ["run", "--rm", "--network", "outside", "--entrypoint", "curl", "nginx:1.30", "-s", "-w", "%{http_code} "]
        urls = [
            word for path in ("/metrics", "/readyz", "/stack/") for word in ("-o", "/dev/null", f"http://front{path}")
        ]
        assert node.docker(*ask, "-H", "Host: localhost", *urls).split() == ["404", "404", "200"]
    finally:
        node.docker("network", "disconnect", "-f", "outside", nginx, check=False)
        node.docker("network", "rm", "outside")


@pytest.mark.first  # for five minutes, a swarm avoids nodes on which much has failed
def test_workers_are_spread_over_the_nodes_and_there_is_one_beat(swarm: Swarm) -> None:
    assert sorted(node for _, node in swarm.tasks("celery_worker")) == ["node1", "node2", "node3"]
    assert len({node for _, node in swarm.tasks("app")}) == 2
    assert len(swarm.tasks("celery_beat")) == 1


def test_an_export_is_fetched_through_any_node_whichever_wrote_it(swarm: Swarm) -> None:
    asked = exports(swarm, swarm.nodes[0], 6)
    wait_until(lambda: done(swarm, asked), 60, "every export is done")
    writers = [node.docker("exec", nginx_of(swarm, node), "ls", "/srv/protected").split() for node in swarm.nodes]
    assert sum(bool(files) for files in writers) > 1, "more than one node has written"
    for visitor, page in asked:
        for node in swarm.nodes:
            elsewhere = Visitor(swarm.url(node))
            elsewhere.http.cookies = visitor.http.cookies
            file = elsewhere.get(f"{page}download")
            assert file.status_code == 200
            assert file.headers["Content-Type"] == "text/csv; charset=utf-8"
            assert file.headers["X-Content-Type-Options"] == "nosniff"
            assert re.fullmatch("[0-9a-f]{32}", file.headers["X-Request-ID"])
            key = page.rstrip("/").rsplit("/", 1)[1]
            assert elsewhere.get(f"/protected/{key}.csv").status_code == 404


def nginx_of(swarm: Swarm, node: Node) -> str:
    label = f"label=com.docker.swarm.service.name={swarm.name}_nginx"
    return node.docker("ps", "-q", "--filter", label).split()[0]


def test_no_secret_is_in_the_stack_file_in_the_swarm_or_on_a_disk(swarm: Swarm) -> None:
    env = server_env.load(swarm.project / ".env")
    values = [secret.get_secret_value() for secret in (env.secret_key, env.postgres_password, env.rabbitmq_password)]
    rendered = support.invoke(swarm.project, "swarm-render").stdout
    services = swarm.ask("service", "ls", "-q").split()
    shown = rendered + swarm.ask("service", "inspect", *services)
    shown += "".join(swarm.ask("service", "logs", "--raw", service) for service in services if "lock" not in service)
    configs = swarm.ask("config", "ls", "-q").split()
    shown += swarm.ask("config", "inspect", "--pretty", *configs)
    for value in values:
        assert value not in shown
    # A file system in memory is not part of the one that is searched.
    for node in swarm.nodes:
        for value in values:
            script = f"! grep -rlF --devices=skip -e '{value}' /etc /root /home /opt /srv /var/log"
            run(Run(["docker", "exec", node.container, "sh", "-c", script]), capture=True)
            find = 'find /var/lib/docker -xdev -type f -size -64M -print0 | xargs -0 -r grep -lF -e "$VALUE" || true'
            found = run(Run(["docker", "exec", "-e", f"VALUE={value}", node.container, "sh", "-c", find]), capture=True)
            assert not found.stdout.strip(), f"{node.name}: {found.stdout}"


# --- Releases ---


def test_an_update_and_a_rollback_under_load_lose_no_request(swarm: Swarm) -> None:
    """It does not touch the databases and nginx, and keeps the scaled number of replicas."""
    swarm.must("scale", "--stack", "swarm", "--service", "app", "--replicas", "3")
    before, images = votes(swarm), swarm.images()
    others = [swarm.tasks(name) for name in ("postgres", "rabbitmq", "nginx")]
    with load_on(swarm.nodes) as loads:
        change(swarm, "updated")
        swarm.must("swarm-deploy")
        updated = swarm.images()
        swarm.must("swarm-rollback")
        time.sleep(2)
    unhurt(loads)
    assert not set(images.values()) & set(updated.values())
    assert swarm.images() == images
    assert votes(swarm) >= before + sum(load.accepted for load in loads)
    assert [swarm.tasks(name) for name in ("postgres", "rabbitmq", "nginx")] == others
    assert len(swarm.tasks("app")) == 3


def test_an_image_that_never_gets_well_is_taken_back_and_the_old_release_serves_on(swarm: Swarm) -> None:
    images = swarm.images()
    swarm.edit("site/polls/urls.py", "urlpatterns = [", "urlpatterns = [\n    path('', lambda request: 1 / 0),")
    with load_on(swarm.nodes) as loads:
        result = swarm.invoke("swarm-deploy")
    unhurt(loads)
    assert re.match(r"app on node\d: was rolled back: a replica was unhealthy", one_line_after_logs(result))
    assert "ZeroDivisionError" in result.stderr, "the last lines of the replica"
    assert "restoring all services to release" in result.stderr
    assert swarm.images() == images, "workers and beat too"
    # Docker's own command reports success.
    status = swarm.must("swarm-status").stdout
    assert "failed" not in status


def one_line_after_logs(result: Result) -> str:
    """The last line of a failed deploy; the last lines of a replica may contain a traceback."""
    assert result.code != 0, result.stderr
    return result.stderr.strip().splitlines()[-1]


def test_a_migration_that_fails_changes_nothing(swarm: Swarm) -> None:
    images, tasks = swarm.images(), swarm.tasks("app")
    kept = {kind: swarm.ask(kind, "ls", "-q") for kind in ("config", "secret")}
    (swarm.project / "site/polls/migrations/0003_broken.py").write_text(
        "from django.db import migrations\n"
        "class Migration(migrations.Migration):\n"
        "    dependencies = [('polls', '0002_schedule')]\n"
        "    operations = [migrations.RunSQL('SELECT * FROM gone')]\n"
    )
    result = swarm.invoke("swarm-deploy")
    assert re.search(r"release: polls\.0003_broken: .*relation \"gone\" does not exist", one_line(result))
    assert (swarm.images(), swarm.tasks("app")) == (images, tasks)
    assert {kind: swarm.ask(kind, "ls", "-q") for kind in ("config", "secret")} == kept


def test_what_the_files_lost_is_not_removed_from_the_stack(swarm: Swarm) -> None:
    services = swarm.ask("service", "ls", "-q")
    path = swarm.project / "deploy/compose/swarm.yaml"
    whole = path.read_text()
    base, env = swarm.project / "deploy/compose/base.yaml", (swarm.project / ".env").read_text()
    text = base.read_text()
    try:
        base.write_text(text.replace('    volumes: ["postgres:/var/lib/postgresql/data"]\n', ""))
        line = one_line(swarm.invoke("swarm-deploy"))
        assert line.startswith("postgres:/var/lib/postgresql/data: runs, but is no longer defined")
        base.write_text(text)
        swarm.set_env(DATABASE_URL="postgres://u:p@elsewhere/db")
        line = one_line(swarm.invoke("swarm-deploy"))
        assert line.startswith("postgres: runs, but is no longer defined")
        assert "--remove postgres" in line
        swarm.set_env(DATABASE_URL="", POSTGRES_PASSWORD="another-one-of-sixteen")
        line = one_line(swarm.invoke("swarm-deploy"))
        name = rf"postgres:{swarm.name}_postgres_password_\w{{12}}"
        assert re.match(rf"{name}: runs, but is no longer defined .* or the wrong \.env\.", line)
    finally:
        base.write_text(text)
        path.write_text(whole)
        (swarm.project / ".env").write_text(env)
    assert swarm.ask("service", "ls", "-q") == services


# --- Clients ---


def start(swarm: Swarm, *words: str) -> "subprocess.Popen[str]":
    """A command of another client, in its own session."""
    env = {**support.environment(), **swarm.cluster.environment()}
    env["PATH"] = f"{support.TOOLS}:{env['PATH']}"
    command = ["python3", str(swarm.project / "tasks.py"), words[0], *swarm.host("node2"), *words[1:]]
    return subprocess.Popen(
        command, env=env, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def wait_for_lock(swarm: Swarm) -> None:
    wait_until(lambda: f"{swarm.name}_lock" in swarm.ask("service", "ls"), 60, "the lock is held")


def half_done(swarm: Swarm, client: "subprocess.Popen[str]") -> None:
    """Wait until tasks are being replaced; fails the test with the client's last lines if it ends before.

    The image is built and sent to each node first, beside a load: as slow as the machine is.
    """
    while swarm.service("app", "{{with .UpdateStatus}}{{.State}}{{end}}") != "updating":
        assert client.poll() is None, f"it was never half done: {client.communicate()[1]}"
        time.sleep(0.1)


def test_a_client_killed_half_way_leaves_a_stack_that_serves_and_a_lock_that_frees_itself(swarm: Swarm) -> None:
    with load_on(swarm.nodes) as loads:
        change(swarm, "killed")
        client = start(swarm, "swarm-deploy")
        half_done(swarm, client)
        os.killpg(client.pid, signal.SIGKILL)
        client.wait()
        swarm.must("swarm-deploy")
    unhurt(loads)
    assert len(set(swarm.images().values())) == 1


#: A client that holds the lock, and changes something when it is told to.
CLIENT = """
import sys
from pathlib import Path
from deploy.core.errors import Failure
from deploy.swarm import jobs
from deploy.swarm.manager import Manager, engine

manager = Manager(sys.argv[1], engine("ssh://node2", ""))
with jobs.session(manager, "a deploy", Path(".run"), print) as held:
    print("held", flush=True)
    sys.stdin.readline()
    try:
        held.change(manager.create("config", f"{manager.stack}_late", "text"))
    except Failure as failure:
        print(failure.message)
"""


@contextlib.contextmanager
def holder(swarm: Swarm) -> Iterator["subprocess.Popen[str]"]:
    """A client that holds the lock, in its own session."""
    client = subprocess.Popen(
        [str(support.TOOLS / "python"), "-c", CLIENT, swarm.name],
        cwd=swarm.project,
        env={**support.environment(), **swarm.cluster.environment()},
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert client.stdout
        assert client.stdout.readline() == "held\n"
        yield client
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(client.pid, signal.SIGKILL)
        client.wait()


def test_a_client_that_slept_while_another_took_its_lock_changes_nothing(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in swarm.cluster.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(limits, "SWARM_STALE", 5)
    manager = Manager(swarm.name, engine("ssh://node1", ""))
    with holder(swarm) as client:
        os.killpg(client.pid, signal.SIGSTOP)
        with lock.held(manager, "another deploy") as held:
            os.killpg(client.pid, signal.SIGCONT)
            said, _ = client.communicate("go on\n", timeout=60)
            assert said.startswith("another client took over the lock because this one stopped responding")
            assert f"{swarm.name}_late" not in swarm.ask("config", "ls")
            held.confirm()  # the first client has not released this one's lock
    assert f"{swarm.name}_lock" not in swarm.ask("service", "ls")


def test_a_host_whose_key_is_unknown_or_wrong_is_told_nothing(swarm: Swarm, tmp_path: Path) -> None:
    known = swarm.cluster.folder / "known_hosts"
    text = known.read_text()
    swarm.cluster.node("node1").disconnect()
    try:
        known.write_text("")
        line = one_line(swarm.invoke("swarm-status"))
        assert line.startswith("ssh://node1: its host key is not known yet: run `ssh node1` once")
        keys = dict(entry.split(" ", 1) for entry in text.splitlines())
        known.write_text(f"node1 {keys['node2']}\n")
        line = one_line(swarm.invoke("swarm-status"))
        assert line.startswith("ssh://node1: its host key is not the one in known_hosts")
    finally:
        known.write_text(text)
    assert "is not a manager" not in one_line(swarm.invoke("swarm-status", host="nowhere.invalid"))


# --- Maintenance ---


def answer_of(swarm: Swarm, node: Node) -> int:
    return Visitor(swarm.url(node)).get("/").status_code


def test_a_maintenance_is_on_each_node_and_loses_no_request_and_no_task(swarm: Swarm) -> None:
    kept = {name: swarm.tasks(name) for name in ("nginx", "app", "celery_beat")}
    workers = len(swarm.tasks("celery_worker"))
    words = ["--message", "Back at <5>", "--hold", "workers", "--allow", "127.0.0.0/24,2001:db8::/64"]
    with load_on(swarm.nodes, maintenance="Back at &lt;5&gt;") as loads:
        swarm.must("maintenance", "--on", "swarm", "--start", *words)
        for node in swarm.nodes:
            answer = Visitor(swarm.url(node)).get("/")
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "120")
            within = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: localhost", "127.0.0.1/"]
            assert node.docker("exec", nginx_of(swarm, node), *within) == "200", "who is allowed sees the site"
        assert swarm.tasks("celery_worker") == []
        assert "workers are held: `invoke maintenance --on swarm --stop` ends it" in swarm.must("swarm-status").stderr
        asked = swarm.shell(ASK_FOR_EXPORT)
        data, postgres = swarm.container("postgres")
        assert database.states(postgres, [asked], data.docker) != ["done"]
        swarm.must("maintenance", "--on", "swarm", "--stop")
        assert [answer_of(swarm, node) for node in swarm.nodes] == [200] * 3
        wait_until(
            lambda: database.states(postgres, [asked], data.docker) == ["done"], 60, "the task is done that waited"
        )
    for load in loads:
        print(load.report())
        assert not load.failures, load.failures[:5]
    assert any(load.codes[503] for load in loads)
    assert {name: swarm.tasks(name) for name in kept} == kept, "nothing else was replaced"
    assert len(swarm.tasks("celery_worker")) == workers


# --- Small commands ---


def test_scale_logs_manage_and_status(swarm: Swarm) -> None:
    swarm.must("scale", "--stack", "swarm", "--service", "app", "--replicas", "2")
    assert len(swarm.tasks("app")) == 2
    assert "there must be one beat" in one_line(
        swarm.invoke("scale", "--stack", "swarm", "--service", "celery_beat", "--replicas", "2")
    )
    logs = swarm.must("logs", "--stack", "swarm", "--service", "celery_worker", "--lines", "1000")
    assert all(f"{swarm.name}_celery_worker.{number}." in logs.stdout for number in (1, 2, 3)), logs
    assert "there are:" in one_line(swarm.invoke("logs", "--stack", "swarm", "--service", "nothing"))
    assert followed(swarm, f"/{secrets.token_hex(8)}") == {"app", "nginx"}, "of all services and nodes"
    for node in ("node1", "node2", "node3"):  # with and without a replica of the app
        result = swarm.must("manage", "--stack", "swarm", "--", "check", host=node)
        assert "no issues" in result.stdout
    status = swarm.must("swarm-status").stdout
    for text in ("node3", "leader", "postgres, rabbitmq", "celery_beat", "1/1"):
        assert text in status


def followed(swarm: Swarm, path: str) -> set[str]:
    """The services whose followed logs name a path that is asked for through each node."""
    env = {**support.environment(), **swarm.cluster.environment()}
    env["PATH"] = f"{support.TOOLS}:{env['PATH']}"
    command = ["python3", str(swarm.project / "tasks.py"), "logs", "--on", "swarm", *swarm.host("node2")]
    child = subprocess.Popen([*command, "--follow", "--grep", path], env=env, text=True, stdout=subprocess.PIPE)
    assert child.stdout
    output, found = child.stdout, set[str]()
    named = re.compile(rf" {swarm.name}_(\w+)\.\S+ \| ")

    def read() -> None:
        for line in output:
            found.update(named.findall(line))

    threading.Thread(target=read, daemon=True).start()

    def shown() -> bool:
        return all(Visitor(swarm.url(node)).get(path).status_code == 404 for node in swarm.nodes) and len(found) == 2

    try:
        wait_until(shown, 60, "the lines of both are shown")
    finally:
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
    return found


# --- Lost nodes ---


def outage(load: Load) -> float:
    """Seconds between the first and the last request that was sent and failed."""
    times = [float(line.partition(" ")[0]) for line in load.failures]
    return max(times) - min(times) if times else 0.0


def leader(swarm: Swarm) -> str:
    """The name of the leader; empty during an election."""
    words = ["node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}"]
    lines = swarm.cluster.node(swarm.manager).docker(*words, check=False).splitlines()
    return next((line.split()[0] for line in lines if "Leader" in line), "")


def lose(swarm: Swarm, node: Node, away: float, notify: Callable[[str], None]) -> None:
    """Kill a node under load, start it again, and check the promises."""
    others = [each for each in swarm.nodes if each is not node]
    swarm.manager = others[0].name
    holds_data = node.name == "node2"
    before = votes(swarm)
    asked = exports(swarm, others[0], 4)
    with load_on(others) as loads:
        time.sleep(1)
        began = time.monotonic()
        node.kill()
        time.sleep(away)
        node.restart()
        healed = swarm.wait_healed() + time.monotonic() - began
        whole = time.monotonic()
        time.sleep(5)
    where = ", which has the databases" if holds_data else ""
    for load in loads:
        notify(f"{node.name} killed{where}: {load.report()}; failures over {outage(load):.1f} s")
    notify(f"{node.name}: away for {away:.0f} s, all whole {healed:.0f} s after the kill")
    assert not [line for load in loads for line in load.sent_after(whole)], "healed, it fails no more"
    # Swarm considers a node down after about 12 s; after its return, its names resolve again within a minute or two.
    limit = HEAL_SECONDS + away if holds_data else 15
    assert all(outage(load) <= limit for load in loads)
    asked += exports(swarm, others[0], 2)
    wait_until(lambda: done(swarm, asked), 180, "every accepted task is done")
    assert votes(swarm) >= before + sum(load.accepted for load in loads)


def test_a_node_is_killed_and_comes_back_then_the_leader_then_the_one_with_the_data(
    swarm: Swarm, capsys: pytest.CaptureFixture[str]
) -> None:
    def notify(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", end="")

    assert leader(swarm) == "node1"
    lose(swarm, swarm.cluster.node("node3"), 20, notify)
    swarm.manager = "node2"
    lose(swarm, swarm.cluster.node("node1"), 20, notify)
    lose(swarm, swarm.cluster.node("node2"), 20, notify)
    swarm.manager = "node1"
    for node in swarm.nodes:
        accept(swarm.url(node))


def test_an_upload_is_fetched_through_any_node_and_no_browser_runs_it(swarm: Swarm) -> None:
    with (swarm.project / "invoke.yaml").open("a") as file:
        file.write("  media: true\n")
    swarm.ask("node", "update", "--label-rm", "media", "node1")
    assert "docker node update --label-add media=true NODE" in one_line(swarm.invoke("swarm-deploy"))
    swarm.ask("node", "update", "--label-add", "media=true", "node2")
    swarm.must("maintenance", "--on", "swarm", "--start", "--hold", "workers,beat")
    assert "a maintenance is on" in one_line(swarm.invoke("swarm-rm", "--yes"))
    swarm.must("swarm-deploy")
    assert [answer_of(swarm, node) for node in swarm.nodes] == [503] * 3, "a deploy does not end it"
    assert swarm.tasks("celery_worker") == swarm.tasks("celery_beat") == []
    swarm.must("maintenance", "--on", "swarm", "--stop")
    assert len(swarm.tasks("celery_beat")) == 1
    assert {node for name in ("app", "celery_worker") for _, node in swarm.tasks(name)} == {"node2"}
    save = (
        "from django.core.files.base import ContentFile as C;"
        "from django.core.files.storage import default_storage as s;"
        "print(s.url(s.save('a b/ü.png', C(b'png'))), s.url(s.save('x.svg', C(b'<svg/>'))))"
    )
    image, script = swarm.shell(save).split()
    for node in swarm.nodes:
        visitor = Visitor(swarm.url(node))
        shown = visitor.get(image)
        assert (shown.content, shown.headers["Content-Type"]) == (b"png", "image/png")
        assert "Content-Disposition" not in shown.headers
        run = visitor.get(script)
        assert (run.content, run.headers["Content-Disposition"]) == (b"<svg/>", "attachment")
        assert run.headers["X-Content-Type-Options"] == "nosniff"
        for path in ("/media/", "/media/a%20b/", "/media/none.png", "/media/..%2fprotected/"):
            assert visitor.get(path).status_code == 404


def test_the_stack_goes_and_its_data_stays(swarm: Swarm) -> None:
    before = votes(swarm)
    assert "add --yes" in one_line(swarm.invoke("swarm-rm"))
    swarm.must("swarm-rm", "--yes")
    assert not swarm.ask("service", "ls", "-q").strip()
    assert not swarm.ask("secret", "ls", "-q").strip()
    swarm.must("swarm-deploy")
    assert votes(swarm) == before


# --- What every runtime promises ---


class OnSwarm(Runtime):
    under_way = "nginx: 3/3"  # the first report on what is being replaced

    def __init__(self, swarm: Swarm) -> None:
        self.swarm = swarm
        host = swarm.host()
        self.deploying = ["swarm-deploy", *host]
        self.changing = [
            *(["swarm-deploy", *host], ["swarm-rollback", *host], ["swarm-rm", *host]),
            ["scale", "--on", "swarm", *host, "--service", "app", "--replicas", "3"],
            ["maintenance", "--on", "swarm", *host, "--start", "--hold", "workers,beat"],
            *(["manage", "--on", "swarm", *host, "--", "flush"], ["shell", "--on", "swarm", *host]),
            ["rollback", "--on", "swarm", *host],
        ]

    @property
    def project(self) -> Path:
        return self.swarm.project

    def environment(self) -> dict[str, str]:
        return {**self.swarm.cluster.environment()}

    def commit(self) -> None:
        """Build the work tree itself."""

    def serving(self) -> object:
        support.wait_until(lambda: all(map(self.swarm.serves, self.swarm.nodes)), 60, "every node serves")
        return self.swarm.images()

    @contextlib.contextmanager
    def load(self) -> Iterator[None]:
        with load_on(self.swarm.nodes) as loads:
            yield
        unhurt(loads)

    def history(self) -> str:
        return self.swarm.must("releases", "--on", "swarm").stdout


@pytest.fixture(scope="module")
def runtime(swarm: Swarm) -> OnSwarm:
    return OnSwarm(swarm)
