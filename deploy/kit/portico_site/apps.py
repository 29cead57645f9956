"""The app that `overlay` adds to a project with Celery."""

from django.apps import AppConfig


class KitConfig(AppConfig):
    name = "portico_site"

    def ready(self) -> None:
        """Configure the project's Celery application in processes that only send tasks, too."""
        from portico_site import celery  # noqa: F401
