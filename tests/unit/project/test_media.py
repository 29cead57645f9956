"""Uploads: the address that nginx serves them at, who keeps them, and what a browser gets of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploy.core.errors import Failure
from deploy.project import config, media, proxy
from deploy.project.names import Names
from tests.support import ROOT
from tests.unit.project.test_config import VALUES

FRONT = proxy.Front(["a.example"], tls=False, https_port=443, trusted=[], media_url="/media/")


def address(folder: Path, setting: str) -> str:
    (folder / "shop").mkdir()
    (folder / "manage.py").write_text(
        "import django\nimport os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n"
    )
    (folder / "shop" / "__init__.py").touch()
    (folder / "shop" / "settings.py").write_text(f"import os\nINSTALLED_APPS = []\nROOT_URLCONF = 'x'\n{setting}\n")
    return media.address(folder, Names())


@pytest.mark.parametrize(
    ("setting", "path"),
    [
        ("", "/media/"),
        ("MEDIA_URL = ''", "/media/"),
        ("MEDIA_URL = 'uploads/'", "/uploads/"),
        ("MEDIA_URL = '/shop/files'", "/shop/files/"),
        ("MEDIA_URL = 'https://cdn.example.org/files/'", "/files/"),
        ("MEDIA_URL = os.environ.get('MEDIA_URL', '/pictures/')", "/pictures/"),
        ("MEDIA_URL = os.environ['MEDIA_URL']", "/media/"),
        ("MEDIA_URL = some_function()", "/media/"),
    ],
)
def test_the_address_is_the_projects_own(tmp_path: Path, setting: str, path: str) -> None:
    assert address(tmp_path, setting) == path


@pytest.mark.parametrize("url", ["/static/media/", "/protected/", "/a b/", "/me;dia/", "/../", "/m{x}/"])
def test_an_address_that_cannot_be_served_is_named(tmp_path: Path, url: str) -> None:
    with pytest.raises(Failure, match=r"settings.py:4: MEDIA_URL is .*choose a path of its own, such as /media/"):
        address(tmp_path, f"MEDIA_URL = {url!r}")


@pytest.mark.parametrize(("said", "kept"), [(True, "local"), (False, ""), (None, ""), ("shared", "shared")])
def test_who_keeps_uploads(said: object, kept: str) -> None:
    assert config.load(ROOT, {**VALUES, "media": said}).media == kept


def test_a_mistake_about_uploads_is_named() -> None:
    with pytest.raises(Failure, match=r"project\.media is 'yes', but must be true, false or shared"):
        config.load(ROOT, {**VALUES, "media": "yes"})
    with pytest.raises(Failure, match=r"project\.upload_megabytes is '0', but must be a number from 1 to 4096"):
        config.load(ROOT, {**VALUES, "upload_megabytes": "0"})


@pytest.mark.parametrize(
    ("kind", "is_shown"),
    [
        *[(kind, True) for kind in ("image/png", "image/jpeg", "audio/mpeg", "video/mp4", "image/webp; charset=x")],
        *[(kind, False) for kind in ("text/html", "image/svg+xml", "text/xml", "application/xhtml+xml", "text/css")],
        *[(kind, False) for kind in ("application/pdf", "application/octet-stream", "image/pngx", "text/plain", "")],
    ],
)
def test_a_browser_shows_only_what_it_does_not_run(kind: str, is_shown: bool) -> None:
    assert bool(re.match(proxy.SHOWN.removeprefix("~"), kind)) == is_shown


def test_uploads_of_another_machine_are_asked_for_without_the_visitors_cookies() -> None:
    text = proxy.media(FRONT, elsewhere=True)
    assert "try_files $uri @media_elsewhere;" in text
    asked = text[text.index("location @media_elsewhere") :]
    for line in ('proxy_set_header Cookie "";', "Content-Disposition $media_disposition;", "nosniff always;"):
        assert line in asked
    assert "location /media/ {" in proxy.peers(proxy.Front(["a"], False, 443, [], peers="nginx", media_url="/media/"))
    assert "try_files $uri =404;" in proxy.media(FRONT, elsewhere=False)


def test_without_uploads_nothing_is_served() -> None:
    none = proxy.Front(["a.example"], tls=False, https_port=443, trusted=[], peers="nginx")
    assert "media" not in "".join(proxy.runtime_files(none, proxy.ALL).values())


def test_the_largest_body_is_the_projects_decision() -> None:
    front = proxy.Front(["a.example"], tls=False, https_port=443, trusted=[], upload_megabytes=50)
    assert "client_max_body_size 50m;" in proxy.runtime_files(front, proxy.ALL)["server.conf"]
