"""The images and the production stack, each beside a rival in the same run, on the same machine.

Needs an engine (`tests/rig/up`) and wrk. The rival of the stack is the configuration that the project grew out of: one
nginx process, one gunicorn process that takes one request at a time, files sent by Django.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.core.shell import Run, run
from tests.bench.site import LUA
from tests.docker.conftest import Stack, new_stack, remove
from tests.figures import Figures, shown
from tests.rig.engine import docker
from tests.rig.load import Load
from tests.rig.visitor import Visitor
from tests.support import wait_until

#: Seconds of each measurement, connections, and how often each is repeated, in turns.
SECONDS, CONNECTIONS, TURNS = 6, 16, 3
DOWNLOAD = 100 * 1024 * 1024
TASKS = 1000

WAITING = """
local n = 0
request = function()
  n = n + 1
  return wrk.format("GET", n % 50 == 0 and "/waits" or "/")
end
"""
SEND = f"""
import time
from uuid import uuid4
from django_celery_results.models import TaskResult
from polls.tasks import write_export
TaskResult.objects.all().delete()
began = time.perf_counter()
for _ in range({TASKS}):
    write_export.apply_async(args=(str(uuid4()),))
sent = time.perf_counter() - began
while TaskResult.objects.filter(status='SUCCESS').count() < {TASKS}:
    time.sleep(0.05)
print({TASKS} / sent, {TASKS} / (time.perf_counter() - began))
"""


def seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


@contextmanager
def stack(folder: Path, change: Callable[[Stack], None] = lambda _: None) -> Iterator[Stack]:
    made = new_stack(folder, "prod")
    change(made)
    try:
        made.must("prod", "--detach")
        made.fill()
        yield made
    finally:
        remove(made)


def waits(made: Stack) -> None:
    """A page that waits a second for something else, as one that asks another service does."""
    made.edit(
        "site/polls/urls.py",
        "urlpatterns = [",
        "import time\nfrom django.http import HttpResponse\nurlpatterns = [\n"
        "    path('waits', lambda request: (time.sleep(1), HttpResponse('done'))[1]),",
    )


def as_the_original(made: Stack) -> None:
    """One of everything, one request at a time, files through Django."""
    waits(made)
    made.set_env(APP_REPLICAS="1", WEB_CONCURRENCY="1")
    made.edit("deploy/kit/portico_site/gunicorn_conf.py", '"gthread"', '"sync"')
    made.edit("deploy/kit/portico_site/gunicorn_conf.py", '"WEB_THREADS", "8"', '"WEB_THREADS", "1"')
    made.edit("nginx/nginx.conf", "worker_processes auto", "worker_processes 1")
    made.edit("deploy/compose/prod.yaml", "      PROTECTED_URL: /protected/\n", "")


def wrk(
    made: Stack, path: str, script: str = "", seconds: int = SECONDS, connections: int = CONNECTIONS
) -> tuple[float, float]:
    """Requests a second and the 99th percentile in milliseconds."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        options = [
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "--latency",
            "--timeout",
            "30",
            *(["-s", file.name] if script else []),
        ]
        said = run(Run(["wrk", *options, made.url + path]), capture=True).stdout
    rate, p99 = re.search(r"Requests/sec:\s+([\d.]+)", said), re.search(r"99%\s+([\d.]+)(us|ms|s)", said)
    assert rate
    assert p99
    assert "Non-2xx" not in said, said
    return float(rate[1]), float(p99[1]) * {"us": 0.001, "ms": 1, "s": 1000}[p99[2]]


def in_turns(
    figures: Figures,
    name: str,
    ours: Callable[[], tuple[float, float]],
    rival: Callable[[], tuple[float, float]],
    goal: str = "",
    unit: str = "requests/s",
) -> None:
    pairs = [(ours(), rival()) for _ in range(TURNS)]
    mine, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
    p, q = statistics.median(x for _, x in mine), statistics.median(x for _, x in theirs)
    ratio = statistics.median(m[0] / t[0] for m, t in pairs)
    ours_shown, theirs_shown = (shown([x for x, _ in side], unit) for side in (mine, theirs))
    figures.note(name, f"{ours_shown}, p99 {p:.0f} ms", f"{theirs_shown}, p99 {q:.0f} ms", f"{ratio:.2g}", goal)


def vote_script(made: Stack) -> tuple[str, str]:
    visitor = Visitor(made.url)
    poll = re.findall(r'href="(/\d+/)"', visitor.get("/").text)[0]
    choice = re.findall(r'name="choice" value="(\d+)"', visitor.get(poll).text)[0]
    return poll, LUA.format(token=os.urandom(16).hex(), choice=choice)


def download(made: Stack) -> tuple[float, float]:
    """Megabytes a second of four downloads in turn, and the 99th percentile of the list page meanwhile, in ms."""
    visitor = Visitor(made.url)
    page = visitor.post("/exports/").headers["Location"]
    wait_until(lambda: "Ready:" in visitor.get(page).text, 60, "the export is done")
    key = page.rstrip("/").rsplit("/", 1)[1]
    docker("exec", made.containers("app")[0], "truncate", "-s", str(DOWNLOAD), f"/srv/protected/{key}.csv")
    address = visitor.get(page.replace("/exports/", "/exports/check/").rstrip("/")).json()["download"]
    took: list[float] = []

    def fetch() -> None:
        while not took or sum(took) < SECONDS:
            began = time.perf_counter()
            with visitor.http.stream("GET", address, headers={"Accept-Encoding": "identity"}) as response:
                size = sum(len(part) for part in response.iter_raw(1 << 20))
            assert size == DOWNLOAD, size
            took.append(time.perf_counter() - began)

    thread = threading.Thread(target=fetch)
    thread.start()
    _, p99 = wrk(made, "/", connections=4)
    thread.join()
    return DOWNLOAD / 1e6 / statistics.median(took), p99


def images(made: Stack) -> None:
    figures = Figures("images", ".venvs/test/bin/python -m tests.bench.containers images")
    base = re.search(r"^ARG PYTHON_IMAGE=(.+)$", (made.project / "Dockerfile").read_text(), re.MULTILINE)
    assert base
    sizes = [int(docker("image", "inspect", "-f", "{{.Size}}", name)) for name in (f"{made.name}:latest", base[1])]
    above = (sizes[0] - sizes[1]) / 1e6
    figures.add(f"image, above its base of {sizes[1] / 1e6:.0f} MB", above, "MB")

    def changed_code() -> float:
        (made.project / "site" / "polls" / "services.py").open("a").write("# changed\n")
        return seconds(lambda: made.must("build", "--tag", "bench"))

    def changed_lock() -> float:
        (made.project / "requirements" / "prod.txt").open("a").write("# changed\n")
        return seconds(lambda: made.must("build", "--tag", "bench"))

    figures.add("build after a change of code", [changed_code() for _ in range(3)], "s", goal="at most 3")
    figures.add("build after a change of a lock", changed_lock(), "s")
    docker("builder", "prune", "-af")
    figures.add("build with nothing cached", seconds(lambda: made.must("build", "--tag", "bench")), "s")
    figures.save()


def release(made: Stack) -> None:
    (made.project / "site" / "polls" / "static" / "polls" / "style.css").open("a").write("\n.x { color: red }\n")


def update(made: Stack) -> None:
    """`invoke prod` of a change beside `docker compose up -d` of one, under the same load, the image built by both."""
    figures = Figures("rollout", ".venvs/test/bin/python -m tests.bench.containers update")
    for name in ("invoke prod", "docker compose up -d", "invoke prod", "docker compose up -d"):
        release(made)
        with Load(made.port, rest=0.04) as load:
            time.sleep(1)
            began = time.perf_counter()
            if name == "invoke prod":
                made.must("prod", "--detach")
            else:
                made.must("build")
                subprocess.run(["docker", "compose", "up", "-d"], cwd=made.project, check=True, capture_output=True)
            took = time.perf_counter() - began
            time.sleep(8)
        lost = f"{len(load.failures)} of {load.total} requests failed, slowest {load.slowest:.1f} s"
        figures.note(f"an update by `{name}`", f"{took:.1f} s", lost)
        wait_until(lambda: Visitor(made.url).get("/readyz").status_code == 200, 60, "it serves")
    figures.save()


def beside_the_original(one: Path, two: Path) -> None:
    """Requests and downloads of our stack and of the original's configuration, both on the machine, in turns."""
    with stack(one, waits) as ours, stack(two, as_the_original) as original:
        figures = Figures("original", ".venvs/test/bin/python -m tests.bench.containers stack")
        in_turns(figures, "list", lambda: wrk(ours, "/"), lambda: wrk(original, "/"), "at least 1.8")
        mine, theirs = vote_script(ours), vote_script(original)
        in_turns(figures, "vote", lambda: wrk(ours, *mine), lambda: wrk(original, *theirs), "at least 1.8")
        waiting = [lambda made=made: wrk(made, "/", WAITING, 10, 32) for made in (ours, original)]
        in_turns(figures, "list, 2 % wait a second", waiting[0], waiting[1], "at least 5")
        downloads = [lambda made=made: download(made) for made in (ours, original)]
        in_turns(figures, "100 MB download; p99 of the list meanwhile", downloads[0], downloads[1], unit="MB/s")
        rates = [float(word) for word in ours.shell(SEND).split()]
        figures.add("tasks on RabbitMQ, sent", rates[0], "tasks/s")
        figures.add("tasks on RabbitMQ, sent, done and stored", rates[1], "tasks/s")
        figures.save()


def main() -> None:
    """All of it, or the parts named: stack, update, images."""
    parts = sys.argv[1:] or ["stack", "update", "images"]
    with tempfile.TemporaryDirectory() as folder:
        if "stack" in parts:
            beside_the_original(Path(folder, "ours"), Path(folder, "original"))
        if {"update", "images"} & set(parts):
            with stack(Path(folder, "alone")) as ours:
                if "update" in parts:
                    update(ours)
                if "images" in parts:
                    images(ours)


if __name__ == "__main__":
    main()
