"""The store for task results: django-celery-results, which here waits for a database that restarts."""

from django.db import InterfaceError, OperationalError, connection
from django_celery_results.backends import DatabaseBackend


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
