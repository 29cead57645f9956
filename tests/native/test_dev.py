"""`invoke dev --native`: starts completely, stops completely, loses nothing."""

import os
import re
import shlex
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from deploy.core.running import port_taken
from deploy.core.shell import Result
from tests import demonstration, support
from tests.rig.ports import free_port
from tests.rig.visitor import Visitor
from tests.support import Dev, invoke, one_line, wait_until

NewDev = Callable[..., Dev]


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def manage(run_folder: Path, *words: str) -> str:
    result = invoke(support.ROOT, "manage", "--", *words, env={"INVOKE_PROJECT_RUN": str(run_folder)})
    assert result.code == 0, result.stderr
    return result.stdout


def failed_dev(run_folder: Path, *words: str, **env: str) -> Result:
    return invoke(support.ROOT, "dev", "--native", *words, env={"INVOKE_PROJECT_RUN": str(run_folder), **env})


def first_poll(visitor: Visitor) -> str:
    found = re.search(r'href="(/\d+/)"', visitor.get("/").text)
    return found[1] if found else ""


def ask_for_export(visitor: Visitor) -> str:
    """Start the long task; returns the address of its state."""
    page = str(visitor.post("/exports/").headers["Location"])
    return page.replace("/exports/", "/exports/check/").rstrip("/")


def state(visitor: Visitor, address: str) -> str:
    return str(visitor.get(address).json()["state"])


def test_it_starts_empty_ends_on_term_leaves_no_process_and_finds_its_data_again(run_folder: Path) -> None:
    with Dev(support.ROOT, run_folder) as dev:
        Visitor(dev.url).vote()
        assert dev.stop(signal.SIGTERM) == 0
        assert not dev.processes()
        assert dev.output.count("Ready: ") == 1
    with Dev(support.ROOT, run_folder) as dev:
        assert (
            manage(run_folder, "shell", "-v0", "-c", "from polls.models import *; print(Vote.objects.count())") == "1\n"
        )
        assert len(re.findall(r'<li[^>]*><a[^>]* href="/\d+/"', httpx.get(f"{dev.url}/", trust_env=False).text)) == 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_and_a_closed_terminal_end_it_too(run_folder: Path, number: signal.Signals) -> None:
    with Dev(support.ROOT, run_folder) as dev:
        assert dev.stop(number) == 0
        assert not dev.processes()


@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8, 2.1, 2.5])
def test_term_at_any_moment_of_the_start_leaves_nothing_and_says_no_traceback(run_folder: Path, seconds: float) -> None:
    run_folder.mkdir()
    dev = Dev(support.ROOT, run_folder)
    time.sleep(seconds)
    dev.stop(signal.SIGTERM)
    wait_until(lambda: not dev.processes(), 10, "every process has ended")
    assert "Traceback" not in dev.output


def test_a_kill_of_the_front_leaves_nothing_behind_either(run_folder: Path) -> None:
    with Dev(support.ROOT, run_folder) as dev:
        dev.stop(signal.SIGKILL)
        wait_until(lambda: not dev.processes(), 30, "every process has noticed")


def test_a_killed_workers_task_runs_again_and_completes(run_folder: Path) -> None:
    with Dev(support.ROOT, run_folder, env={"EXPORTS_PAUSE": "3"}) as dev:
        visitor = Visitor(dev.url)
        address = ask_for_export(visitor)
        wait_until(lambda: state(visitor, address) == "running", 20, "the task is under way")
        main = min(dev.processes(r"bin/celery --quiet -A \S+ worker").keys() - dev.processes("reloader").keys())
        os.kill(main, signal.SIGKILL)
        wait_until(lambda: state(visitor, address) == "done", 60, "the task is done")
        received, succeeded = (rf"Task polls\.tasks\.write_export\S+ {word}" for word in ("received", "succeeded"))
        # The result is kept before the worker writes its line, and the line passes through two processes.
        wait_until(lambda: re.search(succeeded, dev.output) is not None, 20, "the worker says that the task succeeded")
        assert len(re.findall(received, dev.output)) == 2
        assert len(re.findall(succeeded, dev.output)) == 1
        assert dev.output.count("ended by SIGKILL; restarting it") == 1


def test_a_running_task_is_finished_before_all_ends(run_folder: Path) -> None:
    with Dev(support.ROOT, run_folder, env={"EXPORTS_PAUSE": "4"}) as dev:
        visitor = Visitor(dev.url)
        address = ask_for_export(visitor)
        wait_until(lambda: state(visitor, address) == "running", 20, "the task is under way")
        dev.stop(signal.SIGINT)
        assert re.search(r"Task polls\.tasks\.write_export\S+ succeeded", dev.output)
        assert not dev.processes()


def test_a_task_too_long_to_wait_for_goes_back_to_the_queue(run_folder: Path) -> None:
    with Dev(support.ROOT, run_folder, env={"EXPORTS_PAUSE": "30"}) as dev:
        visitor = Visitor(dev.url)
        address = ask_for_export(visitor)
        wait_until(lambda: state(visitor, address) == "running", 20, "the task is under way")
        dev.stop(signal.SIGTERM)
        assert not dev.processes()
        assert len(list((run_folder / "broker/queues").glob("*.celery.msg"))) == 1
    with Dev(support.ROOT, run_folder, env={"EXPORTS_PAUSE": "0"}) as dev:
        visitor.base_url, visitor.http.base_url = dev.url, httpx.URL(dev.url)
        wait_until(lambda: state(visitor, address) == "done", 30, "the task is done after the next start")


def test_beat_runs_what_the_admin_schedules_and_expired_exports_go(run_folder: Path) -> None:
    with Dev(support.ROOT, run_folder, env={"EXPORTS_KEEP_SECONDS": "1"}) as dev:
        visitor = Visitor(dev.url)
        address = ask_for_export(visitor)
        wait_until(lambda: state(visitor, address) == "expired", 30, "the export was made and has expired")
        files = run_folder / "protected"
        assert len(list(files.iterdir())) == 1
        every_second = (
            "from django_celery_beat.models import *;"
            "s, _ = IntervalSchedule.objects.get_or_create(every=1, period='seconds');"
            "p = PeriodicTask.objects.get(task='polls.tasks.tend_exports');"
            "p.crontab, p.interval = None, s; p.save()"
        )
        manage(run_folder, "shell", "-v0", "-c", every_second)
        wait_until(lambda: not list(files.iterdir()), 30, "the file is gone")
        assert state(visitor, address) == "expired"


def test_a_tasks_log_lines_have_the_id_of_the_request_that_asked_for_it(run_folder: Path) -> None:
    with Dev(support.ROOT, run_folder) as dev:
        visitor = Visitor(dev.url)
        given = "0123456789ab4def8123456789abcdef"
        visitor.http.headers["X-Request-ID"] = given
        address = ask_for_export(visitor)
        wait_until(lambda: state(visitor, address) == "done", 30, "the export is done")
        wait_until(lambda: bool(re.search(rf"worker .*polls\.tasks \[{given}\] export", dev.output)), 10, "the line")


def test_several_workers_are_distinct_nodes(run_folder: Path) -> None:
    with Dev(support.ROOT, run_folder, "--workers", "2") as dev:
        celery = str(support.ROOT / ".venvs" / "dev" / "bin" / "celery")
        env = {**demonstration.SITE, "RUN_DIR": str(run_folder), "CELERY_BROKER_URL": "filesystem://"}
        from deploy.core.shell import Run, run

        words = ["-A", "portico_site.celery:app", "inspect", "ping", "--timeout", "5"]
        answer = run(
            Run([celery, *words], support.environment(**env), cwd=support.ROOT / "site"),
            capture=True,
            check=False,
        )
        assert "2 nodes online" in answer.stdout
        assert dev.processes("worker1@%h")


def test_an_edit_reloads_web_worker_and_beat(tmp_path: Path) -> None:
    project = support.copy_project(tmp_path / "project")
    (project / ".venvs").symlink_to(support.ROOT / ".venvs")
    run_folder = tmp_path / "run"
    with Dev(project, run_folder, env={"PATH": f"{support.TOOLS}:{os.environ['PATH']}"}) as dev:
        urls = project / "site" / "mysite" / "urls.py"
        urls.write_text(urls.read_text().replace(*demonstration.EDITED))

        def reloaded() -> bool:
            try:
                return httpx.get(f"{dev.url}/edited", trust_env=False, verify=False).text == "edited\n"
            except httpx.TransportError:
                return False

        wait_until(reloaded, 20, "the web process has the new code")
        for name in ("web", "worker", "beat"):
            assert re.search(rf"{name} *\| urls.py changed; restarting", dev.output), name
        wait_until(lambda: dev.output.count("ready.") == 2, 20, "the worker is back")

        urls.write_text(urls.read_text() + "\nthis is no Python\n")
        wait_until(lambda: "waiting for the code to change" in dev.output, 20, "a broken edit is waited out")
        urls.write_text(urls.read_text().replace("\nthis is no Python\n", ""))
        time.sleep(1)
        wait_until(reloaded, 20, "the fixed code runs")


# --- each mistake is one line ---


def test_a_port_in_use_is_one_line(run_folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = one_line(failed_dev(run_folder, "--port", str(port)))
    assert re.fullmatch(rf"port {port} is in use by another program; try --port \d+", line)


@pytest.mark.parametrize("words", [("--port", "http"), ("--workers", "many"), ("--port", "80")])
def test_a_number_that_is_none_is_one_line(run_folder: Path, words: tuple[str, str]) -> None:
    assert f"{words[0]} is '{words[1]}', but must be a number" in one_line(failed_dev(run_folder, *words))


def test_a_run_folder_that_cannot_be_written_is_one_line(run_folder: Path) -> None:
    run_folder.write_text("a file, where a folder should be")
    line = one_line(failed_dev(run_folder, "--port", str(free_port())))
    assert line.startswith(f"{run_folder}: cannot be written")


def test_two_projects_run_side_by_side_and_what_is_taken_is_one_line(tmp_path: Path) -> None:
    """Each has its own port, data, broker and processes; the second start on one's port or data is refused."""
    second = support.copy_project(tmp_path / "second")
    (second / ".venvs").symlink_to(support.ROOT / ".venvs")
    one, other = Dev(support.ROOT, tmp_path / "one"), Dev(second, tmp_path / "other")
    with one, other:
        line = one_line(failed_dev(tmp_path / "one", "--port", str(free_port())))
        assert line == f"another `invoke dev` runs on {tmp_path}/one; stop it first: two would share one schedule"
        line = one_line(failed_dev(tmp_path / "third", "--port", str(other.port)))
        assert re.fullmatch(rf"port {other.port} is in use by another program; try --port \d+", line)
        visitors = [Visitor(one.url), Visitor(other.url)]
        # Under a name of its own a browser keeps the cookies of the two apart; it resolves these names by itself.
        visitors[0].http.headers["Host"] = f"one.localhost:{one.port}"
        visitors[0].vote()
        totals = [re.search(r'id="total">(\d+)<', each.get(f"{first_poll(each)}results/").text) for each in visitors]
        assert [found and found[1] for found in totals] == ["1", "0"]
        addresses = [ask_for_export(each) for each in visitors]
        for visitor, address in zip(visitors, addresses, strict=True):
            wait_until(lambda: state(visitor, address) == "done", 30, "its own worker made its export")  # noqa: B023
        assert [len(list((dev.run_folder / "protected").iterdir())) for dev in (one, other)] == [1, 1]
        assert other.stop(signal.SIGINT) == 0
        assert not other.processes()
        assert one.processes("runserver")
        assert visitors[0].get("/readyz").status_code == 200


def test_of_two_starts_at_once_on_one_port_the_second_is_refused_before_it_does_anything(tmp_path: Path) -> None:
    port = free_port()
    with port_taken(port, "never"):  # what the first holds while it builds and migrates
        line = one_line(failed_dev(tmp_path / "run", "--port", str(port)))
    assert re.fullmatch(rf"port {port} is in use by another program; try --port \d+", line)
    assert not (tmp_path / "run" / "db.sqlite3").exists()


def test_a_database_that_does_not_answer_is_one_line(run_folder: Path) -> None:
    url = f"postgres://me:hunter2@127.0.0.1:{free_port()}/polls"
    result = failed_dev(run_folder, "--port", str(free_port()), DATABASE_URL=url)
    assert "OperationalError" in one_line(result)
    assert "hunter2" not in result.stdout + result.stderr


def test_a_broken_migration_is_one_line_and_leaves_no_process(tmp_path: Path) -> None:
    project = support.copy_project(tmp_path / "project")
    (project / ".venvs").symlink_to(support.ROOT / ".venvs")
    broken = project / "site" / "polls" / "migrations" / "0003_broken.py"
    broken.write_text(
        "from django.db import migrations\n"
        "class Migration(migrations.Migration):\n"
        "    dependencies = [('polls', '0002_schedule')]\n"
        "    operations = [migrations.RunSQL('SELECT * FROM gone')]\n"
    )
    result = invoke(project, "dev", "--native", "--port", str(free_port()))
    line = one_line(result)
    assert line.startswith("migrate: polls.0003_broken: django.db.utils.OperationalError: no such table: gone")
    assert (project / ".run" / "migrate.log").exists()
    assert not support.processes_of(str(project))


def test_a_dry_run_prints_what_a_shell_understands_and_starts_nothing(run_folder: Path) -> None:
    result = failed_dev(run_folder, "--dry-run")
    assert result.code == 0
    lines = result.stdout.splitlines()
    assert all(shlex.split(line) for line in lines)
    words = [re.search(r"(migrate|runserver|app worker|app beat)\b", line) for line in lines]
    assert [word and word[1] for word in words] == ["migrate", "runserver", "app worker", "app beat"]
    assert "PORTICO_SAMPLES=load_sample_polls" in lines[0]
    assert not run_folder.exists()
    assert not re.search(r"\b\d{4,7}\b", " ".join(line for line in lines if "beat" in line))  # no process id


def test_without_an_engine_dev_is_native_and_says_why(run_folder: Path) -> None:
    env = {"INVOKE_PROJECT_RUN": str(run_folder), "DOCKER_HOST": f"unix://{run_folder}/none.sock"}
    result = invoke(support.ROOT, "dev", "--dry-run", env=env)
    assert re.match(r"Running natively: .*(no docker|no container engine)", result.stderr)
