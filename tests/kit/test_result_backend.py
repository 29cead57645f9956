"""Results of tasks in the database: what is expired is removed a piece at a time."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_celery_results.models import GroupResult, TaskResult
from portico_site import result_backend
from portico_site.celery import app


def test_expired_results_are_removed_in_pieces(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_backend, "PIECE", 10)
    for model, number in ((TaskResult, 25), (GroupResult, 3)):
        field = "task_id" if model is TaskResult else "group_id"
        made = [model.objects.create(**{field: f"{model.__name__}{n}"}) for n in range(number + 2)]
        old = [each.pk for each in made[:number]]
        model.objects.filter(pk__in=old).update(date_done=timezone.now() - timedelta(days=400))
    with CaptureQueriesContext(
        connection,
    ) as asked:
        app.backend.cleanup()
    assert (TaskResult.objects.count(), GroupResult.objects.count()) == (2, 2)
    removals = [each["sql"] for each in asked if each["sql"].startswith("DELETE")]
    assert len(removals) == 4, "10, 10, 5, and 3 groups"
    assert all(sql.count(",") < 10 for sql in removals)
