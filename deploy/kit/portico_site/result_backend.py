"""The store for task results: django-celery-results, which here waits for a database that restarts."""

from collections.abc import Iterable
from typing import Any

from django.db import InterfaceError, OperationalError, connection
from django_celery_results.backends import DatabaseBackend

#: How many rows one statement removes: a million at once would hold locks, and fill the log of a replica, for minutes.
PIECE = 1000


class PatientDatabaseBackend(DatabaseBackend):
    """Waits for the database to return, instead of failing a task that is done or will be retried.

    With `result_backend_always_retry`, Celery asks which errors to retry. The package itself retries after a closed
    connection, but not when the server refuses connections during a restart. Then a task that is about to be retried
    would be recorded, and treated, as failed.
    """

    def exception_safe_to_retry(self, exc: BaseException) -> bool:
        if isinstance(exc, (InterfaceError, OperationalError)):
            connection.close()  # the next try opens a new one
            return True
        return bool(super().exception_safe_to_retry(exc))

    def cleanup(self) -> None:
        """Delete expired results, in pieces: each is a transaction of its own, and what was deleted stays deleted."""
        for model in self._models():
            while remove_piece(model._default_manager, self.expires):
                pass

    def _models(self) -> Iterable[Any]:
        return [model for name in ("TaskModel", "GroupModel") if (model := getattr(self, name, None)) is not None]


def remove_piece(manager: Any, expires: Any) -> int:
    """Delete some expired rows, the oldest first; returns how many."""
    expired = manager.get_all_expired(expires).order_by("date_done").values_list("pk", flat=True)
    piece = list(expired[:PIECE])
    if not piece:
        return 0
    removed, _ = manager.filter(pk__in=piece).delete()
    return max(int(removed), 1)
