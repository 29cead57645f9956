"""The admin's pages cost the same however many votes there are."""

import uuid
from http import HTTPStatus

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from polls.models import Choice, Question, Vote

MANY = 3000


@pytest.fixture
def busy(question: Question) -> Question:
    """A poll with many votes."""
    choices = list(question.choices.all())
    votes = [Vote(question=question, choice=choices[n % 2], visitor=uuid.uuid4()) for n in range(MANY)]
    Vote.objects.bulk_create(votes)
    return question


def rows(queries: CaptureQueriesContext) -> list[str]:
    """The queries that read votes one by one."""
    return [
        each["sql"] for each in queries if "polls_vote" in each["sql"] and '"visitor"' in each["sql"].split("FROM")[0]
    ]


def test_deleting_a_poll_counts_its_votes_and_lists_none(admin_client: Client, busy: Question) -> None:
    address = reverse("admin:polls_question_delete", args=[busy.pk])
    with CaptureQueriesContext(
        connection,
    ) as queries:
        page = admin_client.get(address)
    text = page.content.decode()
    assert "Votes: 3000" in text
    assert "Choices: 2" in text
    assert busy.text in text
    assert len(page.content) < 20_000
    assert not rows(queries)
    with CaptureQueriesContext(connection) as queries:
        assert admin_client.post(address, {"post": "yes"}).status_code == HTTPStatus.FOUND
    assert not rows(queries)
    assert not Vote.objects.exists()
    assert LogEntry.objects.count() == 1


def test_the_bulk_action_counts_too_and_names_the_first_polls(admin_client: Client, busy: Question) -> None:
    others = [Question.objects.create(text=f"Poll {n}") for n in range(30)]
    chosen = [str(each.pk) for each in [busy, *others]]
    data = {"action": "delete_selected", "_selected_action": chosen}
    with CaptureQueriesContext(connection) as queries:
        page = admin_client.post(reverse("admin:polls_question_changelist"), data)
    text = page.content.decode()
    assert "Votes: 3000" in text
    assert "Questions: 31" in text
    assert "and 11 more" in text
    assert not rows(queries)
    admin_client.post(reverse("admin:polls_question_changelist"), {**data, "post": "yes"})
    assert not Question.objects.exists()


def test_deleting_a_choice_reads_no_vote(admin_client: Client, busy: Question) -> None:
    address = reverse("admin:polls_question_change", args=[busy.pk])
    first, second = busy.choices.all()
    data = {
        "text": busy.text,
        "published_at_0": "2026-01-01",
        "published_at_1": "12:00",
        "choices-TOTAL_FORMS": "2",
        "choices-INITIAL_FORMS": "2",
        **{
            f"choices-{n}-{key}": value for n, each in enumerate((first, second)) for key, value in fields(each).items()
        },
        "choices-0-DELETE": "on",
    }
    with CaptureQueriesContext(connection) as queries:
        assert admin_client.post(address, data).status_code == HTTPStatus.FOUND
    assert not rows(queries)
    assert list(busy.choices.all()) == [second]


def fields(choice: Choice) -> dict[str, str]:
    return {
        "id": str(choice.pk),
        "question": str(choice.question_id),
        "position": str(choice.position),
        "text": choice.text,
    }


def test_who_may_not_delete_polls_is_refused(client: Client, busy: Question, django_user_model: type) -> None:
    user = django_user_model.objects.create_user("staff", is_staff=True)  # type: ignore[attr-defined]
    client.force_login(user)
    answer = client.post(reverse("admin:polls_question_delete", args=[busy.pk]), {"post": "yes"})
    assert answer.status_code == HTTPStatus.FORBIDDEN
    assert Vote.objects.count() == MANY


def test_results_come_from_an_index(client: Client, busy: Question) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("EXPLAIN differs")
    with CaptureQueriesContext(connection) as queries:
        busy.tally()
    [query] = [each["sql"] for each in queries]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {query}")
        plan = [row[3] for row in cursor.fetchall()]
    assert any("polls_vote USING COVERING INDEX" in line for line in plan), plan


def test_texts_of_people_have_their_own_direction(client: Client, db: None) -> None:
    question = Question.objects.create(text="\u05e9\u05dc\u05d5\u05dd?")
    for position, text in enumerate(("\u05db\u05df", "No")):
        question.choices.create(text=text, position=position)
    for name, count in (("detail", 3), ("results", 3)):
        page = client.get(reverse(name, args=[question.pk])).content.decode()
        assert page.count('dir="auto"') == count, name
    assert 'dir="auto" href' in client.get(reverse("index")).content.decode()
