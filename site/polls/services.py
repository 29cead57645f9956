"""What can be done with polls; views and tasks call these."""

from collections.abc import Callable
from functools import partial

from celery import uuid
from django.db import IntegrityError, transaction
from django.utils import timezone

from polls.models import Choice, Question, Summary, Vote


def cast_vote(question: Question, choice: Choice, session_key: str) -> bool:
    """Record the one vote of a session; False if it has voted before, however many ask at once."""
    try:
        with transaction.atomic():
            Vote.objects.create(question=question, choice=choice, session_key=session_key)
    except IntegrityError:
        return False
    return True


def start_recount() -> str:
    """Hand the recount to a worker once this transaction is committed; returns the task's id, known before."""
    from polls.tasks import recount

    task_id = uuid()
    transaction.on_commit(partial(recount.apply_async, task_id=task_id))
    return task_id


def count_all(step: Callable[[int, int], None] | None = None) -> Summary:
    """Count every vote and keep the sums; ``step`` is told after each poll how many of how many are done.

    Running it twice, or two at once, ends with the same numbers.
    """
    keys = list(Question.objects.values_list("pk", flat=True))
    votes = 0
    for done, key in enumerate(keys, start=1):
        votes += Vote.objects.filter(question=key).count()
        if step:
            step(done, len(keys))
    values = {"questions": len(keys), "votes": votes, "counted_at": timezone.now()}
    return Summary.objects.update_or_create(pk=1, defaults=values)[0]
