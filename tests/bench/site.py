"""The site on gunicorn with PostgreSQL, as in production: requests a second and latency; exports; tasks.

Needs wrk and PostgreSQL (`sudo apt install wrk postgresql`), and the prod environment (`invoke venv --env prod`).
"""

import re
import secrets
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.core import running
from deploy.core.shell import Run, run
from tests import demonstration
from tests.figures import Figures
from tests.rig import postgres
from tests.support import ROOT, environment, wait_until

BIN = ROOT / ".venvs" / "prod" / "bin"
SITE = ROOT / "site"
#: Seconds of a measurement, the connections that wrk opens from one thread, and how often each is repeated.
SECONDS, CONNECTIONS, TURNS = 8, 16, 3
VOTES, TASKS = 1_000_000, 500

LUA = """
wrk.method = "POST"
wrk.body = "csrfmiddlewaretoken={token}&choice={choice}"
wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
wrk.headers["Cookie"] = "csrftoken={token}"
"""

QUERIES = """
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.db import connection
from polls.models import Choice, Question
from polls.services import create_poll
Choice.objects.count()
for number in (2, 20):
    poll = create_poll(f'{number} choices', [str(n) for n in range(number)])
    for name, path in (('list', '/'), ('poll', f'/{poll.pk}/'), ('results', f'/{poll.pk}/results/')):
        with CaptureQueriesContext(connection) as captured:
            Client(headers={'host': 'localhost'}).get(path)
        print(name, number, len(captured))
"""

FILL = f"""
from django.db import connection
from polls.models import Choice
choice = Choice.objects.first()
with connection.cursor() as cursor:
    cursor.execute('INSERT INTO polls_vote (question_id, choice_id, visitor, cast_at) SELECT %s, %s, gen_random_uuid(),'
                   ' now() FROM generate_series(1, {VOTES})', [choice.question_id, choice.pk])
"""

EXPORT = """
import time
from polls.models import Export
from polls.tasks import write_export
export = Export.objects.create(owner='bench', slot=0)
began = time.perf_counter()
rows = write_export(str(export.pk))
print(rows / (time.perf_counter() - began))
"""

SEND = f"""
import time
from uuid import uuid4
from django_celery_results.models import TaskResult
from polls.tasks import write_export
began = time.perf_counter()
for _ in range({TASKS}):
    write_export.apply_async(args=(str(uuid4()),))
while TaskResult.objects.filter(status='SUCCESS').count() < {TASKS}:
    time.sleep(0.02)
print({TASKS} / (time.perf_counter() - began))
"""


def settings(url: str, folder: Path) -> dict[str, str]:
    """The environment of production, on this machine alone."""
    return environment(
        **{**demonstration.SITE, "PORTICO_MODE": "production", "PORTICO_SETTINGS": "mysite.settings.production"},
        SECRET_KEY=secrets.token_urlsafe(50),
        ALLOWED_HOSTS="localhost,127.0.0.1",
        HTTPS_ONLY="0",
        DATABASE_URL=url,
        CELERY_BROKER_URL="memory://",
        STATIC_ROOT=str(folder / "static"),
        PROTECTED_ROOT=str(folder / "protected"),
        LOG_LEVEL="WARNING",
    )


def manage(env: dict[str, str], *words: str) -> str:
    return run(Run([str(BIN / "python"), "manage.py", *words], env, cwd=SITE), capture=True).stdout


def shell(env: dict[str, str], code: str) -> str:
    return manage(env, "shell", "-v0", "-c", code).strip()


@contextmanager
def gunicorn(env: dict[str, str]) -> Iterator[str]:
    """The site as a server runs it: two processes of four threads; yields its base URL."""
    url = f"127.0.0.1:{running.free_port()}"
    options = [
        "--bind",
        url,
        "--workers",
        "2",
        "--threads",
        "4",
        "--worker-tmp-dir",
        "/dev/shm",
        "--log-level",
        "warning",
    ]
    command = [str(BIN / "gunicorn"), *options, "--no-control-socket", "mysite.wsgi"]
    with subprocess.Popen(command, env=env, cwd=SITE) as process:
        try:
            wait_until(lambda: not running.complaint(f"http://{url}/healthz"), 30, "gunicorn answers")
            yield f"http://{url}"
        finally:
            process.terminate()


def load(url: str, script: Path | None = None) -> tuple[float, str]:
    """One measurement by wrk: requests a second; the 99th percentile, and what failed."""
    options = ["-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--latency", *(["-s", str(script)] if script else [])]
    said = run(Run(["wrk", *options, url]), capture=True).stdout
    rate, p99 = (re.search(pattern, said) for pattern in (r"Requests/sec:\s+([\d.]+)", r"99%\s+(\S+)"))
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    assert rate
    assert p99
    return float(rate[1]), f"p99 {p99[1]}, {failed[1] if failed else 0} failed"


def tasks(env: dict[str, str], folder: Path) -> float:
    """Tasks a second from sending the first to the result of the last, on the embedded broker and database."""
    env = {**env, **demonstration.SITE, "RUN_DIR": str(folder / "run"), "READY_FILE": str(folder / "ready")}
    env = {**env, "DATABASE_URL": f"sqlite:///{folder}/db.sqlite3", "CELERY_BROKER_URL": "filesystem://"}
    manage(env, "migrate", "--verbosity", "0")
    command = [str(BIN / "celery"), "--quiet", "-A", "portico_site.celery:app", "worker", "-c", "2", "-l", "warning"]
    with subprocess.Popen(command, env=env, cwd=SITE, stderr=subprocess.DEVNULL) as worker:
        try:
            wait_until((folder / "ready").exists, 30, "the worker is ready")
            return float(shell(env, SEND))
        finally:
            worker.terminate()


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch, postgres.server("shared_buffers=256MB") as url:
        folder = Path(scratch)
        env = settings(url, folder)
        for words in (["migrate"], ["load_sample_polls"], ["collectstatic", "--noinput"]):
            manage(env, *words, "--verbosity", "0")
        figures = Figures("site", ".venvs/test/bin/python -m tests.bench.site")
        for line in shell(env, QUERIES).splitlines():
            page, choices, queries = line.split()
            figures.note(f"queries of the page {page}, of a poll with {choices} choices", queries)
        poll, choice = shell(
            env, "from polls.models import *; c = Choice.objects.first(); print(c.question_id, c.pk)"
        ).split()
        script = folder / "vote.lua"
        script.write_text(LUA.format(token=secrets.token_hex(16), choice=choice))
        with gunicorn(env) as base:
            pages: dict[str, tuple[str, Path | None]] = {
                "list": (f"{base}/", None),
                "vote, each of a new visitor": (f"{base}/{poll}/", script),
                "results": (f"{base}/{poll}/results/", None),
            }
            for name, (page, post) in pages.items():
                measured = [load(page, post) for _ in range(TURNS)]
                figures.add(name, [rate for rate, _ in measured], "requests/s", rival="; ".join(p for _, p in measured))
        shell(env, FILL)
        figures.add(f"export of {VOTES} votes", float(shell(env, EXPORT)), "rows/s")
        time.sleep(1)
        figures.add(f"{TASKS} tasks on the embedded broker: sent, done, stored", tasks(env, folder), "tasks/s")
        figures.save()


if __name__ == "__main__":
    main()
