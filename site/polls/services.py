"""The operations on polls and exports; views and commands call these."""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Sum
from django.utils import timezone

from polls import exporting
from polls.models import Choice, Export, Question, Vote
from polls.outbox import Outbox


class TooManyExportsError(Exception):
    """The owner already has the maximal number of open exports."""


class NoRoomForExportsError(Exception):
    """All owners together have as many exports as there is room for. Its text is for the owner to read."""


def create_poll(text: str, choices: Sequence[str]) -> Question:
    """Create a question with its choices, in order."""
    with transaction.atomic():
        question = Question.objects.create(text=text)
        Choice.objects.bulk_create(
            Choice(question=question, text=choice, position=position) for position, choice in enumerate(choices)
        )
    return question


def cast_vote(question: Question, choice: Choice, visitor: UUID) -> bool:
    """Record a visitor's only vote; False if there was one before. Safe for concurrent requests."""
    try:
        with transaction.atomic():
            Vote.objects.create(question=question, choice=choice, visitor=visitor)
    except IntegrityError:
        return False
    return True


def ask_for_export(owner: str) -> Export:
    """Record an export and send it to a worker once this transaction is committed.

    Raises `TooManyExportsError` if the owner has `EXPORTS_OPEN_LIMIT` open exports. Each open export takes one of that
    many slots, and a constraint keeps two from the same slot, even with concurrent requests. Raises
    `NoRoomForExportsError` if all owners together have reached a limit: a visitor who drops the cookie is a new owner.
    """
    require_room()
    for slot in range(settings.EXPORTS_OPEN_LIMIT):
        try:
            with transaction.atomic():
                export = Export.objects.create(id=uuid4(), owner=owner, slot=slot)
        except IntegrityError:
            continue
        transaction.on_commit(partial(hand_over, export.pk))
        return export
    raise TooManyExportsError


def require_room() -> None:
    """Raises `NoRoomForExportsError` without room for one more export of the size of the latest.

    Requests at the same moment may exceed a limit by one each.
    """
    done = Export.objects.filter(state=Export.State.DONE)
    waiting = Export.objects.filter(state__in=Export.OPEN).count()
    if waiting >= settings.EXPORTS_OPEN_LIMIT_ALL:
        raise NoRoomForExportsError("Many exports are waiting at present. Try again in some minutes.")
    latest = done.exclude(size=0).order_by("-touched_at").values_list("size", flat=True).first() or 0
    used = done.aggregate(bytes=Sum("size"))["bytes"] or 0
    if used + (waiting + 1) * latest > settings.EXPORTS_MOST_BYTES:
        raise NoRoomForExportsError("There is no room for more exports at present. Try again in some hours.")
    if exporting.is_disk_nearly_full():
        raise NoRoomForExportsError("The disk for exports is nearly full. Its administrator has to make room.")


def send_export(pk: UUID) -> None:
    """Send an export to the workers. Raises kombu's `OperationalError` if the broker does not accept it."""
    from polls.tasks import write_export

    write_export.apply_async(args=(str(pk),), task_id=str(pk))


waiting = Outbox(send_export)


def hand_over(pk: UUID) -> None:
    """Send an export to the workers without waiting for the broker."""
    if getattr(settings, "CELERY_TASK_ALWAYS_EAGER", False):  # no broker at all: the task runs here
        send_export(pk)
    else:
        waiting.put(pk)


def hand_over_again() -> int:
    """Send exports again that have waited so long that their message may be lost; returns their number.

    A second message is harmless: the task ignores an export that is no longer open.
    """
    before = timezone.now() - timedelta(seconds=settings.EXPORTS_PATIENCE_SECONDS)
    waiting = Export.objects.filter(state=Export.State.WAITING, touched_at__lt=before)
    keys = list(waiting.values_list("pk", flat=True))
    for pk in keys:
        send_export(pk)
        Export.objects.filter(pk=pk).update(touched_at=timezone.now())
    return len(keys)


def fail_export(pk: str | UUID, reason: str) -> None:
    """Record that an open export has failed, with a reason for its owner."""
    Export.objects.filter(pk=pk, state__in=Export.OPEN).update(
        state=Export.State.FAILED, reason=reason[:200], touched_at=timezone.now()
    )
