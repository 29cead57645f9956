"""gunicorn serves the WSGI application by threads, and that of ASGI by uvicorn's worker."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from portico_site import overlay

CONFIGURATION = Path(overlay.__file__).with_name("gunicorn_conf.py")


@pytest.mark.parametrize(
    ("asgi", "expected"),
    [
        ("", ("shop.wsgi:application", "gthread")),
        ("shop.asgi:application", ("shop.asgi:application", "uvicorn_worker.UvicornWorker")),
    ],
)
def test_an_asynchronous_site_has_its_own_worker(
    asgi: str, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTICO_WSGI", "shop.wsgi:application")
    monkeypatch.setenv("PORTICO_ASGI", asgi)
    said = runpy.run_path(str(CONFIGURATION))
    assert (said["wsgi_app"], said["worker_class"]) == expected
    assert said["preload_app"], "a release that cannot boot accepts no request"
