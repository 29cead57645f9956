"""A simulated person with a browser, for suites that use a site."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests import support

ADMIN = "acceptance:correct-horse-battery"


@dataclass
class Visitor:
    """A browser without scripts: follows nothing by itself, keeps its cookies, fills in forms."""

    base_url: str
    ca: str = ""
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        # Reading all authorities takes 50 ms of processor time, for each of many visitors.
        plain = self.base_url.startswith("http://")
        verify = ssl.create_default_context(cafile=self.ca) if self.ca else not plain
        self.http = httpx.Client(base_url=self.base_url, timeout=30, trust_env=False, verify=verify)

    def get(self, path: str) -> httpx.Response:
        return self.http.get(path)

    def post(self, path: str, form_on: str | None = None, **data: str) -> httpx.Response:
        """Send the form that is on a page (by default the page itself), with its CSRF token."""
        page = self.http.get(form_on or path).text
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert token, f"no form on {form_on or path}"
        headers = {"Referer": f"{self.base_url}{form_on or path}"}
        return self.http.post(path, data={"csrfmiddlewaretoken": token[1], **data}, headers=headers)

    def vote(self) -> None:
        """Vote for the first answer of the first poll; the vote must be accepted."""
        poll = re.search(r'href="(/\d+/)"', self.get("/").text)
        assert poll
        choice = re.search(r'name="choice" value="(\d+)"', self.get(poll[1]).text)
        assert choice
        assert self.post(poll[1], choice=choice[1]).status_code == 302


def create_admin(run_folder: Path) -> None:
    """Create an administrator of the native site with this run folder."""
    name, password = ADMIN.split(":")
    env = {
        "INVOKE_PROJECT_RUN": str(run_folder),
        "DJANGO_SUPERUSER_PASSWORD": password,
        "DJANGO_SUPERUSER_USERNAME": name,
        "DJANGO_SUPERUSER_EMAIL": "admin@example.org",
    }
    result = support.invoke(support.ROOT, "manage", "--", "createsuperuser", "--noinput", env=env)
    assert result.code == 0, result.stderr
