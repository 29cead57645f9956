"""The project's settings, with what the place decides laid over them; see `overlay`.

PORTICO_SETTINGS names the project's own settings module, or `module:Class` (see `classes`). Its manage.py, wsgi.py and
Celery module usually name one with `os.environ.setdefault`, so DJANGO_SETTINGS_MODULE=portico_site.settings takes
precedence.
"""

import os
import sys

from django.core.exceptions import ImproperlyConfigured

from portico_site import classes, overlay

overlay.read_secrets(os.environ)
_name = os.environ.get("PORTICO_SETTINGS", "")
if not _name:
    raise ImproperlyConfigured("PORTICO_SETTINGS is missing: set it to the project's own settings module")
_own = classes.load(_name, os.environ, globals())
_name = _own.__name__
_settings = {name: getattr(_own, name) for name in dir(_own) if name.isupper()}
_laid_over = overlay.laid_over(_settings, os.environ)
overlay.write_back(_settings, _laid_over, [_own, *overlay.related(_name, sys.modules)])
globals().update({**_settings, **_laid_over})
