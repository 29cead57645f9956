"""What a new release does once, before anything of it serves: its static files, then its migrations.

STATIC_ROOT holds this release's own files. They are laid into PUBLISHED_STATIC, which the web server serves, beside
those of earlier releases: names have a hash of the content, so a page of an earlier release keeps its files. Files that
no release has had for PUBLISHED_STATIC_DAYS go.

`release.py` does both; `release.py publish` and `release.py migrate` one of them, where they run in different places.
"""

import os
import shutil
import sys
import time
from pathlib import Path
from uuid import uuid4

DAY = 24 * 60 * 60
#: The lock that those who migrate hold; the number is ours alone in this database.
MIGRATIONS_LOCK = 0x506F7274


def publish(source: Path, target: Path) -> int:
    """Copy what is new, each file whole or not at all; mark what is still in use. Returns how many were new."""
    new = 0
    for path in source.rglob("*"):
        if path.is_dir():
            continue
        published = target / path.relative_to(source)
        if published.exists() and published.stat().st_size == path.stat().st_size and not is_mutable(path):
            published.touch()
            continue
        published.parent.mkdir(parents=True, exist_ok=True)
        # In another container the process may have our number.
        unfinished = published.with_name(f".{published.name}.{uuid4().hex}.part")
        shutil.copyfile(path, unfinished)
        unfinished.chmod(0o644)
        unfinished.replace(published)
        new += 1
    return new


def is_mutable(path: Path) -> bool:
    """Whether a file may change under its name: it has no hash in it (`base.d41d8cd98f00.css` has)."""
    parts = path.name.removesuffix(".gz").split(".")
    return not any(len(part) == 12 and set(part) <= set("0123456789abcdef") for part in parts[1:])


def prune(target: Path, seconds: float) -> int:
    """Remove files that no release had for so long, and folders that are then empty. Returns how many files went."""
    before = time.time() - seconds
    gone = 0
    for path in sorted(target.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.stat().st_mtime < before:
            path.unlink()
            gone += 1
    return gone


def migrate() -> None:
    """Apply the migrations; who comes meanwhile waits, and then finds nothing to do.

    PostgreSQL's lock belongs to the connection, and is freed however we end. A swarm has been seen to run a job twice.
    """
    import django
    from django.core.management import call_command
    from django.db import connection

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings.production")
    django.setup()
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [MIGRATIONS_LOCK])
    call_command("migrate", interactive=False)


def main() -> None:
    wanted = sys.argv[1:] or ["publish", "migrate"]
    published = os.environ.get("PUBLISHED_STATIC")
    if published and "publish" in wanted:
        new = publish(Path(os.environ["STATIC_ROOT"]), Path(published))
        gone = prune(Path(published), float(os.environ.get("PUBLISHED_STATIC_DAYS", "30")) * DAY)
        print(f"static files: {new} new, {gone} of earlier releases removed", flush=True)
    if "migrate" in wanted:
        migrate()


if __name__ == "__main__":
    main()
