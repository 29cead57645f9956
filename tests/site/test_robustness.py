"""No input causes a 500, or a change that it should not."""

from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polls.models import Export, Question, Vote

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
PARTS = st.one_of(
    st.sampled_from(
        ["", "new", "exports", "check", "results", "state", "download", "1", "0", "-1", "9" * 30, "..", "%2e%2e"]
    ),
    st.uuids().map(str),
    st.text(st.characters(blacklist_categories=["Cs"]), max_size=30),
)
PATHS = st.lists(PARTS, max_size=4).map(lambda parts: "/" + "/".join(parts))
#: Pages that answer to POST: everything else must refuse it.
FORMS = ("/", "/new/", "/1/", "/exports/")
VALUES = st.one_of(st.text(max_size=300), st.integers().map(str), st.just("x" * 200_000))
BOUNDED = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def browser(question: Question) -> Client:
    """A visitor with the cookie; errors are responses, not exceptions."""
    client = Client(raise_request_exception=False)
    client.get(f"/{question.pk}/")
    return client


def counts() -> tuple[int, int, int]:
    return Question.objects.count(), Vote.objects.count(), Export.objects.count()


@BOUNDED
@given(path=PATHS, method=st.sampled_from(METHODS), query=st.dictionaries(st.sampled_from(["q", "page", "x"]), VALUES))
def test_no_address_and_no_method_gives_a_500(browser: Client, path: str, method: str, query: dict[str, str]) -> None:
    before = counts()
    if method == "POST" and path in FORMS:
        method = "GET"
    words = urlencode({name: value[:200] for name, value in query.items()})
    # As a WSGI server passes a path: its bytes, decoded as Latin-1.
    response = browser.generic(method, "/", PATH_INFO=path.encode().decode("latin-1"), QUERY_STRING=words)
    assert response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR
    assert counts() == before


@BOUNDED
@given(data=st.dictionaries(st.sampled_from(["choice", "text", "choices", "x"]), VALUES, max_size=3))
def test_no_form_gives_a_500_or_a_vote_for_what_is_no_choice(
    browser: Client, question: Question, data: dict[str, str]
) -> None:
    keys = {str(choice.pk) for choice in question.choices.all()}
    if data.get("choice", "").strip() in keys:
        data["choice"] = "0"
    before = counts()
    assert browser.post(f"/{question.pk}/", data).status_code == HTTPStatus.BAD_REQUEST
    assert browser.post("/new/", data).status_code in (HTTPStatus.FOUND, HTTPStatus.FORBIDDEN)
    assert counts() == before


@BOUNDED
@given(
    body=st.binary(max_size=2000),
    kind=st.sampled_from(["multipart/form-data; boundary=x", "application/json", "x", ""]),
)
def test_no_body_gives_a_500(browser: Client, question: Question, body: bytes, kind: str) -> None:
    before = counts()
    response = browser.generic("POST", f"/{question.pk}/", body, content_type=kind)
    assert HTTPStatus.BAD_REQUEST <= response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR
    assert counts() == before


@BOUNDED
@given(cookie=st.text(st.characters(codec="ascii", min_codepoint=33), max_size=100))
def test_no_cookie_gives_a_500(browser: Client, question: Question, cookie: str) -> None:
    browser.cookies["visitor"] = cookie
    browser.cookies["sessionid"] = cookie
    for path in ("/", f"/{question.pk}/results/", "/exports/"):
        assert browser.get(path).status_code == HTTPStatus.OK


@pytest.mark.parametrize("path", ["/", "/1/results/", "/1/results/state", "/exports/check/x", "/healthz", "/readyz"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_page_to_look_at_refuses_every_other_method(browser: Client, path: str, method: str) -> None:
    assert browser.generic(method, path).status_code == HTTPStatus.METHOD_NOT_ALLOWED


@pytest.mark.parametrize("path", ["/1/", "/new/", "/exports/"])
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_form_refuses_methods_that_are_no_forms(browser: Client, path: str, method: str) -> None:
    assert browser.generic(method, path).status_code == HTTPStatus.METHOD_NOT_ALLOWED


def test_without_its_token_no_form_does_anything(question: Question, django_user_model: type[User]) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(django_user_model.objects.create_superuser("root"))
    before = counts()
    for path, data in (
        (f"/{question.pk}/", {"choice": "1"}),
        ("/exports/", {}),
        ("/new/", {"text": "?", "choices": "a\nb"}),
    ):
        response = client.post(path, data)
        assert response.status_code == HTTPStatus.FORBIDDEN
        assert "The form has expired" in response.content.decode()
    assert counts() == before


@pytest.mark.parametrize("path", ["/", "/new/", "/exports/", "/admin/login/", "/nothing"])
def test_every_page_has_a_strict_content_security_policy(browser: Client, path: str) -> None:
    response: Any = browser.get(path)
    policy = response["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", "/1/", "/1/results/", "/exports/"])
def test_no_page_has_anything_inline_or_from_elsewhere(browser: Client, path: str) -> None:
    page = browser.get(path).content.decode()
    assert "<style" not in page
    assert " style=" not in page
    assert " on" + "click" not in page
    assert "<script>" not in page
    assert "//" not in page.replace("<!doctype html>", "")


def test_errors_are_pages_of_the_site(browser: Client, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Page not found" in browser.get("/nothing").content.decode()
    monkeypatch.setattr("polls.views.Paginator", None)
    response = browser.get("/")
    assert response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
    assert "This is not your fault." in response.content.decode()
