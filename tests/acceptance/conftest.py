"""The site that the suite asks: the one named by --base-url, else a native one started for it."""

import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests import support

ADMIN = "acceptance:correct-horse-battery"


@dataclass
class Visitor:
    """A browser without scripts: follows nothing by itself, keeps its cookies, fills in forms."""

    base_url: str
    ca: str = ""
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        verify = ssl.create_default_context(cafile=self.ca) if self.ca else True
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
        """Vote for the first answer of the first poll, and be accepted."""
        poll = re.search(r'href="(/\d+/)"', self.get("/").text)
        assert poll
        choice = re.search(r'name="choice" value="(\d+)"', self.get(poll[1]).text)
        assert choice
        assert self.post(poll[1], choice=choice[1]).status_code == 302


@pytest.fixture(scope="session")
def base_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if given := request.config.getoption("--base-url"):
        yield given.rstrip("/")
        return
    folder = tmp_path_factory.mktemp("acceptance") / "run"
    with support.Dev(support.ROOT, folder) as dev:
        create_admin(folder)
        yield dev.url


def create_admin(run_folder: Path) -> None:
    name, password = ADMIN.split(":")
    env = {
        "INVOKE_PROJECT_RUN": str(run_folder),
        "DJANGO_SUPERUSER_PASSWORD": password,
        "DJANGO_SUPERUSER_USERNAME": name,
        "DJANGO_SUPERUSER_EMAIL": "admin@example.org",
    }
    result = support.invoke(support.ROOT, "manage", "--", "createsuperuser", "--noinput", env=env)
    assert result.code == 0, result.stderr


@pytest.fixture
def visitor(base_url: str, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    visitor = Visitor(base_url, request.config.getoption("--ca"))
    yield visitor
    visitor.http.close()


@pytest.fixture
def another(base_url: str, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    """A second browser, which shares nothing with the first."""
    visitor = Visitor(base_url, request.config.getoption("--ca"))
    yield visitor
    visitor.http.close()


@pytest.fixture
def admin(request: pytest.FixtureRequest, base_url: str) -> tuple[str, str]:
    """Name and password of an administrator."""
    given = request.config.getoption("--admin")
    if request.config.getoption("--base-url") and not given:
        pytest.skip("--admin NAME:PASSWORD is not given for this site")
    name, _, password = (given or ADMIN).partition(":")
    return name, password
