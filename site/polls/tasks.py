"""The tasks of the workers. Each is safe to run twice (idempotent): if a worker dies, another runs its task."""

import logging
from typing import Any

from celery import Task, shared_task
from celery.exceptions import SoftTimeLimitExceeded
from django.db import InterfaceError, OperationalError

from polls import exporting, services
from polls.models import Export

logger = logging.getLogger(__name__)

#: Errors that may be temporary: the database restarts, the disk is full.
TRANSIENT = (OperationalError, InterfaceError, OSError)


class ExportTask(Task):
    """Records the failure of an export's task for its owner."""

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        services.fail_export(task_id, reason_of(exc))


def reason_of(error: Exception) -> str:
    """The reason, in words that the owner may read; the log has the details."""
    match error:
        case SoftTimeLimitExceeded():
            return "it took too long."
        case exporting.DiskNearlyFullError():
            return "the disk is nearly full."
        case OSError():
            return "its file could not be written."
        case OperationalError() | InterfaceError():
            return "the database did not answer."
        case _:
            return "something went wrong."


@shared_task(
    base=ExportTask,
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
