"""Where results of tasks are kept: django-celery-results, patient with a database that restarts."""

from django.db import InterfaceError, OperationalError, connection
from django_celery_results.backends import DatabaseBackend


class PatientDatabaseBackend(DatabaseBackend):
    """Waits for the database to come back instead of failing a task whose work is done or will be repeated.

    With `result_backend_always_retry`, Celery asks which errors are worth another try. The package's own answer knows a
    connection that was closed, but not a server that refuses one for the seconds of a restart; then a task that is
    about to be retried would be recorded, and treated, as failed.
    """

    def exception_safe_to_retry(self, exc: BaseException) -> bool:
        if isinstance(exc, (InterfaceError, OperationalError)):
            connection.close()  # the next try opens a new one
            return True
        return bool(super().exception_safe_to_retry(exc))
