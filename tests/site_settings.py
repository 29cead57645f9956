"""The site's development settings, for its own suite: nothing of the developer's data is touched."""

import os
import tempfile

os.environ["RUN_DIR"] = tempfile.mkdtemp(prefix="site-suite-")

from mysite.settings.development import *  # noqa: F403
from mysite.settings.development import DATABASES

CELERY_BROKER_URL = "memory://"
CELERY_BROKER_TRANSPORT_OPTIONS = {}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

if "sqlite3" in DATABASES["default"]["ENGINE"]:
    # A file, as in use: several connections at once see one database.
    DATABASES["default"]["TEST"] = {"NAME": os.path.join(os.environ["RUN_DIR"], "test.sqlite3")}
