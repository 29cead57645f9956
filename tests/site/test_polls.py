"""Polls as a visitor meets them."""

import threading
from datetime import timedelta
from http import HTTPStatus

import pytest
from celery import states
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from django_celery_results.models import TaskResult
from mysite.celery_app import app
from polls import progress, services, tasks
from polls.models import Choice, Question, Summary, Vote


def vote(client: Client, question: Question, choice: Choice | None) -> int:
    data = {"choice": str(choice.pk)} if choice else {}
    return client.post(reverse("detail", args=[question.pk]), data).status_code


def test_a_vote_is_counted_and_shown(client: Client, question: Question) -> None:
    choice = question.choices.get(text="Spaces")
    assert vote(client, question, choice) == HTTPStatus.FOUND
    page = client.get(reverse("results", args=[question.pk])).content.decode()
    assert "1 vote" in page
    assert "(your vote)" in page


def test_a_session_votes_once(client: Client, question: Question) -> None:
    for choice in question.choices.all():
        vote(client, question, choice)
    assert Vote.objects.count() == 1


def test_another_session_votes_too(question: Question) -> None:
    for _ in range(3):
        vote(Client(), question, question.choices.get(text="Tabs"))
    assert [votes for _, votes in question.tally()] == [3, 0]


@pytest.mark.django_db(transaction=True)
def test_twenty_posts_of_one_session_at_once_give_one_vote(client: Client, question: Question) -> None:
    choice = question.choices.get(text="Tabs")
    client.get(reverse("detail", args=[question.pk]))
    session = client.session
    session.save()
    results = []

    def cast() -> None:
        try:
            results.append(services.cast_vote(question, choice, str(session.session_key)))
        finally:
            connection.close()

    threads = [threading.Thread(target=cast) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 19 + [True]
    assert Vote.objects.count() == 1


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
    assert client.post(reverse("start-recount")).status_code == HTTPStatus.FORBIDDEN
    assert not Vote.objects.exists()


@pytest.mark.parametrize("choices", [1, 40])
def test_the_number_of_queries_does_not_grow_with_the_choices(
    client: Client, question: Question, choices: int, django_assert_num_queries: pytest.FixtureRequest
) -> None:
    Choice.objects.bulk_create(Choice(question=question, text=str(n)) for n in range(choices))
    with django_assert_num_queries(3):  # type: ignore[operator]
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


# --- the background work ---


def test_a_recount_is_handed_over_only_once_its_transaction_is_committed(
    client: Client, question: Question, django_capture_on_commit_callbacks: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(tasks.recount, "apply_async", lambda *, task_id: sent.append(task_id))
    with django_capture_on_commit_callbacks() as callbacks:  # type: ignore[operator]
        response = client.post(reverse("start-recount"))
        assert not sent
    for callback in callbacks:
        callback()
    assert response["Location"] == reverse("recount", args=sent)


def test_a_recount_is_followed_only_by_its_own_session(client: Client, question: Question) -> None:
    session = client.session
    session["recounts"] = ["6d9a3a5c-7a0e-4b0f-9f0e-0d8b3f1c2a4e"]
    session.save()
    address = reverse("recount-state", args=["6d9a3a5c-7a0e-4b0f-9f0e-0d8b3f1c2a4e"])
    assert client.get(address).json()["state"] == "waiting"
    assert Client().get(address).status_code == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize(
    ("state", "result", "expected"),
    [
        (states.PENDING, None, ("waiting", 0, 1)),
        (states.STARTED, {"pid": 7}, ("running", 0, 1)),
        ("PROGRESS", {"done": 2, "total": 6}, ("running", 2, 6)),
        (states.SUCCESS, {"votes": 1}, ("done", 1, 1)),
        (states.FAILURE, {"exc_type": "ValueError", "exc_message": ["no"], "exc_module": "builtins"}, ("failed", 0, 1)),
    ],
)
def test_every_state_of_a_task_has_a_sentence(
    db: None, state: str, result: object, expected: tuple[str, int, int]
) -> None:
    if state != states.PENDING:
        TaskResult.objects.create(task_id="t", status=state, result=app.backend.encode(result))
    now = progress.of_task("t")
    assert (now.state, now.done, now.total) == expected
    assert now.text.endswith(".")


def test_a_recount_tells_how_far_it_is_and_ends_with_the_sums(question: Question, client: Client) -> None:
    vote(client, question, question.choices.first())
    Question.objects.create(text="Another")
    steps: list[tuple[int, int]] = []
    services.count_all(lambda done, total: steps.append((done, total)))
    services.count_all()
    assert steps == [(1, 2), (2, 2)]
    assert [(row.questions, row.votes) for row in Summary.objects.all()] == [(2, 1)]


def test_the_summary_is_scheduled_every_five_minutes_not_hourly(db: None) -> None:
    crontab = PeriodicTask.objects.get(task="polls.tasks.refresh_summary").crontab
    schedule = crontab.schedule
    assert schedule.minute == set(range(0, 60, 5))
    assert schedule.hour == set(range(24))


def test_the_admin_lists_polls_and_tasks(admin_client: Client, question: Question) -> None:
    for name in ("polls_question", "django_celery_beat_periodictask", "django_celery_results_taskresult"):
        assert admin_client.get(reverse(f"admin:{name}_changelist")).status_code == HTTPStatus.OK
    assert admin_client.get(reverse("admin:polls_question_change", args=[question.pk])).status_code == HTTPStatus.OK
