"""An update loses no request; a failed release is removed; the site recovers from kills, and no task is lost."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from deploy.core.shell import Result
from tests import support
from tests.contract.promises import *  # noqa: F403
from tests.contract.promises import Runtime
from tests.docker.canaries import Canaries
from tests.docker.conftest import Stack
from tests.rig import database, held
from tests.rig.engine import docker
from tests.rig.load import Load
from tests.rig.visitor import Visitor
from tests.support import one_line, wait_until

KIT = "deploy/kit/portico_site"
STYLE = "site/polls/static/polls/style.css"


@pytest.fixture(autouse=True)
def site_as_it_was(prod: Stack) -> Iterator[None]:
    """Each test may change the site."""
    yield
    for name in ("polls", "mysite"):
        shutil.rmtree(prod.project / "site" / name)
        shutil.copytree(support.ROOT / "site" / name, prod.project / "site" / name)
    shutil.copy2(support.ROOT / "nginx" / "site.conf", prod.project / "nginx" / "site.conf")
    shutil.copytree(support.ROOT / KIT, prod.project / KIT, dirs_exist_ok=True)
    for name in ("base", "prod"):
        path = f"deploy/compose/{name}.yaml"
        if not slowed(prod):
            shutil.copy2(support.ROOT / path, prod.project / path)


@pytest.fixture(scope="module", autouse=True)
def canaries(prod: Stack) -> Iterator[Canaries]:
    """What the tests of this file do with secrets is watched from the first to the last."""
    with Canaries(prod) as watched:
        yield watched


def votes(stack: Stack) -> int:
    [postgres] = stack.containers("postgres")
    return database.votes(postgres)


def last_line(result: Result) -> str:
    """The last line of a failed rollout. Only the last lines of the release may come before it."""
    assert result.code != 0
    *lines, last = result.stderr.strip().splitlines()
    assert not [line for line in lines if "Traceback" in line and " | " not in line]
    return last


def serves(stack: Stack) -> bool:
    try:
        return Visitor(stack.url).get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def unhurt(load: Load) -> None:
    """No request failed, and there were enough requests."""
    print(load.report())
    assert not load.failures, load.failures[:5]
    assert load.accepted > 50


def assert_the_page_shows_the_release(stack: Stack) -> None:
    """Both replicas that `/stack/` may name are of the image that was deployed, and it says so."""
    facts = '{{.Config.Hostname}} {{index .Config.Labels "org.opencontainers.image.revision"}}'
    replicas = dict(docker("inspect", "-f", facts, name).split() for name in stack.containers("app"))
    page = Visitor(stack.url).get("/stack/").text
    found = re.search(r'id="host">([^,]+),.*id="release">([^<]+)<', page, re.DOTALL)
    assert found, page
    assert replicas[found[1]] == found[2]


def test_three_updates_under_load_lose_no_request_and_no_vote(prod: Stack) -> None:
    before = votes(prod)
    with Load(prod.port) as load:
        for number in range(3):
            old = prod.containers("app")
            (prod.project / STYLE).open("a").write(f"\n.release-{number} {{ color: red }}\n")
            prod.must("prod", "--detach")
            assert not set(old) & set(prod.containers("app"))
            assert_the_page_shows_the_release(prod)
        time.sleep(2)
    unhurt(load)
    styles = [path for path in load.files if "style" in path]
    assert len(styles) == 4, "the files of all four releases were asked for, and each was there to the end"
    assert votes(prod) == before + load.accepted
    assert len(prod.containers("celery_beat")) == 1


def test_a_migration_waits_for_a_transaction_and_a_dump_and_no_request_fails(prod: Stack) -> None:
    """`tests.bench.locks` measures how long requests take meanwhile, and holds the lock for a minute."""
    [postgres] = prod.containers("postgres")
    (prod.project / "site/polls/migrations/0003_spare.py").write_text(held.MIGRATION)
    with Load(prod.port) as load, ThreadPoolExecutor() as pool:
        with held.transaction(postgres), held.dump(postgres):
            update = pool.submit(prod.must, "prod", "--detach")
            wait_until(lambda: held.waits(postgres), 180, "the migration waits")
            wait_until(lambda: not held.waits(postgres), 30, "it lets the others pass")
            assert not update.done()
        update.result()
    unhurt(load)
    assert database.psql(postgres, "SELECT count(spare) FROM polls_question") == "0", "it is applied"


def test_a_release_that_cannot_boot_is_taken_away_and_the_old_one_serves_on(prod: Stack) -> None:
    old, image = prod.containers("app"), docker("image", "inspect", "-f", "{{.Id}}", f"{prod.name}:latest")
    with Load(prod.port) as load:
        prod.edit("site/polls/apps.py", "class", "raise RuntimeError('this release cannot boot')\nclass")
        # The build itself would notice the error; so this release builds, but does not start.
        prod.edit("site/polls/apps.py", "raise", "import os\nif os.environ.get('DATABASE_URL_FILE'): raise")
        prod.edit("deploy/kit/portico_site/release.py", 'if "migrate" in wanted:', "if False:")
        result = prod.invoke("prod", "--detach")
        time.sleep(1)
    unhurt(load)
    assert re.match(rf"{prod.name}-\S+ (ended|is unhealthy)", last_line(result))
    assert "this release cannot boot" in result.stderr
    assert prod.containers("app") == old
    assert docker("image", "inspect", "-f", "{{.Id}}", f"{prod.name}:latest") == image


def test_a_release_that_answers_with_errors_is_taken_away(prod: Stack) -> None:
    old = prod.containers("app")
    with Load(prod.port) as load:
        prod.edit("site/polls/urls.py", "urlpatterns = [", "urlpatterns = [\n    path('', lambda request: 1 / 0),")
        result = prod.invoke("prod", "--detach")
    unhurt(load)
    assert re.search(r"is not ready: /: 500", last_line(result))
    assert prod.containers("app") == old


def test_a_rollback_brings_back_the_code_with_the_environment_it_had(prod: Stack) -> None:
    prod.must("prod", "--detach")
    names = "localhost,127.0.0.1,shop.example"
    prod.set_env(ALLOWED_HOSTS=names)
    prod.edit("deploy/kit/portico_site/health.py", '"ok\\n"', '"newer\\n"')
    prod.must("prod", "--detach")
    assert names in str(prod.inspect(prod.containers("app")[0])["Config"])
    dry = prod.must("rollback", "--dry-run").stdout
    assert re.match(r"# back to release \d+ \(", dry)
    assert Visitor(prod.url).get("/healthz").text == "newer\n", "a dry run changes nothing"
    with Load(prod.port) as load:
        result = prod.must("rollback")
        time.sleep(1)
    unhurt(load)
    assert Visitor(prod.url).get("/healthz").text == "ok\n"
    assert names not in str(prod.inspect(prod.containers("app")[0])["Config"])
    assert ".env differs from the one of that release" in result.stderr
    prod.must("scale", "--service", "celery_worker", "--replicas", "2")
    assert all(names not in str(prod.inspect(each)["Config"]) for each in prod.containers("celery_worker"))
    prod.must("scale", "--service", "celery_worker", "--replicas", "1")
    prod.set_env(ALLOWED_HOSTS="localhost,127.0.0.1")
    assert "--to 99: there is no such release; there are: " in one_line(prod.invoke("rollback", "--to", "99"))


def test_a_migration_that_fails_changes_nothing(prod: Stack) -> None:
    everything = prod.containers()
    broken = prod.project / "site" / "polls" / "migrations" / "0003_broken.py"
    broken.write_text(
        "from django.db import migrations\n"
        "class Migration(migrations.Migration):\n"
        "    dependencies = [('polls', '0002_schedule')]\n"
        "    operations = [migrations.RunSQL('SELECT * FROM gone')]\n"
    )
    with Load(prod.port) as load:
        result = prod.invoke("prod", "--detach")
        time.sleep(1)
    unhurt(load)
    assert re.match(r"release: polls\.0003_broken: .*relation \"gone\" does not exist", one_line(result))
    assert prod.containers() == everything


def test_a_configuration_that_nginx_does_not_take_changes_nothing_and_survives_a_crash(prod: Stack) -> None:
    everything = prod.containers()
    prod.edit("nginx/site.conf", "server_tokens off;", "server_tokens of;")
    with Load(prod.port) as load:
        result = prod.invoke("prod", "--detach")
    assert not load.failures, load.failures[:5]
    assert re.fullmatch(r'nginx rejects its configuration: invalid value "of" in nginx/site.conf:\d+', one_line(result))
    assert prod.containers() == everything
    kill(prod, prod.containers("nginx")[0])
    wait_until(lambda: serves(prod), 30, "nginx is back, by the configuration that it knew")


def test_an_earlier_image_comes_back_by_its_tag(prod: Stack) -> None:
    prod.must("build", "--tag", "keep")
    prod.edit("deploy/kit/portico_site/health.py", '"ok\\n"', '"newer\\n"')
    prod.must("prod", "--detach")
    assert Visitor(prod.url).get("/healthz").text == "newer\n"
    with Load(prod.port) as load:
        prod.must("prod", "--detach", "--tag", "keep")
        time.sleep(1)
    unhurt(load)
    assert Visitor(prod.url).get("/healthz").text == "ok\n"
    assert "there is no such image" in one_line(prod.invoke("prod", "--tag", "never"))


def test_after_a_bare_docker_compose_up_an_update_still_loses_nothing_and_keeps_nginx(prod: Stack) -> None:
    subprocess.run(["docker", "compose", "up", "-d"], cwd=prod.project, check=True, capture_output=True)
    wait_until(lambda: serves(prod), 60, "the site serves")
    front = prod.inspect(prod.containers("nginx")[0])["Id"]
    with Load(prod.port) as load:
        prod.must("prod", "--detach")
        time.sleep(1)
    unhurt(load)
    assert prod.inspect(prod.containers("nginx")[0])["Id"] == front


def test_a_command_killed_half_way_leaves_a_site_that_serves_and_the_next_one_clears_up(prod: Stack) -> None:
    with Load(prod.port) as load:
        for seconds in (3.0, 6.0, 8.0):
            process = subprocess.Popen(
                ["python3", str(prod.project / "tasks.py"), "prod", "--detach"],
                env={**support.environment(), "PATH": f"{support.TOOLS}:{os.environ['PATH']}"},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            time.sleep(seconds)
            process.kill()
            process.wait()
            time.sleep(1)
        prod.must("prod", "--detach")
    unhurt(load)
    assert [len(prod.containers(each)) for each in ("app", "celery_worker", "celery_beat")] == [2, 1, 1]
    assert "was killed" in prod.must("releases", "--on", "prod").stdout


# --- kills ---


def kill(stack: Stack, container: str) -> None:
    """Kill a process as a crash would, without the engine."""
    os.kill(stack.pid(container), signal.SIGKILL)


def exports(stack: Stack, number: int) -> list[str]:
    """Request exports, one for each of several visitors; returns their ids."""
    ids = []
    for _ in range(number):
        visitor = Visitor(stack.url)
        page = visitor.post("/exports/").headers["Location"]
        ids.append(page.rstrip("/").rsplit("/", 1)[1])
    return ids


def all_done(stack: Stack, ids: list[str]) -> bool:
    return states(stack, ids) == ["done"] * len(ids)


@pytest.mark.parametrize("service", ["app", "nginx"])
def test_a_killed_replica_or_nginx_comes_back_and_no_vote_is_lost(prod: Stack, service: str) -> None:
    before = votes(prod)
    with Load(prod.port, clients=4) as load:
        time.sleep(1)
        kill(prod, prod.containers(service)[0])
        time.sleep(5)
        failures = len(load.failures)
        time.sleep(3)
    print(load.report())
    assert len(load.failures) == failures, "after recovery, no request fails"
    assert votes(prod) >= before + load.accepted
    wait_until(lambda: serves(prod), 30, "the site serves")


@pytest.mark.usefixtures("slow")
def test_a_killed_worker_loses_no_task(prod: Stack) -> None:
    """Make each task long enough to be killed while it runs."""
    ids = exports(prod, 6)
    wait_until(lambda: "running" in states(prod, ids), 30, "a task runs")
    kill(prod, prod.containers("celery_worker")[0])
    wait_until(lambda: all_done(prod, ids), 120, "every export is done")


def states(stack: Stack, ids: list[str]) -> list[str]:
    [postgres] = stack.containers("postgres")
    return database.states(postgres, ids)


def slowed(stack: Stack) -> bool:
    """Whether exports have been made slow; they then stay slow."""
    return "EXPORTS_PAUSE" in (stack.project / "deploy" / "compose" / "base.yaml").read_text()


@pytest.fixture
def slow(prod: Stack) -> None:
    """Make exports take seconds: enough votes for several chunks, with a pause after each."""
    prod.shell(
        "from polls.models import *; from uuid import uuid4; c = Choice.objects.first();"
        "Vote.objects.count() > 9000 or Vote.objects.bulk_create("
        "[Vote(question_id=c.question_id, choice=c, visitor=uuid4()) for _ in range(9000)])"
    )
    worker = prod.inspect(prod.containers("celery_worker")[0])
    if "EXPORTS_PAUSE" not in str(worker):
        prod.edit(
            "deploy/compose/base.yaml",
            "      WORKER_STOP_SECONDS",
            "      EXPORTS_PAUSE: '0.5'\n      WORKER_STOP_SECONDS",
        )
        prod.must("prod", "--detach")


@pytest.mark.usefixtures("slow")
def test_a_worker_that_is_replaced_finishes_its_tasks(prod: Stack) -> None:
    ids = exports(prod, 4)
    wait_until(lambda: "running" in states(prod, ids), 30, "a task runs")
    prod.must("prod", "--detach")
    wait_until(lambda: all_done(prod, ids), 120, "every export is done")
    text = docker("logs", prod.containers("celery_worker")[0])
    assert "was interrupted" not in text


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("service", ["rabbitmq", "postgres"])
def test_a_restart_of_a_server_is_healed_and_every_task_is_done(prod: Stack, service: str) -> None:
    before = votes(prod)
    ids = exports(prod, 4)
    with Load(prod.port, clients=4, rest=0.05) as load:
        time.sleep(1)
        docker("restart", prod.containers(service)[0])
        wait_until(lambda: serves(prod), 60, "the site is ready again")
        failures = len(load.failures)
        time.sleep(3)
    print(service, load.report())
    assert len(load.failures) - failures <= 4, (
        "after recovery, no request fails"
    )  # those that ran when it was ready again
    ids += exports(prod, 2)
    wait_until(lambda: all_done(prod, ids), 180, "every export is done")
    assert votes(prod) >= before + load.accepted


# --- The promises of every runtime ---


class Compose(Runtime):
    under_way = "start beside the old ones"
    deploying = ["prod", "--detach"]  # noqa: RUF012
    changing = [  # noqa: RUF012
        *(["prod"], ["build"], ["push"], ["rollback"], ["down", "--volumes"]),
        *(["scale", "--service", "app", "--replicas", "3"], ["manage", "--", "flush"], ["shell"]),
        ["maintenance", "--start", "--hold", "workers,beat"],
    ]

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    @property
    def project(self) -> Path:
        return self.stack.project

    def environment(self) -> dict[str, str]:
        return {}

    def commit(self) -> None:
        """Nothing to do: the work tree itself is built."""

    def serving(self) -> object:
        return self.stack.containers()

    @contextmanager
    def load(self) -> Iterator[Load]:
        with Load(self.stack.port) as load:
            yield load
        assert not load.failures, load.failures[:5]
        assert load.accepted > 50

    def history(self) -> str:
        return self.stack.must("releases", "--on", "prod").stdout


@pytest.fixture(scope="module")
def runtime(prod: Stack) -> Compose:
    prod.must("prod", "--detach")  # so that there is a release to return to
    return Compose(prod)


# --- After updates, failed releases, rollbacks and kills ---


def test_no_secret_is_found_in_a_log_an_argument_a_temporary_file_or_the_image(prod: Stack, canaries: Canaries) -> None:
    [postgres] = prod.containers("postgres")
    database.psql(postgres, "ALTER TABLE polls_question RENAME TO elsewhere")
    try:
        assert Visitor(prod.url).get("/").status_code == 500
    finally:
        database.psql(postgres, "ALTER TABLE elsewhere RENAME TO polls_question")
    prod.must("manage", "--", "check", "--deploy")
    assert prod.invoke("manage", "--", "nothing").code
    assert canaries.found() == []
