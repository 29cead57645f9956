#!/bin/sh
# What runs in the image of a release, on a restored database that nobody else has: proof.sh PATHS…
set -eu
[ "${MIGRATE:-}" = "" ] || python manage.py migrate --no-input
python manage.py check --database default
python manage.py migrate --check
exec python - "$@" <<'END'
import sys

import django

django.setup()
from portico_site.self_check import complaints

if found := complaints(sys.argv[1:]):
    sys.exit("; ".join(found))
END
