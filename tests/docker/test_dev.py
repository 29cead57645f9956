"""Development on a real engine: the contract, edits that take effect within seconds, nothing reachable by others."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import demonstration, support
from tests.docker.conftest import Stack, new_stack, remove
from tests.rig.engine import docker
from tests.rig.visitor import ADMIN
from tests.support import one_line, wait_until

#: Seconds for images, servers and the site on a slow machine.
READY_SECONDS = 240


#: A front end, and its watcher.
FRONT = """\
  assets:
    image: "python:3.13-slim-trixie"
    run: mkdir -p site/polls/static/dist && cp front.js site/polls/static/dist/
    output: site/polls/static/dist
    watch: while sleep 0.2; do cp front.js site/polls/static/dist/; done
"""


class Running:
    """A running `invoke dev`."""

    def __init__(self, stack: Stack, *options: str) -> None:
        self.stack = stack
        self.log = stack.project.parent / "dev.log"
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                # A shell starts background processes with SIGINT ignored, and children inherit that.
                ["env", "--default-signal=INT", "python3", str(stack.project / "tasks.py"), "dev", *options],
                env={**support.environment(), "PATH": f"{support.TOOLS}:{os.environ['PATH']}"},
                cwd=stack.project,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self.log.read_text()

    def wait_ready(self) -> None:
        wait_until(lambda: "Ready: " in self.output or self.process.poll() is not None, READY_SECONDS, "the ready line")
        assert "Ready: " in self.output, self.output[-3000:]

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(120)


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A development stack with two workers and an administrator."""
    stack = new_stack(tmp_path_factory.mktemp("dev"), "dev")
    (stack.project / "front.js").write_text("// first\n")
    with (stack.project / "invoke.yaml").open("a") as file:
        file.write(FRONT)
    running = Running(stack, "--workers", "2")
    try:
        running.wait_ready()
        name, password = ADMIN.split(":")
        more = {"DJANGO_SUPERUSER_PASSWORD": password}
        stack.manage("createsuperuser", "--noinput", "--username", name, "--email", "a@example.org", env=more)
        yield running
    finally:
        running.stop()
        remove(stack)


def asked(dev: Running, path: str) -> str:
    """The text at an address."""
    return httpx.get(f"{url(dev)}{path}", trust_env=False).text


def edited(dev: Running) -> str:
    """The answer of the edited address; empty while the site restarts."""
    try:
        return httpx.get(f"{url(dev)}/edited", trust_env=False, verify=False).text
    except httpx.TransportError:
        return ""


def url(dev: Running) -> str:
    return f"http://127.0.0.1:{dev.stack.port}"


def test_the_acceptance_suite_passes(dev: Running) -> None:
    dev.stack.accept(url(dev))


def test_everything_is_open_to_this_machine_alone(dev: Running) -> None:
    ports = [line for name in dev.stack.containers() for line in docker("port", name, check=False).splitlines()]
    assert len(ports) == 3
    assert all(re.search(r"-> 127\.0\.0\.1:\d+$", line) for line in ports)


def test_an_edit_of_a_view_and_of_a_task_shows_within_seconds(dev: Running) -> None:
    dev.stack.edit("site/mysite/urls.py", *demonstration.EDITED)
    dev.stack.edit("site/polls/tasks.py", "is no longer open", "has been edited")

    wait_until(lambda: edited(dev) == "edited\n", 15, "the view is the new one")
    send = "from polls.tasks import write_export as w; from uuid import uuid4; w.delay(str(uuid4()))"
    dev.stack.shell(send)
    wait_until(lambda: "has been edited" in dev.output, 15, "the task is the new one")
    assert re.search(r"celery_beat-1 +\| .*changed; restarting", dev.output)


def test_the_front_end_is_built_once_and_again_by_its_watcher(dev: Running) -> None:
    assert asked(dev, "/static/dist/front.js") == "// first\n"
    (dev.stack.project / "front.js").write_text("// second\n")
    wait_until(lambda: asked(dev, "/static/dist/front.js") == "// second\n", 15, "the watcher has built it")
    assert (dev.stack.project / "site/polls/static/dist/front.js").stat().st_uid == os.getuid()


def test_manage_runs_in_the_container_and_its_files_are_ours(dev: Running) -> None:
    dev.stack.edit("site/polls/models.py", "class Choice(", "class Extra(models.Model):\n    pass\n\n\nclass Choice(")
    result = dev.stack.must("manage", "--", "makemigrations", "polls", "--name", "extra")
    assert "Create model Extra" in result.stdout
    (made,) = (dev.stack.project / "site/polls/migrations").glob("*_extra.py")
    assert made.stat().st_uid == os.getuid()


def test_a_changed_lock_is_built_and_started_by_itself(dev: Running) -> None:
    def ids() -> dict[str, str]:
        return {name: docker("inspect", "-f", "{{.Id}}", name, check=False).strip() for name in dev.stack.containers()}

    before = ids()
    lock = dev.stack.project / "requirements" / "dev.txt"
    lock.write_text(lock.read_text() + "# a comment is a change\n")
    wait_until(
        lambda: len(set(ids().values()) - set(before.values())) == 4, 120, "web, beat and both workers are others"
    )
    assert set(ids()) == set(before)
    wait_until(lambda: bool(edited(dev)), 60, "it serves")


def test_ctrl_c_stops_all_and_keeps_the_data(dev: Running) -> None:
    assert dev.stop() in (0, 130)
    assert not dev.stack.containers()
    assert "All stopped" in dev.output
    assert f"{dev.stack.name}_postgres" in docker("volume", "ls", "-q")


def test_a_port_in_use_is_one_line(dev: Running) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = one_line(dev.stack.invoke("dev", "--port", str(port)))
    assert line == f"port {port} is in use by another program: stop it, or set PORT in .env"


def test_a_dry_run_writes_nothing_and_shows_no_secret(tmp_path: Path) -> None:
    project = support.copy_project(tmp_path / "project")
    (project / ".venvs").symlink_to(support.ROOT / ".venvs")
    for kind in ("dev", "prod"):
        result = support.invoke(project, kind, "--dry-run")
        assert result.code == 0, result.stderr
        assert "docker buildx build" in result.stdout
        assert not re.search(r"(KEY|PASSWORD)=\S", result.stdout)
    assert not (project / ".env").exists()
    assert not (project / ".secrets").exists()
