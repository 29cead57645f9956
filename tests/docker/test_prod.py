"""Production on a real engine: the contract, and nothing reachable, privileged or readable without need."""

import json
import os
import re
import secrets
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from deploy.core.errors import Failure
from tests import support
from tests.contract.frozen import *  # noqa: F403 - the contract
from tests.contract.frozen import Frozen
from tests.docker.conftest import OWN, Stack
from tests.docker.data import *  # noqa: F403 - backups and restores, of the same stack
from tests.rig.engine import docker
from tests.rig.load import Load
from tests.rig.ports import free_port
from tests.rig.visitor import Visitor
from tests.support import ROOT, one_line, wait_until

OURS = ("app", "celery_worker", "celery_beat")


class FrozenStack(Frozen):
    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    @property
    def url(self) -> str:
        return self.stack.url

    @contextmanager
    def alarm(self) -> Iterator[None]:
        [rabbitmq] = self.stack.containers("rabbitmq")
        docker("exec", rabbitmq, "rabbitmqctl", "-q", "set_vm_memory_high_watermark", "0")
        try:
            yield
        finally:
            docker("exec", rabbitmq, "rabbitmqctl", "-q", "set_vm_memory_high_watermark", "0.6")

    @contextmanager
    def stopped(self, server: str) -> Iterator[None]:
        [container] = self.stack.containers(server)
        processes = [int(line) for line in docker("top", container, "-eo", "pid").split()[1:]]
        for each in processes:
            with suppress(ProcessLookupError):  # a health check has ended meanwhile
                os.kill(each, signal.SIGSTOP)
        try:
            yield
        finally:
            for each in processes:
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGCONT)

    def stranger(self, script: str, *words: str) -> subprocess.Popen[str]:
        start = ["docker", "run", "--rm", "-i", "--network", f"{self.stack.name}_edge", "--entrypoint", "python"]
        where = [f"{self.stack.name}:latest", "-", "nginx", "80"]
        client = subprocess.Popen([*start, *where, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert client.stdin
        client.stdin.write(script)
        client.stdin.close()
        client.stdin = None
        return client

    def disk(self) -> int:
        return int(docker("exec", self.stack.containers("app")[0], "du", "-sb", "/srv/protected").split()[0])

    def lives(self) -> dict[str, str]:
        facts = {name: self.stack.inspect(name) for name in self.stack.containers()}
        states = {name: each["State"] for name, each in facts.items()}
        return {name: f"{state['StartedAt']} {state['OOMKilled']}" for name, state in states.items()}  # type: ignore[index]


@pytest.fixture
def frozen(prod: Stack) -> FrozenStack:
    return FrozenStack(prod)


def secret_values(stack: Stack) -> list[str]:
    """The secret values of `.env`."""
    found = re.findall(r"^(?:SECRET_KEY|\w+_PASSWORD)=(.+)$", stack.env.read_text(), re.MULTILINE)
    assert len(found) == 5
    return [str(value) for value in found]


def test_the_acceptance_suite_passes(prod: Stack) -> None:
    prod.accept()


def test_a_bare_docker_compose_means_this_stack(prod: Stack) -> None:
    done = subprocess.run(
        ["docker", "compose", "ps", "--services"], cwd=prod.project, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == {*OURS, "nginx", "postgres", "rabbitmq", "redis"}


def test_status_and_logs_show_what_runs(prod: Stack) -> None:
    shown = prod.must("status").stdout
    assert shown.count("running, healthy") == 8
    assert "ready." in prod.must("logs", "--service", "celery_worker", "--lines", "1000").stdout
    assert "there are: app, celery_beat" in one_line(prod.invoke("logs", "--service", "web"))


def test_logs_of_all_containers_are_in_order_of_time_and_are_followed(prod: Stack) -> None:
    asked = f"/{secrets.token_hex(8)}"
    command = [sys.executable, str(prod.project / "tasks.py"), "logs", "--follow", "--grep", asked]
    env = {**support.environment(), "PATH": f"{support.TOOLS}:{os.environ['PATH']}"}
    child = subprocess.Popen(command, cwd=prod.project, env=env, stdout=subprocess.PIPE, text=True)
    assert child.stdout
    output, found = child.stdout, set[str]()
    # It is asked for until it is shown: what was written before it is followed is not.
    reader = threading.Thread(
        target=lambda: found.update(line.split()[2].partition("-")[0] for line in output), daemon=True
    )
    reader.start()
    try:
        wait_until(lambda: Visitor(prod.url).get(asked).is_error and len(found) == 2, 60, "both lines are shown")
    finally:
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
    assert found == {"app", "nginx"}
    said = prod.must("logs", "--lines", "1000", "--json").stdout
    entries = [json.loads(line) for line in said.splitlines()]
    assert [each["at"] for each in entries] == sorted(each["at"] for each in entries)
    assert {"app", "nginx"} <= {each["source"].rpartition("-")[0] for each in entries}
    assert "--since '1 week': write 90s, 10m" in one_line(prod.invoke("logs", "--since", "1 week"))


def test_status_tells_of_tasks_that_were_given_up_and_manage_removes_them(prod: Stack) -> None:
    """`test_unknown_task` and the kit's tests show how they get there."""
    give_up = """
import django
django.setup()
from kombu.message import Message
from portico_site import dead_letters
from portico_site.celery import app
what = {"content_type": "application/json", "content_encoding": "utf-8", "headers": {"task": "x", "id": "7"}}
assert dead_letters.keep(app, Message(b"[]", **what), "it has ended its process 3 times")
"""
    docker("exec", prod.containers("celery_worker")[0], "python", "-c", give_up)
    told = "1 task was given up: `invoke manage --on prod -- dead_letters` shows them"
    wait_until(lambda: told in prod.invoke("status").stderr, 30, "status tells")
    assert Visitor(prod.url).get("/readyz").status_code == 200
    assert "x 7 it has ended its process 3 times" in prod.must("manage", "--", "dead_letters").stdout
    assert "dead letters: 1 removed" in prod.must("manage", "--", "dead_letters", "--remove").stdout
    wait_until(lambda: "given up" not in prod.invoke("status").stderr, 30, "none is left")


def test_metrics_are_summed_over_processes_and_are_for_those_inside(prod: Stack) -> None:
    """Those outside have an address that is routed on the Internet (here TEST-NET-3), and learn of nothing."""
    name = 'portico_http_requests_total{status="2xx"} '

    def counted() -> int:
        lines = Visitor(prod.url).get("/metrics").text.splitlines()
        assert 'portico_queue_consumers{queue="celery"} 1' in lines
        assert "portico_broker_up 1" in lines
        assert [line for line in lines if re.fullmatch(r'portico_release_info{release="[^"]+"} 1', line)]
        return int(next(line.removeprefix(name) for line in lines if line.startswith(name)))

    before = counted()
    for _ in range(10):
        assert Visitor(prod.url).get("/").status_code == 200
    wait_until(lambda: counted() >= before + 3, 20, "a replica has counted")
    [nginx] = prod.containers("nginx")
    outside = f"{prod.name}-outside"
    docker("network", "create", "--subnet", "203.0.113.0/24", outside)
    try:
        docker("network", "connect", "--alias", "front", outside, nginx)
        run = ["run", "--rm", "--network", outside, "--entrypoint", "curl", "nginx:1.30", "-s", "-H", "Host: 127.0.0.1"]
        urls = [
            word for path in ("/metrics", "/readyz", "/stack/") for word in ("-o", "/dev/null", f"http://front{path}")
        ]
        assert docker(*run, "-w", "%{http_code} ", *urls).split() == ["404", "404", "200"]
    finally:
        docker("network", "disconnect", "-f", outside, nginx, check=False)
        docker("network", "rm", outside)


def test_nothing_but_nginx_can_be_reached_from_the_host(prod: Stack) -> None:
    published = {
        name: docker("port", name).split() for name in prod.containers() if docker("port", name, check=False).strip()
    }
    assert [name.rsplit("-", 2)[1] for name in published] == ["nginx"]
    for service in ("postgres", "rabbitmq", "redis"):
        networks = prod.inspect(prod.containers(service)[0])["NetworkSettings"]["Networks"]  # type: ignore[index]
        assert [name.rpartition("_")[2] for name in networks] == ["data"]
    assert docker("network", "inspect", "-f", "{{.Internal}}", f"{prod.name}_data").strip() == "true"


def test_no_process_of_the_site_or_of_nginx_is_root_or_has_rights(prod: Stack) -> None:
    for service in (*OURS, "nginx"):
        for name in prod.containers(service):
            users = [line.split()[1] for line in docker("top", name, "-eo", "pid,uid").splitlines()[1:]]
            assert users
            assert "0" not in users, name
            facts = prod.inspect(name)
            host = facts["HostConfig"]
            assert isinstance(host, dict)
            assert host["CapDrop"] == ["ALL"]
            assert not host["CapAdd"]
            assert host["ReadonlyRootfs"] is True
            assert "no-new-privileges:true" in host["SecurityOpt"]
            assert host["Memory"] > 0
            status = Path(f"/proc/{prod.pid(name)}/status").read_text()
            assert re.search(r"CapEff:\s+0+$", status, re.MULTILINE)
            given = Path(f"/proc/{prod.pid(name)}/limits").read_text()
            assert re.search(r"^Max core file size +0 +0 ", given, re.MULTILINE), "a crash leaves no copy of memory"


def test_the_code_cannot_be_changed_by_who_runs_it(prod: Stack) -> None:
    app = prod.containers("app")[0]
    assert docker("exec", app, "stat", "-c", "%U", "/app/manage.py").strip() == "root"
    tried = subprocess.run(["docker", "exec", app, "touch", "/app/x"], capture_output=True, text=True, check=False)
    assert "Read-only file system" in tried.stderr


@pytest.mark.parametrize(("service", "who"), [("app", "web"), ("celery_worker", "worker")])
def test_a_compromised_process_is_allowed_nothing_of_the_list(prod: Stack, service: str, who: str) -> None:
    script = (ROOT / "tests" / "contract" / "attempts.py").read_text()
    words = ["docker", "exec", "-i", prod.containers(service)[0], "python", "-", who]
    done = subprocess.run(words, input=script, capture_output=True, text=True, check=True, timeout=120)
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["succeeded"] == []
    assert said["tried"] >= 40


def test_declared_variables_arrive_with_the_same_bytes(prod: Stack) -> None:
    read = "import os; print(ascii([os.environ['OWN_PLACE'], os.environ['OWN_TOKEN']]))"
    for service in ("app", "celery_worker", "celery_beat"):
        (container, *_) = prod.containers(service)
        setup = "import django; django.setup(); "
        assert docker("exec", container, "python", "-c", f"{setup}{read}").strip() == ascii([OWN, OWN])
        assert "OWN_TOKEN=" not in json.dumps(prod.inspect(container)["Config"])


def test_the_site_reaches_the_outside_and_the_servers_do_not(prod: Stack) -> None:
    form = "{{(index .IPAM.Config 0).Gateway}}"
    outside = docker("network", "inspect", "-f", form, f"{prod.name}_out").strip()
    with socket.create_server(("0.0.0.0", 0)) as mail:
        port = mail.getsockname()[1]
        connect = f"import socket; socket.create_connection(('{outside}', {port}), 5)"
        for service in ("app", "celery_worker"):
            docker("exec", prod.containers(service)[0], "python", "-c", connect)
        for service in ("postgres", "rabbitmq"):
            command = ["bash", "-c", f"timeout 5 bash -c '</dev/tcp/{outside}/{port}'"]
            with pytest.raises(Failure):
                docker("exec", prod.containers(service)[0], *command)


def test_no_secret_shows_anywhere(prod: Stack) -> None:
    """Not in the engine's data on containers and images, not in logs, not in a command line."""
    image = f"{prod.name}:latest"
    told = {name: docker("inspect", name) + docker("logs", name) for name in prod.containers()}
    told["history"] = docker("history", "--no-trunc", image) + docker("image", "inspect", image)
    told["processes"] = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    told["environment"] = "".join(
        docker("exec", name, "cat", "/proc/1/environ") for service in OURS for name in prod.containers(service)
    )
    files = docker("run", "--rm", "--entrypoint", "sh", image, "-c", "cat /app/.env* /app/*.py 2>/dev/null; ls -a /app")
    told["files"] = files
    for value in secret_values(prod):
        for where, text in told.items():
            assert value not in text, where
    assert prod.env.stat().st_mode & 0o777 == 0o600
    assert (prod.project / ".secrets").stat().st_mode & 0o777 == 0o700


def test_a_name_that_is_not_ours_gets_no_answer(prod: Stack) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(prod.url, headers={"Host": "evil.example"}, trust_env=False)


def last_log_line(stack: Stack, text: str) -> str:
    time.sleep(1.5)  # the log is written every second
    lines = [
        line for line in docker("logs", "--tail", "200", stack.containers("nginx")[0]).splitlines() if text in line
    ]
    assert lines
    return lines[-1]


def test_a_client_cannot_say_who_it_is_or_how_it_came(prod: Stack) -> None:
    """Spoofed headers change neither the log nor the scheme and host that the site sees."""
    false = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Forwarded-Proto": "https",
        "X-Real-IP": "203.0.113.9",
        "Forwarded": "for=203.0.113.9;proto=https",
        "X-Forwarded-Host": "evil.example",
    }
    page = httpx.get(f"{prod.url}/admin/login/?spoofed", headers=false, trust_env=False)
    assert page.status_code == 200
    assert "evil.example" not in page.text
    line = last_log_line(prod, "/admin/login/")
    assert '"client":"203.0.113.9"' not in line
    seen = prod.shell("from django.conf import settings; print(settings.SECURE_PROXY_SSL_HEADER)")
    assert seen == "('HTTP_X_FORWARDED_PROTO', 'https')"
    # Django compares a form's origin with the request's scheme: with the spoofed scheme, it would reject this form.
    visitor = Visitor(prod.url)
    visitor.http.headers.update({**false, "Origin": prod.url})
    visitor.vote()


def test_each_line_of_the_access_log_has_the_id_of_the_request(prod: Stack) -> None:
    answer = httpx.get(f"{prod.url}/?looked-for", trust_env=False)
    time.sleep(1.5)  # the log is written every second
    assert f'"request_id":"{answer.headers["X-Request-ID"]}"' in docker("logs", prod.containers("nginx")[0])
    assert "looked-for" not in docker("logs", prod.containers("nginx")[0]), "a query may contain private data"


def test_static_files_are_compressed_and_kept_for_ever_and_folders_not_listed(prod: Stack) -> None:
    page = httpx.get(prod.url, trust_env=False).text
    style = re.search(r'href="(/static/[^"]+\.css)"', page)
    assert style
    answer = httpx.get(prod.url + style[1], headers={"Accept-Encoding": "gzip"}, trust_env=False)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert "immutable" in answer.headers["Cache-Control"]
    assert answer.headers["Content-Type"] == "text/css"
    plain = re.sub(r"\.[0-9a-f]{12}\.", ".", style[1])
    assert "immutable" not in httpx.get(prod.url + plain, trust_env=False).headers["Cache-Control"]
    assert httpx.get(f"{prod.url}/static/staticfiles.json", trust_env=False).status_code in (200, 404)
    for path in ("/static/", "/static/polls/", "/static/../.env", "/protected/", "/static/%2e%2e/%2e%2e/etc/passwd"):
        assert httpx.get(prod.url + path, trust_env=False).status_code in (400, 404), path


def test_too_large_a_body_and_too_many_logins_are_refused(prod: Stack) -> None:
    big = httpx.post(f"{prod.url}/", content=b"x" * 11_000_000, trust_env=False)
    assert big.status_code == 413
    with httpx.Client(base_url=prod.url, trust_env=False) as client:
        codes = [client.post("/admin/login/", data={"username": "x"}).status_code for _ in range(40)]
        assert codes.count(429) >= 10
        assert client.get("/admin/login/").status_code == 200


def test_unfinished_uploads_of_one_client_neither_kill_nginx_nor_keep_others_out(prod: Stack) -> None:
    [nginx] = prod.containers("nginx")
    started = prod.inspect(nginx)["State"]["StartedAt"]  # type: ignore[index]
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9900000\r\n\r\n"
    with ExitStack() as held:
        uploads = []
        for _ in range(30):
            upload = held.enter_context(socket.create_connection(("127.0.0.1", prod.port), 10))
            with suppress(OSError):  # refused before it has sent all
                upload.sendall(head + b"x" * 9_800_000)
            uploads.append(upload)
        assert httpx.get(prod.url, trust_env=False).status_code == 200
        answered, _, _ = select.select(uploads, [], [], 0)
        assert len(answered) >= 22, "some are held, the others refused"
    state = prod.inspect(nginx)["State"]
    assert (state["OOMKilled"], state["StartedAt"]) == (False, started)  # type: ignore[index]
    assert "exited on signal" not in docker("logs", nginx)


def test_a_protected_file_has_no_address_of_its_own(prod: Stack) -> None:
    visitor = Visitor(prod.url)
    page = visitor.post("/exports/").headers["Location"]
    key = page.rstrip("/").rsplit("/", 1)[1]
    wait_until(lambda: "Ready:" in visitor.get(page).text, 30, "the export is done")
    for path in (f"/protected/{key}.csv", f"/static/../protected/{key}.csv", f"/protected/..%2fprotected/{key}.csv"):
        assert visitor.get(path).status_code in (400, 404)
    mode = docker("exec", prod.containers("app")[0], "stat", "-c", "%a %U %G", f"/srv/protected/{key}.csv").strip()
    assert mode == "640 app app"


def test_four_workers_are_four_nodes_and_two_again(prod: Stack) -> None:
    prod.must("scale", "--service", "celery_worker", "--replicas", "4")
    ping = ["celery", "-A", "portico_site.celery:app", "inspect", "ping", "--timeout", "5"]
    worker = prod.containers("celery_worker")[0]  # web has no right to ask workers, nor to command them
    # A ping waits for no answer longer than that: on a busy machine, one of them may come later.
    wait_until(lambda: "4 nodes online" in docker("exec", worker, *ping, check=False), 60, "four workers answer")
    prod.must("scale", "--service", "celery_worker", "--replicas", "2")
    assert len(prod.containers("celery_worker")) == 2
    prod.must("scale", "--service", "app", "--replicas", "3")
    assert len(prod.containers("app")) == 3
    prod.must("scale", "--service", "app", "--replicas", "2")
    assert Visitor(prod.url).get("/readyz").status_code == 200
    assert "there must be one beat" in one_line(prod.invoke("scale", "--service", "celery_beat", "--replicas", "2"))


def test_the_image_says_what_it_is_and_holds_no_tools(prod: Stack) -> None:
    labels = docker("image", "inspect", "-f", "{{json .Config.Labels}}", f"{prod.name}:latest")
    assert "org.opencontainers.image.revision" in labels
    assert "org.opencontainers.image.created" in labels
    found = docker("exec", prod.containers("app")[0], "sh", "-c", "command -v uv gcc git || true")
    assert not found.strip()
    compiled = docker("exec", prod.containers("app")[0], "sh", "-c", "find /app /opt/venv -name '*.pyc' | head -n 3")
    assert compiled.count(".pyc") == 3


def test_redis_answers_the_site_and_nobody_without_its_password(prod: Stack) -> None:
    asking = """
import socket, urllib.parse
url = urllib.parse.urlsplit(open("/run/secrets/REDIS_URL").read())
with socket.create_connection((url.hostname, url.port), 5) as server:
    server.sendall(f"AUTH {url.password}\\r\\nCONFIG GET maxmemory-policy\\r\\nQUIT\\r\\n".encode())
    print(server.makefile().read().split())
"""
    said = docker("exec", prod.containers("app")[0], "python", "-c", asking)
    assert "'+OK'" in said
    assert "'allkeys-lru'" in said
    [redis] = prod.containers("redis")
    assert "NOAUTH" in docker("exec", redis, "valkey-cli", "get", "x")
    assert docker("port", redis).strip() == "", "published nowhere"


def test_an_environment_beside_production_is_a_site_of_its_own_and_gets_its_data_only_when_told(
    prod: Stack, repository: Path
) -> None:
    containers = {name: prod.inspect(name)["Id"] for name in prod.containers()}
    beside = replace(prod, name=f"{prod.name}-staging", port=free_port(), https_port=free_port())
    file = prod.project / ".env.staging"
    file.write_text(prod.env.read_text())
    file.chmod(0o600)
    said = one_line(prod.invoke("prod", "--detach", "--env", "staging"))
    assert f".env.staging: STACK is '{prod.name}', as in .env" in said, "a copy would be production itself"
    own = {"STACK": beside.name, "IMAGE": beside.name, "HTTP_PORT": beside.port, "HTTPS_PORT": beside.https_port}
    own |= {"APP_REPLICAS": 1, "SECRET_KEY": secrets.token_hex(32), "POSTGRES_PASSWORD": secrets.token_hex(16)}
    lines = [line for line in file.read_text().splitlines() if line.partition("=")[0] not in own]
    file.write_text("\n".join([*lines, *(f"{key}={value}" for key, value in own.items())]) + "\n")
    try:
        prod.must("prod", "--detach", "--env", "staging")
        assert Visitor(beside.url).get("/").is_success
        count = "from django.contrib.auth.models import User; print(User.objects.count())"
        assert (prod.shell(count), beside.shell(count)) == ("1", "0"), "each has its data"
        shown = prod.must("status", "--env", "staging").stdout
        assert shown.count(f"{beside.name}-") == len(beside.containers())
        assert f"{beside.name}-" not in prod.must("status").stdout
        assert f"{prod.name}-app" not in prod.must("logs", "--env", "staging").stdout
        said = one_line(prod.invoke("logs", "--on", "dev", "--env", "staging"))
        assert said == "--env staging is for --on prod and --on swarm, not for --on dev"
        prod.must("restore", "--into", "staging", "--to", "latest", "--yes")
        assert beside.shell(count) == "1", "the administrator of the backup"
        mail = "from django.conf import settings; print(settings.EMAIL_BACKEND)"
        assert beside.shell(mail) == "django.core.mail.backends.dummy.EmailBackend", "it would write to real people"
        assert beside.containers("celery_beat") == []
        assert not list((prod.project / ".secrets").rglob("environments/*/backup_*"))
        prod.must("prod", "--detach", "--env", "staging")
        assert "held here: mail and beat" in prod.must("status", "--env", "staging").stderr
        assert beside.containers("celery_beat") == [], "the next deploy holds it too"
    finally:
        prod.must("down", "--volumes", "--yes", "--env", "staging")
        file.unlink()
        docker("rmi", "-f", *docker("image", "ls", "-q", beside.name).split(), check=False)
    assert {name: prod.inspect(name)["Id"] for name in prod.containers()} == containers, "production was not touched"
    assert Visitor(prod.url).get("/").is_success


def test_a_maintenance_loses_nothing_and_outlives_an_update(prod: Stack) -> None:
    httpx.get(f"{prod.url}/who-asks/", trust_env=False)
    client = json.loads(last_log_line(prod, "/who-asks/"))["client"]
    workers, beats = len(prod.containers("celery_worker")), len(prod.containers("celery_beat"))
    with Load(prod.port, maintenance="Back at &lt;5&gt;") as load:
        prod.must("maintenance", "--start", "--message", "Back at <5>", "--hold", "workers,beat")
        for path in ("/", "/admin/login/", "/static/none.css"):
            answer = httpx.get(f"{prod.url}{path}", trust_env=False)
            assert answer.status_code == 503, path
            assert (answer.headers["Retry-After"], answer.headers["Cache-Control"]) == ("120", "no-store")
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "Back at &lt;5&gt;" in answer.text
        assert httpx.post(prod.url, trust_env=False).status_code == 503
        assert httpx.get(f"{prod.url}/readyz", trust_env=False).status_code == 200, "for those inside"
        assert prod.containers("celery_worker") == prod.containers("celery_beat") == []
        said = prod.must("status").stderr
        assert "maintenance since" in said
        assert "workers and beat are held: `invoke maintenance --on prod --stop` ends it" in said
        assert "celery_worker is held" in one_line(
            prod.invoke("scale", "--service", "celery_worker", "--replicas", "2")
        )

        prod.must("prod", "--detach")
        assert answers(prod.url) == 503
        assert prod.containers("celery_worker") == prod.containers("celery_beat") == []

        prod.must("maintenance", "--start", "--message", "Back at <5>", "--hold", "workers", "--allow", client)
        assert len(prod.containers("celery_beat")) == beats, "it is no longer held"
        visitor = Visitor(prod.url)
        page = visitor.post("/exports/").headers["Location"]
        assert "Ready:" not in visitor.get(page).text
        prod.must("maintenance", "--stop")
        assert answers(prod.url) == 200
        wait_until(lambda: "Ready:" in visitor.get(page).text, 30, "the task is done that was waiting")
        assert "no maintenance is on" in prod.must("maintenance", "--stop").stderr
    print(load.report())
    assert not load.failures, load.failures[:5]
    assert load.codes[503] > 10
    assert len(prod.containers("celery_worker")) == workers
    assert "maintenance" not in prod.must("status").stderr


def answers(url: str) -> int:
    """The status of the first page; 0 without an answer."""
    try:
        return httpx.get(url, trust_env=False).status_code
    except httpx.TransportError:
        return 0


def test_who_asks_a_site_that_does_not_answer_gets_a_page_of_ours(prod: Stack) -> None:
    apps = prod.containers("app")
    docker("stop", *apps)
    try:
        answer = httpx.get(prod.url, trust_env=False)
    finally:
        docker("start", *apps)
    assert answer.status_code in (502, 504)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "The site does not answer" in answer.text
    assert "nginx" not in answer.text
    wait_until(lambda: answers(prod.url) == 200, 60, "the site is back")


def test_a_second_down_with_volumes_asks_first(prod: Stack) -> None:
    assert "add --yes" in one_line(prod.invoke("down", "--volumes"))
    assert len(prod.containers()) >= 7


# --- with a certificate; these tests come last because the site then requires HTTPS ---


def certificate(folder: Path) -> Path:
    """Create a certificate authority and its certificate for localhost; returns the folder."""
    folder.mkdir()

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "rsa:2048", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=A test's own")
    openssl("req", *key, "-keyout", "site.key", "-out", "site.csr", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl(
        *["x509", "-req", "-in", "site.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"],
        *["-out", "site.crt", "-days", "2", "-extfile", "names"],
    )
    return folder


#: Kinds of answers, and who gives them: the site's have all headers, a file is never run, nginx's own are not guessed.
SITE = {"Strict-Transport-Security", "X-Content-Type-Options", "Content-Security-Policy", "Referrer-Policy"}
OWN_ERROR = {"X-Content-Type-Options", "Content-Security-Policy"}
KINDS: dict[str, tuple[int, set[str]]] = {
    "/": (200, SITE | {"X-Frame-Options", "X-Request-ID"}),
    "/admin/login/": (200, SITE | {"X-Frame-Options"}),
    "/admin/": (302, SITE),
    "/nowhere/": (404, SITE),
    "/exports/": (200, SITE),
    "/static/staticfiles.json": (200, {"X-Content-Type-Options"}),
    "/static/nothing.css": (404, {"X-Content-Type-Options"}),
    "/static/": (404, OWN_ERROR - {"Content-Security-Policy"}),
    "/protected/x.csv": (404, {"X-Content-Type-Options"}),
}


def every_kind_of_answer_has_its_headers(url: str, authority: str) -> None:
    found: dict[str, tuple[int, set[str]]] = {}
    context = ssl.create_default_context(cafile=authority)
    with httpx.Client(base_url=url, verify=context, trust_env=False) as client:
        for path, (_, wanted) in KINDS.items():
            answer = client.get(path)
            found[path] = (answer.status_code, wanted - {name for name in wanted if name in answer.headers})
            assert all(len(answer.headers.get_list(name)) < 2 for name in SITE), path
        big = client.post("/", content=b"x" * 11_000_000)
        found["a large body"] = (big.status_code, OWN_ERROR - {name for name in OWN_ERROR if name in big.headers})
        smuggled = client.get("/", headers={"X-Forwarded-Ssl": "off", "X-Forwarded-Protocol": "x", "Upgrade": "h2c"})
        found["headers of proxies"] = (smuggled.status_code, set())
    expected = {path: status for path, (status, _) in KINDS.items()} | {"a large body": 413, "headers of proxies": 200}
    assert {what: status for what, (status, _) in found.items()} == expected
    assert {what: lacking for what, (_, lacking) in found.items() if lacking} == {}
    visitor = Visitor(url, authority)
    page = visitor.post("/exports/").headers["Location"]
    wait_until(lambda: "Ready:" in visitor.get(page).text, 30, "the export is done")
    file = visitor.get(f"{page}download")
    assert file.status_code == 200
    assert {name for name in (*SITE, "X-Request-ID") if name not in file.headers} == set()
    assert "sandbox" in file.headers["Content-Security-Policy"]


def test_with_a_certificate_everything_is_https(prod: Stack, tmp_path: Path) -> None:
    folder = certificate(tmp_path / "tls")
    prod.set_env(TLS_CERTIFICATE=str(folder / "site.crt"), TLS_KEY=str(folder / "site.key"))
    prod.must("prod", "--detach")
    url = f"https://localhost:{prod.https_port}"
    prod.accept(url, str(folder / "ca.crt"))

    plain = httpx.get(f"http://localhost:{prod.port}/exports/?a=b", trust_env=False)
    assert (plain.status_code, plain.headers["Location"]) == (308, f"{url}/exports/?a=b")
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    answer = httpx.get(url, verify=context, trust_env=False)
    assert answer.headers["Strict-Transport-Security"] == "max-age=3600", "an hour, for this host alone"
    cookie = httpx.get(f"{url}/admin/login/", verify=context, trust_env=False).headers["Set-Cookie"]
    assert cookie.startswith("__Host-csrftoken=")
    assert "Secure" in cookie
    every_kind_of_answer_has_its_headers(url, str(folder / "ca.crt"))

    context.set_alpn_protocols(["h2", "http/1.1"])
    address = ("127.0.0.1", prod.https_port)
    with socket.create_connection(address) as raw, context.wrap_socket(raw, server_hostname="localhost") as wrapped:
        assert wrapped.selected_alpn_protocol() == "h2"
    old = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(address) as raw, pytest.raises(ssl.SSLError):
        old.wrap_socket(raw, server_hostname="localhost")
    with socket.create_connection(address) as raw, pytest.raises(ssl.SSLError):
        context.wrap_socket(raw, server_hostname="evil.example")

    (folder / "site.key").write_text((folder / "ca.key").read_text())
    assert "do not work as a pair" in one_line(prod.invoke("prod", "--detach"))
