"""Decisions about stacks: values of .env, nginx's files, command lists, who is left over."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from deploy.compose import containers, front, journal, ledger, rollout
from deploy.compose.containers import Replica
from deploy.compose.dev import lacking
from deploy.core import git, shell
from deploy.core.errors import Failure
from deploy.core.shell import Result, Run
from deploy.docker import env as server_env
from deploy.docker import images
from deploy.docker import stack as stacks
from deploy.docker.stack import Stack
from deploy.project import certificate, proxy
from deploy.project.config import Project
from tests.support import ROOT

PROJECT = Project(Path("/p"), "shop", "site", "mysite", 8000, "", ".run", ("/readyz",), 3)
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


# --- .env ---


@pytest.mark.parametrize("development", [True, False])
def test_the_example_with_random_secrets_is_a_valid_env(tmp_path: Path, development: bool) -> None:
    texts = [
        server_env.fresh((ROOT / ".env.example").read_text(), stack="shop", development=development) for _ in range(2)
    ]
    assert texts[0] != texts[1], "random"
    path = tmp_path / ".env"
    path.write_text(texts[0])
    path.chmod(0o600)
    env = server_env.load(path)
    assert (env.stack, env.allowed_hosts) == ("shop", ["localhost", "127.0.0.1"])
    assert re.search(r"^COMPOSE_FILE=\S+/(dev|prod)\.yaml$", texts[0], re.MULTILINE)[1] == (  # type: ignore[index]
        "dev" if development else "prod"
    )


def test_each_key_of_env_is_explained_in_the_example() -> None:
    text = (ROOT / ".env.example").read_text()
    for name in server_env.ServerEnv.model_fields:
        assert re.search(rf"^#?{name.upper()}=", text, re.MULTILINE), name


def test_the_secrets_are_in_files_and_never_in_what_compose_is_told() -> None:
    env = stack().env
    told = json.dumps(env.interpolated()) + repr(env)
    files = env.secret_files()
    for value in ("k" * 50, "p" * 20, "r" * 20):
        assert value not in told
        assert any(value in text for text in files.values())
    assert files["database_url"] == f"postgres://site:{'p' * 20}@postgres:5432/site"
    assert "default_user = site" in files["rabbitmq.conf"]


def test_https_only_follows_the_certificate_unless_it_is_said() -> None:
    tls = {"TLS_CERTIFICATE": "/c", "TLS_KEY": "/k"}
    assert [stack(**values).env.secure for values in ({}, tls, {"HTTPS_ONLY": "1"}, {**tls, "HTTPS_ONLY": "0"})] == [
        *[False, True, True, False]
    ]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="sudo apt install openssl")
def test_a_certificate_that_ended_is_named(tmp_path: Path) -> None:
    files = ["-keyout", str(tmp_path / "k"), "-out", str(tmp_path / "c")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *files, "-days", "1", "-subj", "/CN=x"]
    subprocess.run(command, check=True, capture_output=True)
    certificate.check_certificate(tmp_path / "c", tmp_path / "k")
    with pytest.raises(Failure, match=r"ended on \d{4}-\d\d-\d\d; renew it"):
        certificate.check_certificate(tmp_path / "c", tmp_path / "k", datetime(2100, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("image", ["shop", "shop/web", "registry.example.org/shop", "localhost:5000/a_b/c.d-e"])
def test_an_image_is_named_without_its_tag(image: str) -> None:
    assert stack(IMAGE=image).image == f"{image}:latest"


@pytest.mark.parametrize("image", ["portico:1.0", "portico/", "/portico", "Shop", "a//b", "shop@sha256:1", "a:b/c"])
def test_an_image_that_docker_would_not_take_is_refused_with_an_example(image: str) -> None:
    with pytest.raises(Failure, match=r"IMAGE .*must be an image's name in lower case without a tag, as registry"):
        stack(IMAGE=image)


# --- nginx ---

FRONT = proxy.Front(["a.example", "b.example"], tls=False, https_port=443, trusted=[])


def test_who_serves_is_read_back_from_what_was_written() -> None:
    text = proxy.http(FRONT, ["shop-app-1", "shop-app-2"], ["app"])
    assert proxy.serving(text) == ("shop-app-1", "shop-app-2")
    assert "server app:8000 resolve max_fails=0 down;" in text
    assert proxy.serving(proxy.http(FRONT, proxy.ALL)) == proxy.ALL


def test_without_a_certificate_nothing_listens_for_tls() -> None:
    assert "443" not in "".join(proxy.runtime_files(FRONT, proxy.ALL).values())


def test_with_a_certificate_plain_http_is_a_redirect_only() -> None:
    front = proxy.Front(["a.example"], tls=True, https_port=8443, trusted=[])
    files = proxy.runtime_files(front, proxy.ALL)
    assert "return 308 https://$host:8443$request_uri;" in files["http.conf"]
    assert "listen 80" not in files["server.conf"]
    assert "ssl_reject_handshake on;" in files["unknown.conf"]


def test_only_proxies_that_are_named_are_believed() -> None:
    assert "set_real_ip_from" not in proxy.http(FRONT, proxy.ALL)
    trusting = proxy.http(proxy.Front(["a"], tls=False, https_port=443, trusted=["10.0.0.0/8"]), proxy.ALL)
    assert "set_real_ip_from 10.0.0.0/8;" in trusting
    assert "    10.0.0.0/8 1;" in trusting


# --- command lists ---


def test_compose_is_told_what_env_says_and_not_what_a_shell_has() -> None:
    command = stack(HTTP_PORT="8080").compose("ps")
    assert list(command.argv) == [
        *["docker", "compose", "--env-file", ".env"],
        *["-f", "deploy/compose/base.yaml", "-f", "deploy/compose/prod.yaml", "ps"],
    ]
    assert command.env["HTTP_PORT"] == "8080"
    assert command.env["APP_REPLICAS"] == ""
    names = set(re.findall(r"\$\{([A-Z_]+)", "".join(p.read_text() for p in (ROOT / "deploy/compose").glob("*.yaml"))))
    assert names <= set(command.env), "a variable of the files that .env cannot decide"


def test_the_image_is_built_under_its_revision() -> None:
    version = git.Revision("0123456789abcdef", "2026-01-01T00:00:00+00:00")
    command = images.build(PROJECT, "app", ["shop:x"], version, ca="/ca", platform="linux/arm64").argv
    assert list(command) == [
        *["docker", "buildx", "build", "--load", "--target", "app"],
        *["--build-arg", "SITE=site", "--build-arg", "REVISION=0123456789abcdef"],
        *["--build-arg", "CREATED=2026-01-01T00:00:00+00:00", "--secret", "id=build_ca,src=/ca"],
        *["--platform", "linux/arm64", "--tag", "shop:x", "."],
    ]
    assert git.Revision("0123456789abcdef-changed", "").tag == "0123456789ab-changed"


@pytest.mark.parametrize("text", ["", "-x", "a b", "a/b", "x" * 129])
def test_a_tag_that_no_registry_takes_is_refused(text: str) -> None:
    with pytest.raises(Failure, match="--tag"):
        images.tag(text)


# --- what runs ---


def test_what_inspect_says_becomes_replicas_in_the_order_of_their_numbers() -> None:
    def container(name: str, oneoff: str = "False") -> dict[str, object]:
        labels = {"com.docker.compose.service": "app", "com.docker.compose.oneoff": oneoff}
        state = {"Status": "running", "ExitCode": 0, "StartedAt": "", "Health": {"Status": "starting"}}
        return {
            "Name": f"/{name}",
            "Config": {"Labels": labels},
            "State": state,
            "RestartCount": 0,
            "Image": "sha256:1",
        }

    text = json.dumps([container("s-app-10"), container("s-app-9"), container("s-app-run-1", "True")])
    assert [each.name for each in containers.parse_replicas(text)] == ["s-app-9", "s-app-10"]
    assert not containers.parse_replicas(text)[0].ready
    assert containers.parse_replicas("") == []


def test_a_replica_that_was_started_again_before_is_no_failure_of_now() -> None:
    assert not replica("a", restarts=2).failed(2)
    assert replica("a", restarts=3).failed(2) == "ended, and was started again"
    assert replica("a", state="exited").failed(0) == "ended with exit code 0"


def test_how_many_env_says_else_as_many_as_run_else_the_default() -> None:
    running = [replica("1"), replica("2"), replica("3"), replica("4", state="exited")]
    assert rollout.wanted(stack(), running) == {"app": 3, "celery_worker": 1}
    assert rollout.wanted(stack(), []) == {"app": 2, "celery_worker": 1}
    assert rollout.wanted(stack(APP_REPLICAS="5"), running) == {"app": 5, "celery_worker": 1}


def test_what_a_killed_command_left_is_known_by_whom_nginx_uses() -> None:
    some = [replica("app-1"), replica("app-2"), replica("app-3", state="created"), replica("w-1", "celery_worker")]
    assert journal.left_over(some, proxy.ALL, None) == [some[2]]
    assert journal.left_over(some, ["app-1"], None) == [some[1], some[2]]
    assert journal.left_over(some, ["gone"], None) == [some[2]], "whoever is left serves"


def generations() -> tuple[list[Replica], list[Replica]]:
    """An app, a worker and a beat of two releases."""
    services = {"app": "a", "celery_worker": "w", "celery_beat": "b"}
    old, new = ([replica(f"{short}{n}", service) for service, short in services.items()] for n in (1, 2))
    return old, new


def test_of_two_generations_the_one_that_serves_stays_with_its_workers_and_beat() -> None:
    old, new = generations()
    names = [each.name for each in old]
    assert journal.left_over([*old, *new], ["a1"], names) == new, "killed before nginx was switched"
    assert journal.left_over([*old, *new], ["a2"], names) == old, "killed after it"
    assert journal.left_over(old, proxy.ALL, names) == [], "killed before anything started"


def test_a_beat_that_was_stopped_for_a_new_one_is_not_cleared_away_as_ended() -> None:
    old, new = generations()
    old[2] = replica("b1", "celery_beat", state="exited")
    assert journal.left_over([*old, *new], ["a1"], [each.name for each in old]) == new


def test_development_is_ready_when_every_worker_is() -> None:
    now = [replica("a"), replica("w1", "celery_worker"), replica("w2", "celery_worker", health="starting")]
    assert lacking(now, 2) == ["celery_worker", "celery_beat"]


# --- the files ---


@pytest.mark.parametrize("name", ["base", "dev", "prod"])
def test_no_service_has_a_fixed_name_a_public_datastore_or_a_password(name: str) -> None:
    text = (ROOT / "deploy" / "compose" / f"{name}.yaml").read_text()
    services = yaml.safe_load(text)["services"]
    assert "container_name" not in text
    assert "privileged" not in text
    for service, spec in services.items():
        for key, value in spec.get("environment", {}).items():
            assert "PASSWORD" not in key or key.endswith("_FILE"), (service, key, value)
        if service != "nginx":
            assert all(str(port).startswith("127.0.0.1:") for port in spec.get("ports", []))


def test_the_context_of_a_build_is_an_allow_list() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    assert [line for line in lines if line.startswith("!")] == ["!site", "!requirements/*.txt"]


def test_servers_of_ones_own_are_refused_only_where_compose_in_production_starts(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("".join(f"{key}={value}\n" for key, value in VALUES.items()) + "DATABASE_URL=postgres://u:p@db/x\n")
    path.chmod(0o600)
    project = Project(tmp_path, "shop", "site", "mysite", 8000, "", ".run", ("/readyz",), 3)
    with pytest.raises(Failure, match=r"are for the swarm.* remove them from \.env"):
        stacks.require_own_servers(stacks.load(project, "prod"))
    assert stacks.load(project, "swarm").env.database_url
    development = stacks.load(project, "dev")
    stacks.require_own_servers(development)
    assert "@postgres:5432/" in development.env.secret_files()["database_url"], "not production's"


def test_the_replicas_of_a_laid_configuration_are_exchanged_and_nothing_else() -> None:
    text = proxy.http(FRONT, ["a-1", "a-2"], ["a-3"])
    assert proxy.with_upstream(text, ["a-3"]) == proxy.http(FRONT, ["a-3"])
    assert proxy.with_upstream(proxy.http(FRONT, proxy.ALL), ["x"], ["y"]) == proxy.http(FRONT, ["x"], ["y"])


# --- A question that is not answered ---


class Engine:
    """What docker answers, by the beginning of its words; and what it was asked."""

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


def test_an_engine_that_may_not_be_asked_is_not_one_on_which_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    Engine(monkeypatch, {"docker ps": Result(1, "", "permission denied while trying to connect to the socket")})
    with pytest.raises(Failure, match="may not ask the container engine"):
        containers.has_containers("shop")


def test_containers_that_the_engine_does_not_tell_of_have_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    Engine(monkeypatch, {"docker inspect": Result(1, "", "Cannot connect to the Docker daemon")})
    with pytest.raises(Failure, match="does not say what runs: Cannot connect"):
        containers.inspect([replica("a")])
    Engine(monkeypatch, {"docker inspect": Result(1, "[]", "Error: No such object: a")})
    assert [each.state for each in containers.inspect([replica("a")])] == ["dead"]


def test_replicas_that_do_not_stop_are_not_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch, {"docker stop": Result(1, "", "tried to kill container, but did not receive an exit")})
    with pytest.raises(Failure, match="stops no containers"):
        containers.stop_replicas([replica("a")])
    assert not any("docker rm" in line for line in engine.asked)


def test_an_nginx_that_does_not_take_a_reload_is_a_failure_and_not_a_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "RELOAD_SECONDS", 0.2)
    Engine(monkeypatch, {"docker top": Result(0, "PID COMMAND\n7 nginx: worker process\n")})
    with pytest.raises(Failure, match="nginx-1 has not taken its configuration"):
        front.reload("nginx-1", wait=True)


def test_an_nginx_whose_processes_are_not_told_has_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = [Result(0, f"PID COMMAND\n{each}") for each in ("7 nginx: worker process", "8 nginx: worker process")]
    Engine(monkeypatch, {"docker top": [workers[0], Result(1, "", "no top"), workers[1]]})
    with pytest.raises(Failure, match="no top"):
        front.reload("nginx-1", wait=True)


# --- What was put into service, and by whom ---


def release(number: int, of: int = 0, image: str = "") -> ledger.Release:
    return ledger.Release(number, of or number, image or f"sha256:{number}", "a" * 40, "jan@laptop", "2026-01-01T10:00")


def test_images_of_releases_that_are_kept_stay_and_those_long_past_go() -> None:
    kept = [release(number) for number in (4, 5)]
    images = [("sha256:5", "latest"), ("sha256:5", "release-5"), ("sha256:5", "abc-changed"), ("sha256:4", "release-4")]
    old = [("sha256:3", "release-3"), *[(f"sha256:x{n}", f"tag{n}") for n in range(ledger.KEPT + 2)]]
    assert ledger.spare([*images, *old], kept) == ["release-3", f"tag{ledger.KEPT}", f"tag{ledger.KEPT + 1}"]


def test_what_has_no_end_in_the_ledger_was_killed_or_goes_on() -> None:
    lines = [{"run": "1", "action": "deploy"}, {"run": "1", "outcome": "release 1 serves"}, {"run": "2"}, {"run": "3"}]
    text = "".join(f"{json.dumps(line)}\n" for line in lines) + '{"run": "4", "act'
    assert [each["outcome"] for each in ledger.entries(text, busy=True)] == [
        *["release 1 serves", "was killed", "goes on"]
    ]
    assert ledger.entries(text, busy=False)[-1]["outcome"] == "was killed"


def test_a_changed_work_tree_is_told_from_its_commit() -> None:
    assert ledger.short("a" * 40 + "-changed") == "aaaaaaaaaaaa-changed"
    assert ledger.short("a" * 40) == "a" * 12
