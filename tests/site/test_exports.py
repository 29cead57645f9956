"""Exports: complete or not at all, only for their owner, and removed in time."""

import csv
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery.exceptions import Retry, SoftTimeLimitExceeded, WorkerLostError
from celery.signals import task_failure
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from kombu.exceptions import OperationalError as BrokerError
from mysite.celery_app import app
from polls import exporting, outbox, services, tasks
from polls.models import Choice, Export, Question, Vote

from tests.support import wait_until


@pytest.fixture(autouse=True)
def protected(settings: Any, tmp_path: Path) -> Path:
    settings.PROTECTED_ROOT = str(tmp_path / "protected")
    return tmp_path / "protected"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of tasks that were sent; none of them runs."""
    ids: list[str] = []
    monkeypatch.setattr(tasks.write_export, "apply_async", lambda *, args, task_id: ids.append(task_id))
    return ids


@pytest.fixture
def votes(question: Question) -> int:
    choices = list(question.choices.all())
    Vote.objects.bulk_create(
        Vote(question=question, choice=choices[n % len(choices)], visitor=uuid4()) for n in range(4500)
    )
    return 4500


def ask(client: Client) -> Export:
    response = client.post(reverse("exports"))
    assert response.status_code == HTTPStatus.FOUND, response.content
    return Export.objects.get(pk=response["Location"].rstrip("/").rsplit("/", 1)[1])


def make(owner: str = "user:1", **values: Any) -> Export:
    return Export.objects.create(**{"owner": owner, "slot": 0, **values})


def content(response: Any) -> str:
    return b"".join(response.streaming_content).decode()


# --- asking ---


def test_an_export_is_handed_over_once_its_record_is_committed(
    client: Client, db: None, sent: list[str], django_capture_on_commit_callbacks: Any, settings: Any
) -> None:
    del settings.CELERY_TASK_ALWAYS_EAGER  # as in production
    with django_capture_on_commit_callbacks() as callbacks:
        export = ask(client)
        assert not sent
    for callback in callbacks:
        callback()
    wait_until(services.waiting.is_empty, 10, "it is handed over")
    assert sent == [str(export.pk)]


def test_nobody_has_more_open_exports_than_the_limit(client: Client, db: None, sent: list[str]) -> None:
    client.get(reverse("exports"))
    for _ in range(3):
        ask(client)
    refused = client.post(reverse("exports"))
    assert refused.status_code == HTTPStatus.TOO_MANY_REQUESTS
    assert "You already have 3 open exports" in refused.content.decode()
    Export.objects.update(state=Export.State.DONE)
    ask(client)
    ask(Client())


def refused(client: Client) -> str:
    """The page of an export that is refused for want of room."""
    response = client.post(reverse("exports"))
    assert response.status_code == HTTPStatus.INSUFFICIENT_STORAGE
    return response.content.decode()


def test_who_drops_the_cookie_fills_neither_the_queue_nor_the_disk(db: None, sent: list[str], settings: Any) -> None:
    settings.EXPORTS_OPEN_LIMIT_ALL = 5
    for _ in range(5):
        ask(Client())
    assert "Many exports are waiting" in refused(Client())
    Export.objects.update(state=Export.State.DONE, size=1000)
    settings.EXPORTS_MOST_BYTES = 6000
    ask(Client())
    assert "no room for more exports" in refused(Client()), "the one that is open will need its thousand, too"


def test_a_disk_that_is_nearly_full_refuses_with_words(
    db: None, sent: list[str], settings: Any, protected: Path
) -> None:
    export = ask(Client())
    protected.mkdir(exist_ok=True)
    settings.EXPORTS_FREE_BYTES = 2**62
    assert "nearly full" in refused(Client())
    tasks.write_export.apply(args=(str(export.pk),), task_id=str(export.pk))
    export.refresh_from_db()
    assert (export.state, export.reason) == ("failed", "the disk is nearly full.")
    assert not list(protected.iterdir())


@pytest.mark.django_db(transaction=True)
def test_the_limit_holds_when_twenty_ask_at_once(client: Client, sent: list[str]) -> None:
    client.get(reverse("exports"))

    def one(_: int) -> int:
        try:
            browser = Client()
            browser.cookies = client.cookies
            return browser.post(reverse("exports")).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as pool:
        codes = sorted(pool.map(one, range(20)))
    assert codes == [HTTPStatus.FOUND] * 3 + [HTTPStatus.TOO_MANY_REQUESTS] * 17


@pytest.mark.django_db(transaction=True)
def test_no_request_waits_for_a_broker_that_takes_nothing_and_each_export_is_handed_over_when_it_does(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids: list[str] = []
    takes, tried = threading.Event(), threading.Event()

    def hang(*, args: Any, task_id: str) -> None:
        tried.set()
        takes.wait(30)
        ids.append(task_id)

    monkeypatch.setattr(tasks.write_export, "apply_async", hang)
    exports = [str(ask(Client()).pk) for _ in range(10)]
    assert tried.wait(10)
    assert not ids
    takes.set()
    wait_until(services.waiting.is_empty, 10, "all are handed over")
    assert ids == exports


@pytest.mark.django_db(transaction=True)
def test_an_export_asked_for_while_the_broker_is_away_is_handed_over_later(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids: list[str] = []
    tried = threading.Event()

    def away(**_: Any) -> None:
        tried.set()
        raise BrokerError("Connection refused")

    monkeypatch.setattr(outbox, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(tasks.write_export, "apply_async", away)
    export = ask(client)
    assert tried.wait(10)
    assert client.get(reverse("check", args=[export.pk])).json()["state"] == "waiting"
    monkeypatch.setattr(tasks.write_export, "apply_async", lambda *, args, task_id: ids.append(task_id))
    wait_until(services.waiting.is_empty, 10, "it is handed over")
    assert ids == [str(export.pk)]


def test_an_export_whose_process_ended_before_it_was_handed_over_is_handed_over_by_the_clean_up(
    db: None, sent: list[str], settings: Any
) -> None:
    export = make()
    assert tasks.tend_exports()["handed over again"] == 0  # its message may still be in the queue
    settings.EXPORTS_PATIENCE_SECONDS = 0
    assert tasks.tend_exports()["handed over again"] == 1
    assert sent == [str(export.pk)]


# --- writing ---


def test_the_file_has_every_vote_in_order(votes: int, question: Question) -> None:
    export = make()
    assert tasks.write_export(str(export.pk)) == votes
    export.refresh_from_db()
    assert (export.state, export.rows_done, export.size) == ("done", votes, export.path.stat().st_size)
    with export.path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == exporting.HEADER
    assert [int(row[0]) for row in rows[1:]] == list(Vote.objects.order_by("pk").values_list("pk", flat=True))
    assert {row[2] for row in rows[1:]} == {question.text}


def test_the_file_is_for_its_group_alone(votes: int) -> None:
    export = make()
    tasks.write_export(str(export.pk))
    assert oct(export.path.stat().st_mode & 0o777) == "0o640"
    assert oct(export.path.parent.stat().st_mode & 0o007) == "0o0"


def test_rows_are_fetched_in_chunks(votes: int, django_assert_max_num_queries: Any) -> None:
    with django_assert_max_num_queries(10):
        tasks.write_export(str(make().pk))


@pytest.mark.parametrize("cell", ["\n=1", " =1", "\uff1d1", "\uff0b1", "\ufeff=1", "\u00a0@x", "|calc", "%x"])
def test_a_formula_in_disguise_is_text(cell: str) -> None:
    assert exporting.harmless(cell) == f"'{cell}"
    assert exporting.harmless("1 = 1, x") == "1 = 1, x"


def test_a_cell_that_would_be_a_formula_is_text(question: Question) -> None:
    choice = Choice.objects.create(question=question, text="=HYPERLINK(1)")
    Vote.objects.create(question=question, choice=choice, visitor=uuid4())
    assert [row[3] for row in exporting.rows()] == ["'=HYPERLINK(1)"]


def test_an_export_that_ran_before_is_left_as_it_is(votes: int) -> None:
    export = make()
    tasks.write_export(str(export.pk))
    before = export.path.read_bytes()
    Vote.objects.all().delete()
    assert tasks.write_export(str(export.pk)) == 0
    assert export.path.read_bytes() == before


def test_a_run_after_one_that_was_killed_writes_the_whole_file(votes: int, protected: Path) -> None:
    export = make(state=Export.State.RUNNING, rows_done=2000)
    protected.mkdir()
    (protected / f".{export.pk}.dead.part").write_text("half a fi")
    assert tasks.write_export(str(export.pk)) == votes
    assert len(export.path.read_text().splitlines()) == votes + 1


def test_a_part_is_never_to_be_seen_under_the_files_name(votes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    export = make()
    seen = []

    def reporter(*_: Any) -> Any:
        return lambda done: seen.append(export.path.exists())

    monkeypatch.setattr(exporting, "reporter", reporter)
    tasks.write_export(str(export.pk))
    assert seen == [False, False]
    assert export.path.exists()


def test_a_full_disk_leaves_no_part_behind_and_is_tried_again(
    votes: int, monkeypatch: pytest.MonkeyPatch, protected: Path
) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "write_rows", full)
    with pytest.raises((Retry, OSError)):
        tasks.write_export.apply(args=(str(make().pk),), throw=True)
    assert not list(protected.iterdir())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), "its file could not be written"),
        (OperationalError("gone: password=hunter2"), "the database did not answer"),
        (SoftTimeLimitExceeded(), "it took too long"),
        (WorkerLostError("signal 9"), "it ended its process"),
        (ValueError("surprise"), "something went wrong"),
    ],
)
def test_a_task_that_gave_up_tells_the_owner_why(
    client: Client, db: None, sent: list[str], error: Exception, words: str
) -> None:
    export = ask(client)
    task_failure.send(sender=tasks.write_export, task_id=str(export.pk), exception=error)
    page = client.get(reverse("export", args=[export.pk])).content.decode()
    assert words in page
    assert "hunter2" not in page
    assert client.get(reverse("check", args=[export.pk])).json()["state"] == "failed"


def test_the_bar_of_an_export_without_votes_is_full_in_the_end(client: Client, db: None, sent: list[str]) -> None:
    export = ask(client)
    tasks.write_export(str(export.pk))
    answer = client.get(reverse("check", args=[export.pk])).json()
    assert (answer["state"], answer["done"], answer["total"]) == ("done", 1, 1)


def visitors_export(**values: Any) -> Export:
    export = make(f"visitor:{uuid4()}", **values)
    exporting.write(export)
    export.refresh_from_db()
    assert (export.state, export.path.stat().st_mode & 0o777) == ("done", 0o640)
    return export


def test_all_visitors_who_ask_within_a_minute_share_one_file(votes: int) -> None:
    exports = [visitors_export() for _ in range(5)]
    assert len({each.path.stat().st_ino for each in exports}) == 1
    assert {each.rows_done for each in exports} == {votes}
    assert [each.size > 0 for each in exports] == [True, False, False, False, False], "what it takes on the disk"
    Export.objects.filter(pk=exports[0].pk).update(expires_at=timezone.now())
    exporting.remove_expired()
    assert not exports[0].path.exists()
    assert exports[1].path.read_text().count("\n") == votes + 1, "the others keep it"
    later = visitors_export(created_at=timezone.now() + timedelta(seconds=90))
    assert later.path.stat().st_ino != exports[1].path.stat().st_ino


def test_a_shared_file_has_the_votes_of_its_owner_and_a_user_has_one_of_the_users_own(
    votes: int, question: Question, settings: Any
) -> None:
    first, me = visitors_export(), uuid4()
    Vote.objects.create(question=question, choice=question.choices.all()[0], visitor=me)
    assert visitors_export().rows_done == votes, "another's vote of this minute may be missing"
    mine = make(f"visitor:{me}")
    user = make("user:1")
    for export in (mine, user):
        exporting.write(export)
        export.refresh_from_db()
        assert export.rows_done == votes + 1
        assert export.path.stat().st_ino != first.path.stat().st_ino
    settings.EXPORTS_SHARE_SECONDS = 0
    assert visitors_export().size > 0


# --- fetching ---


def test_only_the_owner_sees_and_fetches_it(client: Client, votes: int, sent: list[str]) -> None:
    export = ask(client)
    tasks.write_export(str(export.pk))
    assert len(content(client.get(reverse("download", args=[export.pk]))).splitlines()) == votes + 1
    for name in ("export", "check", "download"):
        assert client.get(reverse(name, args=[export.pk])).status_code == HTTPStatus.OK
        assert Client().get(reverse(name, args=[export.pk])).status_code == HTTPStatus.NOT_FOUND


def test_a_users_export_is_theirs_in_every_browser(db: None, sent: list[str], django_user_model: type[User]) -> None:
    ada, eve = (django_user_model.objects.create_user(name) for name in ("ada", "eve"))
    browsers = [Client() for _ in range(3)]
    for browser, user in zip(browsers, (ada, ada, eve), strict=True):
        browser.force_login(user)
    address = reverse("check", args=[ask(browsers[0]).pk])
    assert [browser.get(address).status_code for browser in browsers] == [200, 200, 404]


def test_its_name_type_and_length_are_right(client: Client, votes: int, sent: list[str]) -> None:
    export = ask(client)
    tasks.write_export(str(export.pk))
    response = client.get(reverse("download", args=[export.pk]))
    content(response)
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert int(response["Content-Length"]) == export.path.stat().st_size
    assert response["Accept-Ranges"] == "none", "parts are the web server's: here the whole is sent"
    assert response["Content-Disposition"].startswith("attachment; filename*=utf-8''Votes%20%E2%80%93%20all%20polls")


def test_in_production_the_web_server_sends_it(client: Client, votes: int, sent: list[str], settings: Any) -> None:
    settings.PROTECTED_URL = "/protected/"
    export = ask(client)
    tasks.write_export(str(export.pk))
    response = client.get(reverse("download", args=[export.pk]))
    assert response["X-Accel-Redirect"] == f"/protected/{export.pk}.csv"
    assert response.content == b""
    assert "%E2%80%93" in response["Content-Disposition"]


def test_no_address_serves_the_file_itself(client: Client, votes: int, sent: list[str]) -> None:
    export = ask(client)
    tasks.write_export(str(export.pk))
    for path in (f"/protected/{export.pk}.csv", f"/static/{export.pk}.csv", f"/static/../protected/{export.pk}.csv"):
        assert client.get(path).status_code == HTTPStatus.NOT_FOUND


def test_what_is_not_done_has_no_file(client: Client, db: None, sent: list[str]) -> None:
    assert client.get(reverse("download", args=[ask(client).pk])).status_code == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize(
    "pk", ["x", "0", "%00", "6d9a3a5c-7a0e-4b0f-9f0e-0d8b3f1c2a4e", "'; DROP TABLE polls_vote; --"]
)
def test_the_check_answers_json_for_whatever_is_asked(client: Client, db: None, pk: str) -> None:
    client.get(reverse("exports"))
    response = client.get(f"/exports/check/{pk}")
    assert response.status_code == HTTPStatus.NOT_FOUND
    assert response.json()["state"] == "unknown"


# --- going away ---


def test_an_expired_export_says_so_before_and_after_the_clean_up(client: Client, votes: int, sent: list[str]) -> None:
    export = ask(client)
    tasks.write_export(str(export.pk))
    Export.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    for cleaned in (False, True):
        if cleaned:
            assert tasks.tend_exports() == {"handed over again": 0, "files": 1, "records": 0}
        assert client.get(reverse("check", args=[export.pk])).json()["state"] == "expired"
        assert "has expired" in client.get(reverse("export", args=[export.pk])).content.decode()
        assert client.get(reverse("download", args=[export.pk])).status_code == HTTPStatus.NOT_FOUND
        assert export.path.exists() is not cleaned


def test_records_are_forgotten_later(db: None, protected: Path) -> None:
    long_ago = timezone.now() - timedelta(days=8)
    make(state=Export.State.EXPIRED, touched_at=long_ago)
    make(state=Export.State.FAILED, touched_at=long_ago)
    make(state=Export.State.EXPIRED)
    assert tasks.tend_exports() == {"handed over again": 0, "files": 0, "records": 2}


def test_what_was_interrupted_for_good_is_told_as_failed(db: None) -> None:
    silent = make(state=Export.State.RUNNING, touched_at=timezone.now() - timedelta(hours=2))
    alive = make(state=Export.State.RUNNING, slot=1)
    tasks.tend_exports()
    silent.refresh_from_db()
    alive.refresh_from_db()
    assert (silent.state, alive.state) == ("failed", "running")


def test_files_without_a_record_go_and_fresh_parts_stay(db: None, protected: Path) -> None:
    protected.mkdir()
    for name in ("old.csv", ".old.part", "new.part"):
        (protected / name).touch()
    for name in ("old.csv", ".old.part"):
        os.utime(protected / name, (0, 0))
    tasks.tend_exports()
    assert [path.name for path in protected.iterdir()] == ["new.part"]


def test_the_clean_up_is_every_five_minutes_not_hourly(db: None) -> None:
    crontab = PeriodicTask.objects.get(task="polls.tasks.tend_exports").crontab
    assert crontab.schedule.minute == set(range(0, 60, 5))
    assert crontab.schedule.hour == set(range(24))


def test_celerys_own_results_are_cleaned_too() -> None:
    from django_celery_beat.schedulers import DatabaseScheduler

    entries: dict[str, Any] = {}
    DatabaseScheduler.install_default_entries(type("S", (), {"app": app, "update_from_dict": entries.update})(), {})
    assert "celery.backend_cleanup" in entries


def test_a_failed_task_is_seen_in_the_admin(admin_client: Client, db: None) -> None:
    from django_celery_results.models import TaskResult

    TaskResult.objects.create(task_id="t", task_name="polls.tasks.write_export", status="FAILURE", traceback="because")
    page = admin_client.get(reverse("admin:django_celery_results_taskresult_changelist")).content.decode()
    assert "FAILURE" in page


def test_tasks_are_late_acknowledged_limited_and_retried() -> None:
    assert app.conf.task_acks_late
    assert app.conf.task_reject_on_worker_lost
    assert app.conf.task_track_started
    assert app.conf.task_soft_time_limit < app.conf.task_time_limit
    task: Any = tasks.write_export
    assert task.retry_jitter
    assert set(task.autoretry_for) == set(tasks.TRANSIENT)
