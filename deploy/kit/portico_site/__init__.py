"""The kit: what a Django project gets from Portico wherever it runs, without a change of its own.

Every runtime puts this folder's parent on PYTHONPATH and sets DJANGO_SETTINGS_MODULE=portico_site.settings. It imports
Django, Celery and the standard library only: never the machinery, and the project's modules only by their names.
"""
