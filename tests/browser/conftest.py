"""A real browser, and a native site with enough votes to watch."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests import support
from tests.rig.visitor import create_admin

#: Enough chunks of an export for its bar to be seen moving, at `EXPORTS_PAUSE` seconds each.
VOTES, PAUSE = 20_000, "0.4"
NewBrowser = Callable[..., webdriver.Chrome]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("browser") / "run"
    with support.Dev(support.ROOT, folder, env={"EXPORTS_PAUSE": PAUSE}) as dev:
        create_admin(folder)
        fill = (
            "from uuid import uuid4; from polls.models import *; c = Choice.objects.first();"
            f"Vote.objects.bulk_create([Vote(question=c.question, choice=c, visitor=uuid4()) for _ in range({VOTES})])"
        )
        filled = support.invoke(
            support.ROOT, "manage", "--", "shell", "-v0", "-c", fill, env={"INVOKE_PROJECT_RUN": str(folder)}
        )
        assert filled.code == 0, filled.stderr
        yield dev.url


@pytest.fixture
def new_browser(tmp_path: Path) -> Iterator[NewBrowser]:
    """Creates browsers, each with its own profile; closes all of them at the end."""
    chromium = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("there is no Chromium with its driver here: `sudo apt install chromium chromium-driver`")
    opened: list[webdriver.Chrome] = []

    def make(*, javascript: bool = True) -> webdriver.Chrome:
        profile = tmp_path / f"profile{len(opened)}"
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        flags = [
            "headless=new",
            "disable-gpu",
            "disable-background-networking",
            "disable-component-update",
            "disable-sync",
        ]
        for flag in [*flags, "no-first-run", "disable-quic", "disable-dev-shm-usage", f"user-data-dir={profile}"]:
            options.add_argument(f"--{flag}")
        if os.geteuid() == 0:
            options.add_argument("--no-sandbox")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        preferences: dict[str, Any] = {"download.default_directory": str(profile / "downloads")}
        if not javascript:
            preferences["profile.managed_default_content_settings.javascript"] = 2
        options.add_experimental_option("prefs", preferences)
        browser = webdriver.Chrome(options=options, service=Service(driver))
        browser.implicitly_wait(10)  # seconds for the next page to load
        opened.append(browser)
        return browser

    yield make
    for browser in opened:
        browser.quit()


def complaints(browser: webdriver.Chrome) -> list[str]:
    """The errors and warnings in the browser's console."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def addresses(browser: webdriver.Chrome) -> set[str]:
    """Every address that the pages have requested since the last call."""
    found = set()
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            found.add(message["params"]["request"]["url"])
    return found
