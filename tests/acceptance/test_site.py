"""The contract of every runtime, over HTTP alone."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import pytest

from tests.acceptance.conftest import Visitor

#: Seconds for a background task to end on a slow machine.
TASK_SECONDS = 60


def first_poll(visitor: Visitor) -> str:
    """The address of a poll on the first page."""
    found = re.search(r'href="(/\d+/)"', visitor.get("/").text)
    assert found, "there is no poll on the first page"
    return found[1]


def choices(visitor: Visitor, poll: str) -> list[str]:
    return re.findall(r'name="choice" value="(\d+)"', visitor.get(poll).text)


def votes(visitor: Visitor, poll: str) -> int:
    found = re.search(r"<caption>(\d+) vote", visitor.get(f"{poll}results/").text)
    assert found
    return int(found[1])


def test_it_lives_and_is_ready(visitor: Visitor) -> None:
    assert visitor.get("/healthz").text == "ok\n"
    ready = visitor.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"database": "ok", "migrations": "ok", "broker": "ok"})


def test_a_vote_is_counted_once_for_each_browser(visitor: Visitor, another: Visitor) -> None:
    poll = first_poll(visitor)
    before = votes(visitor, poll)
    answers = choices(visitor, poll)
    for answer in answers[:2]:
        assert visitor.post(poll, choice=answer).status_code == HTTPStatus.FOUND
    assert another.post(poll, choice=answers[0]).status_code == HTTPStatus.FOUND
    assert votes(visitor, poll) == before + 2
    assert "(your vote)" in visitor.get(f"{poll}results/").text


def test_ten_browsers_at_once_give_ten_votes(base_url: str, visitor: Visitor) -> None:
    poll = first_poll(visitor)
    before = votes(visitor, poll)
    answer = choices(visitor, poll)[0]
    with ThreadPoolExecutor(10) as pool:
        codes = list(pool.map(lambda _: Visitor(base_url).post(poll, choice=answer).status_code, range(10)))
    assert codes == [HTTPStatus.FOUND] * 10
    assert votes(visitor, poll) == before + 10


def test_a_long_task_is_followed_to_its_end(visitor: Visitor, another: Visitor) -> None:
    started = visitor.post("/recount/", form_on="/")
    assert started.status_code == HTTPStatus.FOUND
    page = started.headers["Location"]
    assert "<progress" in visitor.get(page).text
    seen = []
    deadline = time.monotonic() + TASK_SECONDS
    while time.monotonic() < deadline:
        state = visitor.get(f"{page}state").json()
        seen.append((state["state"], state["done"]))
        if state["state"] in ("done", "failed"):
            break
        time.sleep(0.1)
    assert seen[-1][0] == "done", seen
    done = [number for state, number in seen if state == "running"]
    assert done == sorted(done)
    assert "All votes are counted." in visitor.get(page).text
    assert re.search(r"\d+ votes? on \d+ polls?", visitor.get("/").text)
    assert another.get(f"{page}state").status_code == HTTPStatus.NOT_FOUND


def test_static_files_are_served(visitor: Visitor) -> None:
    sheet = re.search(r'<link rel="stylesheet" href="([^"]+)"', visitor.get("/").text)
    assert sheet
    response = visitor.get(sheet[1])
    assert response.status_code == HTTPStatus.OK
    assert response.headers["Content-Type"].startswith("text/css")


def test_the_administrator_signs_in_and_others_do_not(
    visitor: Visitor, another: Visitor, admin: tuple[str, str]
) -> None:
    name, password = admin
    login = "/admin/login/?next=/admin/"
    assert visitor.get("/admin/").status_code == HTTPStatus.FOUND
    assert another.post(login, username=name, password="wrong").status_code == HTTPStatus.OK
    assert visitor.post(login, username=name, password=password).headers["Location"] == "/admin/"
    for page in ("polls/question/", "django_celery_beat/periodictask/", "django_celery_results/taskresult/"):
        assert visitor.get(f"/admin/{page}").status_code == HTTPStatus.OK
    assert another.get("/admin/").status_code == HTTPStatus.FOUND


def test_the_periodic_task_is_on_the_schedule(visitor: Visitor, admin: tuple[str, str]) -> None:
    visitor.post("/admin/login/", username=admin[0], password=admin[1])
    page = visitor.get("/admin/django_celery_beat/periodictask/").text
    assert "Refresh the summary of all polls" in page
    assert "*/5 * * * *" in page


@pytest.mark.parametrize("path", ["/99999999/", "/nothing", "/recount/not-an-id/", "/static/polls/", "/0/results/"])
def test_what_is_not_there_is_a_404(visitor: Visitor, path: str) -> None:
    assert visitor.get(path).status_code == HTTPStatus.NOT_FOUND


def test_a_form_without_its_token_is_refused(visitor: Visitor) -> None:
    poll = first_poll(visitor)
    assert visitor.http.post(poll, data={"choice": "1"}).status_code == HTTPStatus.FORBIDDEN
    assert visitor.http.post("/recount/").status_code == HTTPStatus.FORBIDDEN


def test_an_answer_that_is_none_is_refused_and_changes_nothing(visitor: Visitor) -> None:
    poll = first_poll(visitor)
    before = votes(visitor, poll)
    for answer in ("0", "x", "99999999999999999999"):
        assert visitor.post(poll, choice=answer).status_code == HTTPStatus.BAD_REQUEST
    assert votes(visitor, poll) == before


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/"), ("PUT", "/readyz"), ("GET", "/recount/"), ("POST", "/")])
def test_a_method_that_a_page_does_not_have_is_refused(visitor: Visitor, method: str, path: str) -> None:
    assert visitor.http.request(method, path).status_code in (HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.FORBIDDEN)
