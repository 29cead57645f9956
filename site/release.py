"""What a new release does once, before anything of it serves: its static files, then its migrations.

STATIC_ROOT holds this release's own files. They are laid into PUBLISHED_STATIC, which the web server serves, beside
those of earlier releases: names have a hash of the content, so a page of an earlier release keeps its files. Files that
no release has had for PUBLISHED_STATIC_DAYS go.

`release.py` does both; `release.py publish` and `release.py migrate` one of them, where they run in different places.
`release.py collect` makes what STATIC_ROOT holds, before that, wherever a release is built.
"""

import gzip
import os
import shutil
import sys
import time
from pathlib import Path
from uuid import uuid4

WORDS = ("collect", "publish", "migrate")
DAY = 24 * 60 * 60
#: Files that are compressed, by suffix, and the bytes that they must have more than for it to be of use.
COMPRESSED = {".css", ".js", ".json", ".svg", ".txt"}
COMPRESSED_BYTES = 512
#: The lock that those who migrate hold; the number is ours alone in this database.
MIGRATIONS_LOCK = 0x506F7274


def collect() -> None:
    """Check the site, and lay its static files into STATIC_ROOT: names with hashes, and each compressed once.

    The settings of production need their values, though none of them is used. Exits with a line when a check fails, or
    when there is no list of the names, without which no page could be rendered.
    """
    from django.conf import settings
    from django.core.management import CommandError, call_command

    set_up()
    try:
        call_command("check")
        call_command("collectstatic", interactive=False, verbosity=0)
    except CommandError as error:
        sys.exit(str(error))
    root = Path(settings.STATIC_ROOT)
    listed = root / "staticfiles.json"
    if not listed.is_file() or not listed.stat().st_size:
        sys.exit(f"{listed}: collectstatic did not make it; look at STORAGES in the settings")
    print(f"static files: {compress(root)} compressed", flush=True)


def compress(root: Path) -> int:
    """Lay a .gz beside each file that gains by it, the same bytes for the same file. Returns how many."""
    made = 0
    for path in root.rglob("*"):
        if path.suffix in COMPRESSED and path.is_file() and path.stat().st_size > COMPRESSED_BYTES:
            beside = path.with_name(f"{path.name}.gz")
            beside.write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))
            shutil.copystat(path, beside)
            made += 1
    return made


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


def set_up() -> None:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings.production")
    django.setup()


def migrate() -> None:
    """Apply the migrations; who comes meanwhile waits, and then finds nothing to do.

    PostgreSQL's lock belongs to the connection, and is freed however we end. A swarm has been seen to run a job twice.
    """
    from django.core.management import call_command
    from django.db import connection

    set_up()
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [MIGRATIONS_LOCK])
    call_command("migrate", interactive=False)


def main() -> None:
    wanted = sys.argv[1:] or ["publish", "migrate"]
    for word in wanted:
        if word not in WORDS:
            sys.exit(f"release.py {word}: there is no such step; there are: {', '.join(WORDS)}")
    if "collect" in wanted:
        collect()
    published = os.environ.get("PUBLISHED_STATIC")
    if published and "publish" in wanted:
        new = publish(Path(os.environ["STATIC_ROOT"]), Path(published))
        gone = prune(Path(published), float(os.environ.get("PUBLISHED_STATIC_DAYS", "30")) * DAY)
        print(f"static files: {new} new, {gone} of earlier releases removed", flush=True)
    if "migrate" in wanted:
        migrate()


if __name__ == "__main__":
    main()
