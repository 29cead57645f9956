"""What unit tests of several rooms share."""

import importlib
import signal
from collections.abc import Iterator
from types import ModuleType

import pytest

from deploy import bootstrap
from tests.support import ROOT


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """tasks.py, without a restart in the tools environment; signal handlers are restored."""
    monkeypatch.setattr(bootstrap, "enter", lambda **_: None)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.syspath_prepend(ROOT)
    yield importlib.import_module("tasks")
    for number, handler in before.items():
        signal.signal(number, handler)
