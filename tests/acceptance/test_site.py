"""The contract of every runtime, tested only over HTTP."""

import csv
import io
import re
import time
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

import pytest

from tests.rig.visitor import Visitor

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
    found = re.search(r'id="total">(\d+)<', visitor.get(f"{poll}results/").text)
    assert found
    return int(found[1])


def test_it_lives_and_is_ready(visitor: Visitor) -> None:
    assert visitor.get("/healthz").text == "ok\n"
    ready = visitor.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"database": "ok", "migrations": "ok", "broker": "ok"})


def test_the_page_of_what_runs_names_who_answered_and_its_servers(visitor: Visitor) -> None:
    page = visitor.get("/stack/").text
    assert re.search(r'id="host">[\w.-]+, process \d+<', page)
    for server in ("database", "broker"):
        assert f'id="{server}" data-state="ok"' in page, page
    assert "data-queue=" in visitor.get("/stack/now").text
    for secret in ("://", "password", "SECRET"):
        assert secret not in page


def test_metrics_are_told_to_those_inside_and_nobody_else_learns_of_them(visitor: Visitor) -> None:
    """Whoever runs this may be either."""
    visitor.get("/")
    answer = visitor.get("/metrics")
    assert answer.status_code in (HTTPStatus.OK, HTTPStatus.NOT_FOUND)
    if answer.status_code == HTTPStatus.OK:
        lines = answer.text.splitlines()
        assert "portico_broker_up 1" in lines
        assert [line for line in lines if line.startswith("portico_queue_messages{")]


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
        codes = list(pool.map(lambda _: Visitor(base_url, visitor.ca).post(poll, choice=answer).status_code, range(10)))
    assert codes == [HTTPStatus.FOUND] * 10
    assert votes(visitor, poll) == before + 10


def wait_for(visitor: Visitor, page: str) -> list[dict[str, Any]]:
    """Poll the state of an export until it has ended; returns all answers."""
    answers = []
    deadline = time.monotonic() + TASK_SECONDS
    while time.monotonic() < deadline:
        answers.append(visitor.get(page.replace("/exports/", "/exports/check/").rstrip("/")).json())
        if answers[-1]["state"] not in ("waiting", "running"):
            break
        time.sleep(0.1)
    return answers


def a_part_is_sent_or_honestly_not(visitor: Visitor, address: str, whole: bytes) -> None:
    """A download that broke goes on where it ended (nginx), or is told that it cannot, and gets the whole (Django)."""

    def ask(wanted: str) -> tuple[int, bytes, str | None]:
        answer = visitor.http.get(address, headers={"Range": wanted, "Accept-Encoding": "identity"})
        assert answer.headers.get("Server") == server
        return answer.status_code, answer.content, answer.headers.get("Content-Range")

    first = visitor.get(address)
    server, size = first.headers.get("Server"), len(whole)
    if server != "nginx":
        assert first.headers["Accept-Ranges"] == "none"
        assert ask("bytes=5-9") == (HTTPStatus.OK, whole, None)
        return
    assert ask("bytes=5-9") == (HTTPStatus.PARTIAL_CONTENT, whole[5:10], f"bytes 5-9/{size}")
    assert ask("bytes=-4") == (HTTPStatus.PARTIAL_CONTENT, whole[-4:], f"bytes {size - 4}-{size - 1}/{size}")
    assert ask("bytes=7-") == (HTTPStatus.PARTIAL_CONTENT, whole[7:], f"bytes 7-{size - 1}/{size}")
    status, _, told = ask(f"bytes={size}-")
    assert (status, told) == (HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"bytes */{size}")


def test_an_export_is_followed_to_its_end_and_only_its_owner_fetches_it(visitor: Visitor, another: Visitor) -> None:
    poll = first_poll(visitor)
    visitor.post(poll, choice=choices(visitor, poll)[0])
    asked = visitor.post("/exports/")
    assert asked.status_code == HTTPStatus.FOUND
    page = asked.headers["Location"]
    assert "<progress" in visitor.get(page).text
    answers = wait_for(visitor, page)
    assert answers[-1]["state"] == "done", answers
    done = [answer["done"] for answer in answers]
    assert done == sorted(done)
    assert "Ready:" in visitor.get(page).text

    file = visitor.get(answers[-1]["download"])
    assert file.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert file.headers["Content-Disposition"].startswith(
        "attachment; filename*=utf-8''Votes%20%E2%80%93%20all%20polls"
    )
    rows = list(csv.reader(io.StringIO(file.content.decode())))
    assert rows[0] == ["vote", "cast at (UTC)", "poll", "answer"]
    assert len(rows) - 1 == answers[-1]["total"] >= 1
    a_part_is_sent_or_honestly_not(visitor, answers[-1]["download"], file.content)

    another.get("/exports/")
    for path in (page, page.replace("/exports/", "/exports/check/").rstrip("/"), answers[-1]["download"]):
        assert another.get(path).status_code == HTTPStatus.NOT_FOUND
    key = page.rstrip("/").rsplit("/", 1)[1]
    for path in (f"/protected/{key}.csv", f"/static/{key}.csv", f"/media/{key}.csv"):
        assert visitor.get(path).status_code == HTTPStatus.NOT_FOUND


def test_an_id_that_is_none_is_a_404_in_json(visitor: Visitor) -> None:
    for key in ("x", "6d9a3a5c-7a0e-4b0f-9f0e-0d8b3f1c2a4e", "%27"):
        answer = visitor.get(f"/exports/check/{key}")
        assert (answer.status_code, answer.json()["state"]) == (HTTPStatus.NOT_FOUND, "unknown")


def test_a_hundred_posts_of_one_browser_give_one_vote(base_url: str, visitor: Visitor) -> None:
    poll = first_poll(visitor)
    before = votes(visitor, poll)
    page = visitor.get(poll).text
    answer, token = choices(visitor, poll)[0], re.search(r'csrfmiddlewaretoken" value="([^"]+)"', page)
    assert token
    data = {"choice": answer, "csrfmiddlewaretoken": token[1]}
    headers = {"Referer": f"{base_url}{poll}"}
    with ThreadPoolExecutor(10) as pool:
        codes = list(pool.map(lambda _: visitor.http.post(poll, data=data, headers=headers).status_code, range(100)))
    assert codes == [HTTPStatus.FOUND] * 100
    assert votes(visitor, poll) == before + 1


def test_polls_are_searched_and_opened_by_the_administrator(visitor: Visitor, admin: tuple[str, str]) -> None:
    assert visitor.get("/new/").status_code == HTTPStatus.FOUND
    visitor.post("/admin/login/", username=admin[0], password=admin[1])
    text = f"Is it {time.time_ns()}?"
    opened = visitor.post("/new/", text=text, choices="Yes\nNo")
    assert opened.status_code == HTTPStatus.FOUND
    assert text in visitor.get(f"/?q={text[6:-1]}").text
    assert len(choices(visitor, opened.headers["Location"])) == 2
    assert visitor.post("/new/", text=text, choices="Only one").status_code == HTTPStatus.BAD_REQUEST


def test_each_response_has_a_request_id_and_a_strict_policy(visitor: Visitor) -> None:
    response = visitor.get("/")
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["X-Request-ID"])
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]


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
    assert "Tend exports" in page
    assert "*/5 * * * *" in page


@pytest.mark.parametrize("path", ["/99999999/", "/nothing", "/exports/not-an-id/", "/static/polls/", "/0/results/"])
def test_what_is_not_there_is_a_404(visitor: Visitor, path: str) -> None:
    assert visitor.get(path).status_code == HTTPStatus.NOT_FOUND


def test_a_form_without_its_token_is_refused(visitor: Visitor) -> None:
    poll = first_poll(visitor)
    assert visitor.http.post(poll, data={"choice": "1"}).status_code == HTTPStatus.FORBIDDEN
    assert visitor.http.post("/exports/").status_code == HTTPStatus.FORBIDDEN


def test_an_answer_that_is_none_is_refused_and_changes_nothing(visitor: Visitor) -> None:
    poll = first_poll(visitor)
    before = votes(visitor, poll)
    for answer in ("0", "x", "99999999999999999999"):
        assert visitor.post(poll, choice=answer).status_code == HTTPStatus.BAD_REQUEST
    assert votes(visitor, poll) == before


@pytest.mark.parametrize(
    ("method", "path"), [("DELETE", "/"), ("PUT", "/readyz"), ("PATCH", "/exports/"), ("POST", "/")]
)
def test_a_method_that_a_page_does_not_have_is_refused(visitor: Visitor, method: str, path: str) -> None:
    assert visitor.http.request(method, path).status_code in (HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.FORBIDDEN)
