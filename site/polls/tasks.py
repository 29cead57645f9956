"""The tasks of the workers. Each is safe to run twice (idempotent): if a worker dies, another runs its task."""

import logging
from typing import Any

from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError
from celery.signals import task_failure
from django.db import InterfaceError, OperationalError

from polls import exporting, services
from polls.models import Export

logger = logging.getLogger(__name__)

#: Errors that may be temporary: the database restarts, the disk is full.
TRANSIENT = (OperationalError, InterfaceError, OSError)
#: The name of the task that writes an export.
WRITE_EXPORT = "polls.tasks.write_export"


@task_failure.connect
def record_failure(sender: Any, task_id: str, exception: Exception, **_: object) -> None:
    """Record the failure of an export's task for its owner; also of one whose process is gone, by the worker itself."""
    if sender.name == WRITE_EXPORT:
        services.fail_export(task_id, reason_of(exception))


def reason_of(error: Exception) -> str:
    """The reason, in words that the owner may read; the log has the details."""
    match error:
        case SoftTimeLimitExceeded() | TimeLimitExceeded():
            return "it took too long."
        case exporting.DiskNearlyFullError():
            return "the disk is nearly full."
        case OSError():
            return "its file could not be written."
        case OperationalError() | InterfaceError():
            return "the database did not answer."
        case WorkerLostError():
            return "it ended its process."
        case _:
            return "something went wrong."


@shared_task(
    name=WRITE_EXPORT,
    autoretry_for=TRANSIENT,
    retry_backoff=1,  # seconds, doubled each time
    retry_backoff_max=60,
    retry_jitter=True,
    max_retries=5,
)
def write_export(export_id: str) -> int:
    """Write the CSV file of an export; returns the number of rows. Ignores an export that is no longer open."""
    export = Export.objects.filter(pk=export_id, state__in=Export.OPEN).first()
    if export is None:
        logger.info("export %s is no longer open", export_id)
        return 0
    exporting.write(export)
    export.refresh_from_db()
    logger.info("export %s: %d rows, %d bytes", export_id, export.rows_done, export.size)
    return int(export.rows_done)


@shared_task
def tend_exports() -> dict[str, int]:
    """Every five minutes: send exports again that the broker did not accept, and remove expired ones."""
    again = services.hand_over_again()
    files, records = exporting.remove_expired()
    return {"handed over again": again, "files": files, "records": records}
