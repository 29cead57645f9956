"""The site's development settings under the kit, for its own suites: nothing of the developer's data is touched."""

import os
import tempfile

from tests.demonstration import SITE

# Not DJANGO_SETTINGS_MODULE, which names this module: test processes that are started later must find it, too.
os.environ.update({name: value for name, value in SITE.items() if name != "DJANGO_SETTINGS_MODULE"})
os.environ.update(RUN_DIR=tempfile.mkdtemp(prefix="site-suite-"), CELERY_BROKER_URL="memory://")
os.environ.setdefault("DATABASE_URL", f"sqlite:///{os.environ['RUN_DIR']}/db.sqlite3")
os.environ["PROTECTED_ROOT"] = os.path.join(os.environ["RUN_DIR"], "protected")

import portico_site.settings
from portico_site.settings import *  # noqa: F403

DATABASES: dict[str, dict[str, object]] = vars(portico_site.settings)["DATABASES"]

# Celery reads the variable before an application's own settings, and tests have applications with brokers of their own.
del os.environ["CELERY_BROKER_URL"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

if "sqlite3" in str(DATABASES["default"]["ENGINE"]):
    # A file, as in use: several connections at once see one database.
    DATABASES["default"]["TEST"] = {"NAME": os.path.join(os.environ["RUN_DIR"], "test.sqlite3")}
