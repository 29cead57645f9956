"""A project's own module is imported in each process that works, and only where invoke.yaml names it."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from celery.signals import beat_init, worker_init, worker_process_init
from portico_site import celery as kit  # noqa: F401 - connects the signals
from portico_site import metrics, observe


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "seen_by.py").write_text("import os\nSEEN = os.getpid()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(observe.VARIABLE, "seen_by")
    monkeypatch.delitem(sys.modules, "seen_by", raising=False)
    return "seen_by"


def test_nothing_is_imported_without_a_name(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(observe.VARIABLE)
    observe.begin()
    assert module not in sys.modules


def test_celery_s_pool_and_beat_begin_with_it() -> None:
    for signal in (worker_process_init, beat_init):
        assert observe.begin in [receiver() for _, receiver in signal.receivers]
    assert observe.begin_without_processes in [receiver() for _, receiver in worker_init.receivers]


@pytest.mark.parametrize(
    ("pool", "imported"),
    [("celery.concurrency.prefork.TaskPool", False), ("celery.concurrency.thread.TaskPool", True)],
)
def test_a_worker_whose_tasks_are_threads_begins_with_it_itself(module: str, pool: str, imported: bool) -> None:
    observe.begin_without_processes(SimpleNamespace(pool_cls=pool))
    assert (module in sys.modules) is imported


@pytest.mark.parametrize("fails", [False, True])
def test_each_process_of_gunicorn_imports_it_after_its_fork(
    module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fails: bool
) -> None:
    """And one whose module fails does not serve: the release is refused."""
    if fails:
        (tmp_path / "seen_by.py").write_text("raise OSError('no such host')\n")
    monkeypatch.setenv("PORTICO_METRICS", "1")
    monkeypatch.setattr(metrics, "board", metrics.Board(2))
    said, process = runpy.run_path(str(Path(observe.__file__).with_name("gunicorn_conf.py"))), object()
    said["pre_fork"](None, process)
    pid = os.fork()
    if pid == 0:
        try:
            said["post_fork"](None, process)
            os._exit(0 if os.getpid() == sys.modules[module].SEEN else 1)
        except OSError:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == (2 if fails else 0)
    assert module not in sys.modules, "the master stays without it"
    said["child_exit"](None, process)
    assert said["slots"] == {}
