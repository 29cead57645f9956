"""Commands of manage.py that every project with Celery has."""
