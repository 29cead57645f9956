"""What a release is asked before it serves, asked in a project's tests: health, and the addresses that are probed.

`python -m portico_site.self_check /readyz /` asks a site on a test database. It runs after the project's own tests.
"""

import os
import sys
from collections.abc import Iterable


def complaints(paths: Iterable[str]) -> list[str]:
    """A line for each path whose answer is an error; `/healthz` is always asked."""
    from django.test import Client

    client = Client(raise_request_exception=False)
    found = []
    for path in dict.fromkeys(["/healthz", *paths]):
        response = client.get(path, headers={"host": "localhost"})
        if response.status_code >= 400:
            said = response.content.decode(errors="replace") if path == "/readyz" else ""
            found.append(f"{path}: {response.status_code} {said}".rstrip())
    return found


def main(paths: list[str]) -> None:
    """Exits with the complaints."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portico_site.settings")
    import django
    from django.test.utils import setup_databases, setup_test_environment, teardown_databases

    django.setup()
    setup_test_environment(debug=False)
    databases = setup_databases(verbosity=0, interactive=False)
    try:
        found = complaints(paths)
    finally:
        teardown_databases(databases, verbosity=0)
    if found:
        sys.exit("\n".join(found))
    print(f"health: {' '.join(dict.fromkeys(['/healthz', *paths]))}: ok")


if __name__ == "__main__":
    main(sys.argv[1:])
