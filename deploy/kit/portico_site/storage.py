"""The storage of static files that production uses where the project has chosen none with a manifest."""

from typing import Any

from django.contrib.staticfiles.storage import ManifestStaticFilesStorage


class ManifestStorage(ManifestStaticFilesStorage):
    """Names with a hash of the content, so that browsers may cache files for ever.

    Unlike Django's own, it takes a reference to a missing file as it is: a project that never had a manifest may have
    such references, and with Django's own it would fail to build, or answer 500.
    """

    manifest_strict = False

    def hashed_name(self, name: str, content: Any = None, filename: str | None = None) -> str:
        try:
            return super().hashed_name(name, content, filename)
        except ValueError:
            return name
