"""A Django project as its source tells: files, modules, settings, packages, the Celery application.

May not be here: an import of the project, a process, a judgement. Standard library only.
"""
