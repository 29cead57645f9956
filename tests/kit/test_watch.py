"""A web process is freed from a database that says nothing, and from threads that hang."""

import json
import os
import subprocess
import sys

import pytest

from tests import support
from tests.demonstration import GOOD
from tests.rig import postgres

#: A web process in small: a middleware around a view that asks the database; its server is stopped meanwhile.
PROCESS = """
import json, os, signal, threading, time
from pathlib import Path

import django
django.setup()
from django.db import Error, close_old_connections, connection
from django.http import HttpResponse
from django.test import RequestFactory
from portico_site import health, watch

watch.LOOK_SECONDS, watch.SUSPECT_SECONDS, watch.UNANSWERED_SECONDS = 0.1, 0.5, 0.5
health.KEPT_SECONDS = 0.1
watch.start(2)

def view(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return HttpResponse(str(cursor.fetchone()[0]))

def answered(path="/"):
    begun = time.monotonic()
    close_old_connections()  # as Django does between requests
    request = RequestFactory().get(path)
    middleware = health.HealthMiddleware(view)
    try:
        response = middleware(request)
    except Error as error:  # as Django's own handler does
        response = middleware.process_exception(request, error) or HttpResponse(status=500)
    return response.status_code, response.content.decode(), time.monotonic() - begun

said = {"before": answered()}
backend = int(said["before"][1])
server = int(Path(f"/proc/{backend}/stat").read_text().rsplit(")", 1)[1].split()[1])
processes = [server, *(int(each) for each in Path(f"/proc/{server}/task/{server}/children").read_text().split())]
for each in processes:
    os.kill(each, signal.SIGSTOP)
try:
    waiting = []
    threads = [threading.Thread(target=lambda: waiting.append(answered())) for _ in range(1)]
    for each in threads:
        each.start()
    said["waiting"] = answered()
    for each in threads:
        each.join()
    said["other"] = waiting[0]
    said["later"] = answered()
    said["alive"] = answered("/healthz")
    health.ANSWER_SECONDS = 0.3
    said["ready"] = answered("/readyz")
finally:
    for each in processes:
        os.kill(each, signal.SIGCONT)
end = time.monotonic() + 30
while (after := answered())[0] != 200 and time.monotonic() < end:
    time.sleep(0.1)
said["after"] = after
print(json.dumps(said), flush=True)
os._exit(0)
"""
HUNG = """
import threading, time
import django
django.setup()
from portico_site import health, watch
watch.LOOK_SECONDS, watch.HUNG_SECONDS, watch.SUSPECT_SECONDS = 0.05, 0.3, 99
watch.start(2)
for _ in range({threads}):
    request = type("Request", (), {{"path_info": "/"}})
    threading.Thread(target=health.HealthMiddleware(lambda _: time.sleep(2)), args=[request]).start()
time.sleep(1.5)
"""


def run(code: str, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**GOOD, "PORTICO_ROLE": "web", "PATH": os.environ["PATH"], **env},
        cwd=support.ROOT / "site",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_database_that_says_nothing_keeps_no_request_and_when_it_answers_so_does_the_site() -> None:
    if postgres.programs() is None:
        pytest.skip("there is no PostgreSQL server here: `sudo apt install postgresql`")
    with postgres.server("fsync=off") as url:
        done = run(PROCESS, DATABASE_URL=url)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    codes = {name: code for name, (code, _, _) in said.items()}
    assert codes == {
        "before": 200, "waiting": 503, "other": 503, "later": 503, "alive": 200, "ready": 503, "after": 200,
    }  # fmt: skip
    assert "The database does not answer" in said["later"][1]
    assert "no answer" in said["ready"][1]
    assert done.stderr.count("its connections are cut") == 1


@pytest.mark.parametrize(("threads", "code"), [(2, 1), (1, 0)])
def test_a_process_all_of_whose_threads_hang_ends(threads: int, code: int) -> None:
    done = run(HUNG.format(threads=threads))
    assert done.returncode == code, done.stderr
    assert ("this process is replaced" in done.stderr) == bool(code)


@pytest.mark.parametrize(
    ("state", "seconds", "frozen"),
    [
        ("ok", 9.0, False),
        ("failed: OperationalError", 0.1, False),
        ("failed: OperationalError", 9.0, True),
        ("failed: no answer within 3 s", 9.0, True),
        ("failed: no answer within 3 s", 1.0, False),
    ],
)
def test_who_refuses_at_once_keeps_nobody_waiting(state: str, seconds: float, frozen: bool) -> None:
    from portico_site.watch import is_frozen

    assert is_frozen(state, seconds) == frozen
