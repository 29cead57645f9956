"""The project: settings, URLs, the Celery application. The pages are in `polls`."""

from mysite.celery_app import app as celery_app

__all__ = ["celery_app"]
