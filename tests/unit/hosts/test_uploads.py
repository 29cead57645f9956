"""Uploads on hosts: a folder outside of releases, on the one host that writes them or on a share; else refused."""

from __future__ import annotations

import re
from dataclasses import replace

from deploy.hosts.layout import Layout
from deploy.hosts.release.release import site_environment
from deploy.hosts.setup.desired import desired
from deploy.hosts.setup.diff import Desired
from deploy.hosts.setup.refusal import uploads_apart
from deploy.hosts.setup.site import Learned
from deploy.project.config import Media, Project
from tests.support import ROOT
from tests.unit.hosts.test_setup import ACCESS, PROJECT, environment, files, host, site

ONE = """\
domain: shop.example
secrets: {SECRET_KEY: env:KEY}
hosts: {all1: {address: 203.0.113.1, roles: [web, worker, beat, database, broker]}}
"""


def uploading(media: Media) -> Project:
    project = replace(PROJECT, media=media)
    vars(project)["media_url"] = "/media/" if media else ""  # what detection finds
    return project


def wanted(media: Media) -> Desired:
    here = replace(site(ONE), project=uploading(media))
    return desired(here, host(here, "all1"), Learned(access=ACCESS))  # type: ignore[arg-type]


def test_uploads_are_outside_of_releases_and_nginx_reads_them() -> None:
    made = wanted("local")
    folder = next(each for each in made.folders if each.path == "/srv/shop-x/media")
    assert folder.rights == ("shop-x", "www-data", "2750")
    nginx = files(made)
    assert "location ^~ /media/ {" in nginx["/etc/nginx/shop-x/server.conf"].text
    assert "map $host $shop_x_media_root { default /srv/shop-x/media; }" in nginx["/etc/nginx/shop-x/http.conf"].text
    assert "ReadWritePaths=-/srv/shop-x/media" in next(
        text.text for path, text in nginx.items() if path.endswith("/sandbox")
    )
    variables = site_environment(
        uploading("local"), environment(ONE), environment(ONE).hosts[0], "20260101-000000-abcdef0", 2
    )
    assert (variables["MEDIA_ROOT"], variables["MEDIA_URL"]) == (str(Layout.of("shop", "x").media), "/media/")
    assert "/srv/shop-x/media" not in [each.path for each in wanted("").folders]


def test_hosts_that_would_each_keep_their_own_are_refused_with_the_remedy() -> None:
    [line] = uploads_apart(environment(), "local")
    assert line.startswith(
        "deploy/environments/x.yaml: media: true, but each of web1, web2, jobs1 would keep uploads of its own"
    )
    assert "`media: shared`" in line
    assert "django-storages" in line
    assert uploads_apart(environment(), "shared") == uploads_apart(environment(ONE), "local") == []


def test_a_share_is_the_administrators_and_a_deploy_asks_whether_it_is_there() -> None:
    assert "/srv/shop-x/media" not in [each.path for each in wanted("shared").folders]
    variables = site_environment(
        uploading("shared"), environment(), environment().hosts[0], "20260101-000000-abcdef0", 2
    )
    assert variables["PORTICO_SHARED"] == "/srv/shop-x/media"
    ship = (ROOT / "deploy/hosts/scripts/ship.sh").read_text()
    assert re.search(r"PORTICO_SHARED=.*\n(?:.*\n){1,4}.*mountpoint -q", ship)
