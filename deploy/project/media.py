"""Uploads: the address at which a site has them."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from deploy.core.errors import Failure
from deploy.project.detect import Said, detect
from deploy.project.names import Names
from deploy.project.source.values import text

#: The address where the settings have none, or one that only a run could tell; the site is told it too.
DEFAULT = "/media/"
#: What nginx's configuration can hold without quotes, and no browser would write in another way.
_PATH = re.compile(r"/(?:[A-Za-z0-9_~-][A-Za-z0-9._~-]*/)+")
#: Addresses that are the machinery's own.
_TAKEN = ("/static/", "/protected/")


def address(root: Path, declared: Names) -> str:
    """The path of MEDIA_URL in the settings of production, with a slash at both ends.

    Of a URL with a host name (a CDN that fetches from here), only the path counts. Raises `Failure` for a path that
    is another's, or that is none.
    """
    found = detect(root, Said(**asdict(declared)))
    module = found.module(found.production)
    setting = module.get("MEDIA_URL") if module else None
    said = urlsplit(text(setting.value)).path if setting else ""
    if not setting or said in ("", "/"):
        return DEFAULT
    path = f"/{said.strip('/')}/"
    if not _PATH.fullmatch(path) or path.startswith(_TAKEN):
        raise Failure(
            f"{setting.at}: MEDIA_URL is {said!r}, below which nginx cannot serve uploads; choose a path of its own,"
            f" such as {DEFAULT}"
        )
    return path
