"""What can be done with polls; views and commands call these."""

import logging
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from kombu.exceptions import OperationalError as BrokerError

from polls.models import Choice, Export, Question, Vote

logger = logging.getLogger(__name__)


class TooManyExportsError(Exception):
    """The owner has as many open exports as one may have."""


def create_poll(text: str, choices: Sequence[str]) -> Question:
    """A question with its choices, in order."""
    with transaction.atomic():
        question = Question.objects.create(text=text)
        Choice.objects.bulk_create(
            Choice(question=question, text=choice, position=position) for position, choice in enumerate(choices)
        )
    return question


def cast_vote(question: Question, choice: Choice, visitor: UUID) -> bool:
    """Record the one vote of a visitor; False if there was one before, however many ask at once."""
    try:
        with transaction.atomic():
            Vote.objects.create(question=question, choice=choice, visitor=visitor)
    except IntegrityError:
        return False
    return True


def ask_for_export(owner: str) -> Export:
    """Record an export and hand it to a worker once this transaction is committed.

    Raises `TooManyExportsError` when the owner has `EXPORTS_OPEN_LIMIT` open ones: each open export takes one of so
    many slots, and a constraint keeps two from the same one, also when many ask at once.
    """
    for slot in range(settings.EXPORTS_OPEN_LIMIT):
        try:
            with transaction.atomic():
                export = Export.objects.create(id=uuid4(), owner=owner, slot=slot)
        except IntegrityError:
            continue
        transaction.on_commit(partial(hand_over, export.pk))
        return export
    raise TooManyExportsError


def hand_over(pk: UUID) -> None:
    """Give an export to the workers. While the broker is away it stays waiting, and `tend_exports` gives it again."""
    from polls.tasks import write_export

    try:
        write_export.apply_async(args=(str(pk),), task_id=str(pk))
    except BrokerError as error:
        logger.warning("export %s waits: the broker did not take it (%s)", pk, error)


def hand_over_again() -> int:
    """Give the workers what has waited for so long that its message may never have been sent; returns how many.

    A second message is harmless: the task leaves an export alone that is no longer open.
    """
    before = timezone.now() - timedelta(seconds=settings.EXPORTS_PATIENCE_SECONDS)
    waiting = Export.objects.filter(state=Export.State.WAITING, touched_at__lt=before)
    keys = list(waiting.values_list("pk", flat=True))
    Export.objects.filter(pk__in=keys).update(touched_at=timezone.now())
    for pk in keys:
        hand_over(pk)
    return len(keys)


def fail_export(pk: str | UUID, reason: str) -> None:
    """Record, for its owner to read, that an open export came to nothing."""
    Export.objects.filter(pk=pk, state__in=Export.OPEN).update(
        state=Export.State.FAILED, reason=reason[:200], touched_at=timezone.now()
    )
