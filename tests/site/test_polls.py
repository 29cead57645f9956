"""Polls as a visitor sees them."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from polls.models import Choice, Question, Vote


def vote(client: Client, question: Question, choice: Choice | None) -> int:
    data = {"choice": str(choice.pk)} if choice else {}
    return client.post(reverse("detail", args=[question.pk]), data).status_code


def test_a_vote_is_counted_and_shown(client: Client, question: Question) -> None:
    choice = question.choices.get(text="Spaces")
    assert vote(client, question, choice) == HTTPStatus.FOUND
    page = client.get(reverse("results", args=[question.pk])).content.decode()
    assert '<span id="total">1</span>' in page
    assert "(your vote)" in page


def test_a_browser_votes_once(client: Client, question: Question) -> None:
    said = []
    for choice in question.choices.all():
        vote(client, question, choice)
        said.append(client.get(reverse("results", args=[question.pk])).content.decode())
    assert Vote.objects.count() == 1
    assert "Your vote is counted." in said[0]
    assert "your first vote counts" in said[1]


def test_another_browser_votes_too(question: Question) -> None:
    for _ in range(3):
        vote(Client(), question, question.choices.get(text="Tabs"))
    assert [votes for _, votes in question.tally()] == [3, 0]


@pytest.mark.django_db(transaction=True)
def test_a_hundred_posts_of_one_browser_at_once_give_one_vote(client: Client, question: Question) -> None:
    client.get(reverse("detail", args=[question.pk]))  # sets the visitor's cookie
    cookies = client.cookies
    choice = question.choices.get(text="Tabs")

    def cast(_: int) -> int:
        try:
            one = Client()
            one.cookies = cookies
            return vote(one, question, choice)
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as pool:
        codes = list(pool.map(cast, range(100)))
    assert codes == [HTTPStatus.FOUND] * 100
    assert Vote.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_fifty_browsers_at_once_give_fifty_votes(question: Question) -> None:
    choice = question.choices.get(text="Tabs")

    def cast(_: int) -> int:
        try:
            return vote(Client(), question, choice)
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(cast, range(50))) == [HTTPStatus.FOUND] * 50
    assert Vote.objects.count() == 50


def test_signing_in_gives_no_second_vote(client: Client, question: Question, django_user_model: type[User]) -> None:
    vote(client, question, question.choices.get(text="Tabs"))
    client.force_login(django_user_model.objects.create_user("ada"))
    vote(client, question, question.choices.get(text="Spaces"))
    assert Vote.objects.count() == 1


def test_a_forged_mark_is_no_mark(client: Client, question: Question) -> None:
    vote(client, question, question.choices.get(text="Tabs"))
    client.cookies["visitor"] = "00000000-0000-4000-8000-000000000000:forged:signature"
    assert client.get(reverse("results", args=[question.pk])).status_code == HTTPStatus.OK
    assert vote(client, question, question.choices.get(text="Tabs")) == HTTPStatus.FOUND


@pytest.mark.parametrize(("name", "queries"), [("detail", 2), ("results", 2)])
def test_looking_writes_nothing(
    client: Client, question: Question, django_assert_num_queries: Any, name: str, queries: int
) -> None:
    with django_assert_num_queries(queries) as captured:
        client.get(reverse(name, args=[question.pk]))
    # PostgreSQL reads the choices of a form through a cursor: DECLARE … FOR SELECT.
    assert all(query["sql"].startswith(("SELECT", "DECLARE")) for query in captured.captured_queries)


def test_no_choice_is_a_400_in_words(client: Client, question: Question) -> None:
    response = client.post(reverse("detail", args=[question.pk]), {})
    assert response.status_code == HTTPStatus.BAD_REQUEST
    assert "Choose one of the answers." in response.content.decode()


def test_a_choice_of_another_poll_is_refused(client: Client, question: Question) -> None:
    other = Choice.objects.create(question=Question.objects.create(text="?"), text="x")
    assert vote(client, question, other) == HTTPStatus.BAD_REQUEST
    assert not Vote.objects.exists()


@pytest.mark.parametrize("name", ["detail", "results"])
def test_a_poll_that_is_not_out_yet_is_a_404(client: Client, question: Question, name: str) -> None:
    question.published_at = timezone.now() + timedelta(hours=1)
    question.save()
    assert client.get(reverse(name, args=[question.pk])).status_code == HTTPStatus.NOT_FOUND
    assert question.text not in client.get(reverse("index")).content.decode()


def test_a_post_without_csrf_token_is_refused(question: Question) -> None:
    client = Client(enforce_csrf_checks=True)
    assert vote(client, question, question.choices.first()) == HTTPStatus.FORBIDDEN
    assert client.post(reverse("exports")).status_code == HTTPStatus.FORBIDDEN
    assert not Vote.objects.exists()


@pytest.mark.parametrize("choices", [1, 40])
def test_the_number_of_queries_does_not_grow_with_the_choices(
    client: Client, question: Question, choices: int, django_assert_num_queries: Any
) -> None:
    Choice.objects.bulk_create(Choice(question=question, text=str(n)) for n in range(choices))
    vote(client, question, question.choices.get(text="Tabs"))
    client.get(reverse("results", args=[question.pk]))  # shows and clears the message
    with django_assert_num_queries(3):
        client.get(reverse("results", args=[question.pk]))


def test_the_list_has_pages(client: Client, db: None) -> None:
    Question.objects.bulk_create(Question(text=f"Poll {n}") for n in range(45))
    assert "Page 2 of 3" in client.get(reverse("index"), {"page": 2}).content.decode()
    assert client.get(reverse("index"), {"page": "x"}).status_code == HTTPStatus.OK


def test_sample_polls_are_loaded_once(db: None) -> None:
    call_command("load_sample_polls", verbosity=0)
    count = Question.objects.count()
    call_command("load_sample_polls", verbosity=0)
    assert Question.objects.count() == count > 0


def test_the_list_is_searched_whatever_the_case(client: Client, question: Question) -> None:
    Question.objects.create(text="Which database?")
    page = client.get(reverse("index"), {"q": "TABS"}).content.decode()
    assert question.text in page
    assert "Which database?" not in page
    nothing = client.get(reverse("index"), {"q": "<script>"}).content.decode()
    assert "No poll contains" in nothing
    assert "<script>" not in nothing


def test_whoever_may_opens_a_poll(client: Client, django_user_model: type[User]) -> None:
    author = django_user_model.objects.create_user("ada", is_staff=True)
    author.user_permissions.add(Permission.objects.get(codename="add_question"))
    client.force_login(author)
    response = client.post(reverse("create"), {"text": "Tea?", "choices": "Yes\n\n No \nYes\n"})
    question = Question.objects.get(text="Tea?")
    assert response["Location"] == reverse("detail", args=[question.pk])
    assert [choice.text for choice in question.choices.all()] == ["Yes", "No"]


@pytest.mark.parametrize("choices", ["", "Only one", "a\n" * 5, "\n".join(map(str, range(21))), "y\n" + "x" * 201])
def test_a_poll_without_a_real_choice_is_refused(admin_client: Client, choices: str) -> None:
    assert admin_client.post(reverse("create"), {"text": "?", "choices": choices}).status_code == HTTPStatus.BAD_REQUEST
    assert not Question.objects.exists()


def test_others_open_no_poll(client: Client, django_user_model: type[User]) -> None:
    assert client.get(reverse("create"))["Location"].startswith(reverse("admin:login"))
    client.force_login(django_user_model.objects.create_user("eve"))
    assert client.post(reverse("create"), {"text": "?", "choices": "a\nb"}).status_code == HTTPStatus.FORBIDDEN


def test_the_results_are_told_as_numbers_too(client: Client, question: Question) -> None:
    vote(client, question, question.choices.get(text="Tabs"))
    state = client.get(reverse("results-state", args=[question.pk])).json()
    assert state["total"] == 1
    assert [(bar["text"], bar["votes"], bar["percent"]) for bar in state["bars"]] == [
        ("Tabs", 1, 100),
        ("Spaces", 0, 0),
    ]


def test_the_admin_lists_polls_exports_and_tasks(admin_client: Client, question: Question) -> None:
    lists = ("polls_question", "polls_export", "django_celery_beat_periodictask", "django_celery_results_taskresult")
    for name in lists:
        assert admin_client.get(reverse(f"admin:{name}_changelist")).status_code == HTTPStatus.OK
    assert admin_client.get(reverse("admin:polls_question_change", args=[question.pk])).status_code == HTTPStatus.OK
