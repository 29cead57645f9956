"""The kit: what a Django project gets from Portico wherever it runs, without a change of its own.

Every runtime puts this folder's parent on PYTHONPATH and sets DJANGO_SETTINGS_MODULE=portico_site.settings. It imports
Django, Celery and the standard library only: never the machinery, and the project's modules only by their names.
"""

import os
import sys
from collections.abc import Mapping


def import_path(environ: Mapping[str, str], path: list[str]) -> None:
    """Put the folders in PORTICO_PATH on the import path, as the project itself does.

    They are relative to that of manage.py, with colons between. A process that does not begin with
    the project's manage.py (gunicorn, celery, a release) would not have them.
    """
    for folder in reversed(environ.get("PORTICO_PATH", "").split(":")):
        if folder and (absolute := os.path.abspath(folder)) not in path:
            path.insert(0, absolute)


import_path(os.environ, sys.path)
if _class := os.environ.get("PORTICO_SETTINGS", "").partition(":")[2]:
    os.environ["DJANGO_CONFIGURATION"] = _class  # for whatever of django-configurations starts before the settings
