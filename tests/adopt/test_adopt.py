"""Adopted without a change: detected, locked, served by processes and in containers, tested by its own tests."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from deploy.project import local
from tests import pages, support
from tests.adopt import uploads
from tests.adopt.projects import EXAMPLES
from tests.adopt.repository import (
    Adopted,
    adopt,
    declare,
    fingerprint,
    give_values,
    has_python,
    serves,
    upgraded,
    write,
)
from tests.rig import visitors
from tests.rig.engine import docker
from tests.rig.ports import free_port
from tests.support import Dev, one_line

#: The line that declares Redis, which carries what channels send; and how many websockets are open in an update.
REDIS, WEBSOCKETS = "services: {redis: {}}", 50
#: A kind of workers of the project, and one that takes its place.
MAIL, POST = "  mail: {queues: [mail], celery: --pool=threads}", "  post: {queues: [post]}"
#: The end of what a machine says whose Python is too old for a project.
TOO_OLD = "install python3.12, or name one with --python"


@pytest.fixture(scope="module", params=list(EXAMPLES))
def adopted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Adopted:
    this = adopt(tmp_path_factory.mktemp("adopt"), f"notes{request.param}", EXAMPLES[request.param])
    if this.example.values:
        give_values(this)
    return this


def test_not_one_file_of_the_project_changes_and_invoke_yaml_is_short(adopted: Adopted) -> None:
    assert fingerprint(adopted.root, adopted.example) == adopted.before
    lines = [line for line in (adopted.root / "invoke.yaml").read_text().splitlines() if line.strip()]
    assert len(lines) <= 10, lines
    changed = subprocess.run(
        ["git", "-C", str(adopted.root), "diff", "--name-only"], capture_output=True, text=True, check=True
    ).stdout.split()
    in_the_way = {name for name in adopted.example.files if name.split("/")[0] in adopted.example.aside}
    assert set(changed) <= {".gitignore", *in_the_way}
    for name in in_the_way:
        top, _, rest = name.partition("/")
        kept = adopted.root / f"{top}.before-portico" / rest
        assert kept.read_text() == adopted.example.files[name]


def test_check_finds_nothing_that_keeps_it_from_running(adopted: Adopted) -> None:
    for runtime in ("native", "dev", "prod", "swarm"):
        result = adopted.invoke("check", "--for", runtime)
        assert result.code == 0, result.stderr


def test_it_is_served_by_processes_of_this_machine(adopted: Adopted, tmp_path: Path) -> None:
    if not has_python(adopted.example):
        assert one_line(adopted.invoke("dev", "--native")).endswith(TOO_OLD)
        return
    with Dev(adopted.root, tmp_path / "run", seconds=300) as dev:
        dev.wait_ready()
        serves(adopted, dev.url)
        if adopted.example.uploads:
            with visitor(dev.url) as client:
                uploads.kept(client)
            assert list((adopted.root / adopted.example.uploads).rglob("*.png")), "in the project's own folder"


def visitor(url: str, host: str = "localhost") -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Host": host}, trust_env=False, follow_redirects=True)


def most_at_once(name: str, since: float) -> int:
    """The most containers of a service that have run at once since then, when one ran, by what the engine has seen."""
    words = ["--filter", f"label=com.docker.compose.service={name}", "--format", "{{.Action}}"]
    said = docker("events", "--since", f"{since:.6f}", "--until", f"{time.time():.6f}", *words).split()
    running = [1]
    for action in said:
        running.append(running[-1] + {"start": 1, "die": -1}.get(action, 0))
    assert running[-1] == 1, said
    assert len(running) > 2, "it was replaced"
    return max(running)


def test_it_is_served_in_containers_as_in_production(adopted: Adopted, tmp_path: Path) -> None:
    port = free_port()
    give_values(adopted, HTTP_PORT=str(port), HTTPS_PORT=str(free_port()))
    if adopted.example.uploads:
        write_additions(adopted.root)
    if adopted.example.kinds:
        declare(adopted, REDIS)
    try:
        adopted.must("prod", "--detach")
        serves(adopted, f"http://127.0.0.1:{port}")
        services = set(
            docker("ps", f"--filter=label=com.docker.compose.project={adopted.name}", "--format={{.Names}}").split()
        )
        kinds = {re.sub(r"-\d+$", "", name.removeprefix(f"{adopted.name}-")) for name in services}
        workers = {"celery_worker", *(f"celery_worker_{kind}" for kind in adopted.example.kinds)}
        celery = {*workers, "celery_beat", "rabbitmq"} if adopted.example.celery else set()
        own = {"pages"} if adopted.example.uploads else set()
        own |= {"redis"} if adopted.example.kinds else set()
        assert kinds == {"app", "nginx", "postgres"} | celery | own
        if adopted.example.kinds:
            upgraded(adopted, tmp_path)
            an_update_and_a_rollback_never_run_two_of_what_must_be_alone(adopted, f"http://127.0.0.1:{port}")
        if adopted.example.uploads:
            has_additions(adopted, f"http://127.0.0.1:{port}")
            keeps_uploads(adopted, f"http://127.0.0.1:{port}")
    finally:
        adopted.invoke("down", "--volumes", "--yes", "--on", "prod")
        docker("image", "rm", "-f", f"{adopted.name}:latest", check=False)


def an_update_and_a_rollback_never_run_two_of_what_must_be_alone(adopted: Adopted, url: str) -> None:
    client = httpx.Client(base_url=url, headers={"Host": "localhost"}, trust_env=False)
    brings_other_workers_and_additions(adopted)
    open_for = {"prod": visitors.hold(int(url.rpartition(":")[2]), WEBSOCKETS)}
    for words in (("prod", "--detach"), ("rollback", "--on", "prod")):
        text, since = f"{words[0]}-slowly", time.time()
        assert client.get("/ask/", params={"queue": "billing", "text": text}).text == "sent"
        adopted.must(*words)
        assert most_at_once("celery_worker_billing", since) == 1
        has_its_own_workers_and_additions(adopted, back=words[0] == "rollback")
        assert f"asked {text} by worker_billing@" in client.get("/answer/").text, "the old worker ended with its task"
        visitors.met_the_new_release(open_for.pop(words[0], []))
    (adopted.root / "invoke.yaml").write_text((adopted.root / "invoke.yaml").read_text().replace(POST, MAIL))
    refused = one_line(adopted.invoke("scale", "--service", "celery_worker_billing", "--replicas", "2"))
    assert refused.endswith("there must be one: project.workers.billing.alone in invoke.yaml")
    adopted.must("scale", "--service", "celery_worker_mail", "--replicas", "2")


def brings_other_workers_and_additions(adopted: Adopted) -> None:
    """Change what the next release has: another kind of workers, and a variable of deploy/local/compose.yaml."""
    path = adopted.root / "invoke.yaml"
    assert MAIL in path.read_text()
    path.write_text(path.read_text().replace(MAIL, POST))
    (adopted.root / local.COMPOSE).write_text("services: {app: {environment: {ADDED: 'yes'}}}\n")


def has_its_own_workers_and_additions(adopted: Adopted, *, back: bool) -> None:
    """A rollback starts those of the release that it goes back to, whatever the work tree says by then."""
    words = ["--filter", f"label=com.docker.compose.project={adopted.name}", "--format"]
    running = docker("ps", *words, '{{.Label "com.docker.compose.service"}}').split()
    assert ("celery_worker_mail" in running, "celery_worker_post" in running) == (back, not back)
    app = docker("ps", "-q", *words[:2], "--filter", "label=com.docker.compose.service=app").split()[0]
    assert ("ADDED=yes" in docker("inspect", app)) == (not back)


def write_additions(root: Path) -> None:
    """The examples in the page of deploy/local, as files."""
    for block in pages.blocks((support.ROOT / local.FOLDER / "README.md").read_text()):
        if block.remark.startswith(local.FOLDER):
            (root / block.remark).parent.mkdir(parents=True, exist_ok=True)
            (root / block.remark).write_text(block.body)


def has_additions(adopted: Adopted, url: str) -> None:
    """Each example has its effect, and a mistake in nginx's lines is said before anything is replaced."""
    with visitor(url) as client:
        assert client.get("/robots.txt").text == "User-agent: *\nDisallow: /search/\n"
    said = docker("exec", f"{adopted.name}-app-1", "sh", "-c", "echo $TZ $WEB_THREADS; ls -d /opt/fonts")
    assert said.split() == ["Europe/Paris", "4", "/opt/fonts"]
    path = adopted.root / local.NGINX
    right = path.read_text()
    path.write_text(f"{right}nonsense;\n")
    began = docker("inspect", "-f", "{{.State.StartedAt}}", f"{adopted.name}-app-1")
    wrong = one_line(adopted.invoke("prod", "--detach"))
    assert wrong == 'nginx rejects its configuration: unknown directive "nonsense" in deploy/local/nginx.conf:5'
    assert docker("inspect", "-f", "{{.State.StartedAt}}", f"{adopted.name}-app-1") == began
    path.write_text(right)


def keeps_uploads(adopted: Adopted, url: str) -> None:
    """What is uploaded is fetched through nginx, run by no browser, and there after an update and a rollback."""
    with visitor(url) as client:
        address = uploads.kept(client)
        uploads.not_run(client, "run")
        uploads.nothing_else(client, "/notes/files/")
    for words in (("prod", "--detach"), ("rollback", "--on", "prod")):
        adopted.must(*words)
        with visitor(url) as client:
            assert client.get(address).content == uploads.PNG


def test_its_own_tests_run_with_its_own_runner(adopted: Adopted) -> None:
    done = adopted.invoke("test")
    if not has_python(adopted.example):
        assert one_line(done).endswith(TOO_OLD)
        return
    assert done.code == 0, done.stdout + done.stderr
    runner = r"2 passed|1 passed" if adopted.example in (EXAMPLES["config"], EXAMPLES["source"]) else r"Ran 1 test"
    assert re.search(runner, done.stdout + done.stderr)
    assert re.search(r"health: /healthz .*: ok", done.stdout)
    assert adopted.invoke("lint").code == 0
    assert fingerprint(adopted.root, adopted.example) == adopted.before


def test_what_is_in_the_way_gets_a_proposal_and_nothing_is_written(tmp_path: Path) -> None:
    root = tmp_path / "shop"
    root.mkdir()
    write(root, EXAMPLES["plain"])
    (root / "Dockerfile").write_text("FROM scratch\n")
    (root / "tasks.py").write_text("# theirs\n")
    done = support.invoke(support.ROOT, "adopt", str(root), "--yes")
    assert done.code != 0
    assert "`git mv tasks.py project_tasks.py` sets it aside" in done.stderr
    assert "`git mv Dockerfile Dockerfile.before-portico` sets it aside" in done.stderr
    assert not (root / "deploy").exists()
    shown = support.invoke(support.ROOT, "adopt", str(root), "--set-aside", "--dry-run")
    assert shown.code == 0
    assert "move   tasks.py to project_tasks.py" in shown.stdout
    assert "write  invoke.yaml" in shown.stdout
    assert (root / "tasks.py").read_text() == "# theirs\n"


def test_a_projects_own_tasks_are_there_beside_ours(adopted: Adopted) -> None:
    own = adopted.root / "project_tasks.py"
    own.write_text("from invoke import task\n\n\n@task\ndef greet(c):\n    print('hello of theirs')\n")
    try:
        assert adopted.invoke("project.greet").stdout == "hello of theirs\n"
    finally:
        own.unlink()


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        ("mkdir x", "is not the top of a Git repository"),
        ("mkdir x && git -C x init -q", "there is no manage.py of a Django project in it"),
        ("true", "there is no such folder"),
        (
            "mkdir -p x/deploy && git -C x init -q && touch x/deploy/bootstrap.py && echo django >x/manage.py",
            "has Portico already",
        ),
    ],
)
def test_a_wrong_target_is_one_line(tmp_path: Path, prepare: str, words: str) -> None:
    subprocess.run(["sh", "-c", prepare], cwd=tmp_path, check=True)
    done = support.invoke(support.ROOT, "adopt", str(tmp_path / "x"), "--yes")
    assert done.code != 0
    assert words in one_line(done)
