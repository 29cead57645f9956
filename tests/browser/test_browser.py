"""A user's actions in a real browser, with and without scripts."""

import csv
import re
import urllib.request
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser.conftest import VOTES, NewBrowser, addresses, complaints
from tests.rig.visitor import ADMIN, Visitor
from tests.support import wait_until


def one(browser: webdriver.Chrome, selector: str) -> webdriver.remote.webelement.WebElement:
    return browser.find_element(By.CSS_SELECTOR, selector)


def vote(browser: webdriver.Chrome, site: str, answer: int) -> str:
    """Vote in the first poll of the list, which has few votes; returns the poll's path."""
    browser.get(site)
    one(browser, ".polls a:not(.quiet)").click()
    browser.find_elements(By.CSS_SELECTOR, "[type=radio]")[answer].click()
    path = browser.current_url.removeprefix(site)
    one(browser, "main button").click()
    assert "Your vote is counted." in one(browser, ".message").text
    return path


def start_export(browser: webdriver.Chrome, site: str) -> None:
    browser.get(f"{site}/exports/")
    one(browser, "main button").click()
    one(browser, "#export")


def fetch(browser: webdriver.Chrome, folder: Path) -> list[list[str]]:
    """Click the download link and return the downloaded file."""
    one(browser, "#download").click()
    wait_until(lambda: bool(list(folder.glob("*.csv"))), 20, "the file has arrived")
    (file,) = folder.glob("*.csv")
    assert re.match(r"Votes \u2013 all polls, \d{4}-\d\d-\d\d \d\d\.\d\d\.csv", file.name)
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.reader(lines))


def answer_of(browser: webdriver.Chrome) -> tuple[str, str]:
    """The poll, and the answer that the page marks as the visitor's own."""
    row = one(browser, ".own").find_element(By.XPATH, "..").text.removesuffix(" (your vote)")
    return one(browser, "h1").text, row


def status_of(browser: webdriver.Chrome, url: str) -> int:
    """The status code for a URL in this browser."""
    cookies = "; ".join(f"{cookie['name']}={cookie['value']}" for cookie in browser.get_cookies())
    request = urllib.request.Request(url, headers={"Cookie": cookies})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoError())
    with opener.open(request) as response:
        return int(response.status)


class NoError(urllib.request.HTTPErrorProcessor):
    def http_response(self, request: object, response: object) -> object:
        return response


def test_a_person_votes_watches_exports_and_downloads(site: str, new_browser: NewBrowser, tmp_path: Path) -> None:
    browser = new_browser()
    path = vote(browser, site, 0)
    poll, answer = answer_of(browser)

    # The bars move while others vote, without a reload.
    total = int(one(browser, "#total").text)
    before = one(browser, "tr:last-child rect").get_attribute("width")
    other = Visitor(site)
    choice = re.findall(r'name="choice" value="(\d+)"', other.get(path).text)[-1]
    other.post(path, choice=choice)
    wait_until(lambda: int(one(browser, "#total").text) == total + 1, 10, "the total has risen")
    assert one(browser, "tr:last-child rect").get_attribute("width") != before

    start_export(browser, site)
    page, seen = browser.current_url, set()
    download = f"{page}download"

    def done() -> bool:
        seen.add(float(one(browser, "progress").get_attribute("value") or 0))
        return one(browser, "#export").get_attribute("data-state") == "done"

    wait_until(done, 60, "the export is done")
    assert len(seen) > 2, f"the bar did not move: {seen}"
    assert one(browser, "progress").get_attribute("value") == one(browser, "progress").get_attribute("max")
    rows = fetch(browser, tmp_path / "profile0" / "downloads")
    assert len(rows) - 1 > VOTES
    assert [poll, answer] in [row[2:] for row in rows]
    assert not complaints(browser)
    strangers = {url for url in addresses(browser) if not url.startswith((site, "data:", "chrome"))}
    assert not strangers

    second = new_browser()
    vote(second, site, 1)
    for url in (page, download):
        second.get(url)
        assert status_of(second, url) == 404
    assert status_of(browser, download) == 200


def test_the_page_of_what_runs_keeps_itself_up_to_date(site: str, new_browser: NewBrowser) -> None:
    browser = new_browser()
    browser.get(f"{site}/stack/")
    before = one(browser, "#at").text
    assert one(browser, "#database").get_attribute("data-state") == "ok"
    wait_until(
        lambda: browser.execute_script("return document.getElementById('at').textContent") != before, 20, "it moves"
    )
    assert not complaints(browser)


def test_without_scripts_all_of_it_still_works(site: str, new_browser: NewBrowser, tmp_path: Path) -> None:
    browser = new_browser(javascript=False)
    browser.get(site)
    vote(browser, site, 0)
    poll, answer = answer_of(browser)
    assert one(browser, "tr:first-child rect").get_attribute("width") != "0%"
    start_export(browser, site)
    wait_until(lambda: "Ready: " in browser.page_source, 60, "the page has refreshed itself to the end")
    rows = fetch(browser, tmp_path / "profile0" / "downloads")
    assert [poll, answer] in [row[2:] for row in rows]


def test_the_keyboard_is_enough(site: str, new_browser: NewBrowser) -> None:
    browser = new_browser()
    browser.get(site)
    body = one(browser, "body")
    body.send_keys(Keys.TAB)
    skip = browser.switch_to.active_element
    assert skip.text == "Skip to content"
    assert skip.size["width"] > 50  # it is visible on focus
    browser.get(browser.find_elements(By.CSS_SELECTOR, ".polls a:not(.quiet)")[0].get_attribute("href") or "")
    for _ in range(20):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        if browser.switch_to.active_element.get_attribute("type") == "radio":
            break
    browser.switch_to.active_element.send_keys(Keys.SPACE)
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert "/results/" in browser.current_url


def test_the_admin_works_under_the_strict_policy(site: str, new_browser: NewBrowser) -> None:
    browser = new_browser()
    name, password = ADMIN.split(":")
    browser.get(f"{site}/admin/login/?next=/admin/polls/question/add/")
    one(browser, "#id_username").send_keys(name)
    one(browser, "#id_password").send_keys(password + Keys.ENTER)
    wait_until(lambda: "/add/" in browser.current_url, 10, "signed in")
    one(browser, ".add-row a").click()  # added by the admin's script
    assert len(browser.find_elements(By.CSS_SELECTOR, "tr.dynamic-choices")) == 3
    for page in ("django_celery_beat/periodictask/", "django_celery_results/taskresult/", "polls/export/"):
        browser.get(f"{site}/admin/{page}")
    assert not complaints(browser)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(360, 740), (1280, 800)])
def test_no_page_is_wider_than_its_screen(
    site: str, new_browser: NewBrowser, width: int, height: int, scheme: str, tmp_path: Path
) -> None:
    browser = new_browser()
    vote(browser, site, 0)
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    results = browser.current_url
    for name, url in {
        "list": site,
        "poll": results.removesuffix("results/"),
        "results": results,
        "exports": f"{site}/exports/",
        "stack": f"{site}/stack/",
        "search": f"{site}/?q=nothing+like+it",
    }.items():
        browser.get(url)
        browser.save_screenshot(str(tmp_path / f"{name}-{width}-{scheme}.png"))
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        ground, text = browser.execute_script(
            "const style = getComputedStyle(document.body); return [style.backgroundColor, style.color]"
        )
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
        assert ground != text
