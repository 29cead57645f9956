"""The one-time steps of a new release before it serves: static files, then migrations.

STATIC_ROOT has this release's own files. They are copied to PUBLISHED_STATIC, which the web server serves, beside those
of earlier releases: names have a hash of the content, so a page of an earlier release keeps its files. Files that no
release has had for PUBLISHED_STATIC_DAYS are removed.

`python -m portico_site.release` does both; `… publish` and `… migrate` do one of them, if they run in different places.
`… collect` fills STATIC_ROOT beforehand, where the release is built. PORTICO_SAMPLES is a management command that runs
after the first migration of a new database.
"""

import gzip
import hashlib
import os
import shutil
import sys
import time
import zlib
from pathlib import Path
from uuid import uuid4

WORDS = ("collect", "publish", "migrate")
DAY = 24 * 60 * 60
#: Suffixes of files to compress, and the size in bytes above which that helps.
COMPRESSED = {".css", ".js", ".json", ".svg", ".txt"}
COMPRESSED_BYTES = 512


def collect() -> None:
    """Check the site, and collect its static files in STATIC_ROOT, with hashes in their names and compressed copies.

    The production settings need their values, though none of them is used. Exits with a message if a check fails, or if
    the list of the names is missing, without which no page can be rendered. Files that are kept elsewhere (S3) are
    collected when the release migrates: only there are the values real.
    """
    from django.conf import settings
    from django.core.management import CommandError, call_command

    set_up()
    try:
        call_command("check")
        if not collects("disk"):
            return
        call_command("collectstatic", interactive=False, verbosity=0)
    except CommandError as error:
        sys.exit(str(error))
    root = Path(settings.STATIC_ROOT)
    listed = root / "staticfiles.json"
    if not listed.is_file() or not listed.stat().st_size:
        sys.exit(f"{listed}: collectstatic did not create it; check STORAGES in the settings")
    published = os.environ.get("PUBLISHED_STATIC")
    print(f"static files: {compress(root, Path(published) if published else None)} compressed", flush=True)


def collects(where: str) -> bool:
    """Whether the project's static files are kept on `disk`, or `elsewhere`; neither without the app of these files."""
    from django.apps import apps

    if not apps.is_installed("django.contrib.staticfiles"):
        return False
    from django.contrib.staticfiles.storage import StaticFilesStorage, staticfiles_storage

    return (where == "disk") == isinstance(staticfiles_storage, StaticFilesStorage)


def compress(root: Path, published: Path | None = None) -> int:
    """Create a .gz beside each file that is worth it, deterministically. Returns their number.

    What is the same is compressed once: a file has the same content as its copy without a hash in its name, and most
    files are those of the release before, which lie in ``published``.
    """
    found = (path for path in root.rglob("*") if path.suffix in COMPRESSED and path.is_file())
    wanted = [path for path in found if path.stat().st_size > COMPRESSED_BYTES]
    done: dict[bytes, Path] = {}
    for path in sorted(wanted, key=is_mutable):
        beside = path.with_name(f"{path.name}.gz")
        earlier = published / beside.relative_to(root) if published and not is_mutable(path) else None
        content = path.read_bytes()
        same = done.get(digest := hashlib.sha256(content).digest())
        if not same and earlier and holds(earlier, content):
            same = earlier
        if same:
            shutil.copyfile(same, beside)
        else:
            beside.write_bytes(gzip.compress(content, 9, mtime=0))
        done[digest] = beside
        shutil.copystat(path, beside)
    return len(wanted)


def holds(compressed: Path, content: bytes) -> bool:
    """Whether a compressed file is there and whole, and has this content: a power failure may have emptied it."""
    try:
        return gzip.decompress(compressed.read_bytes()) == content
    except (OSError, EOFError, zlib.error):
        return False


def publish(source: Path, target: Path) -> int:
    """Copy new files, each completely or not at all; touch those still in use. Returns the number of new files."""
    new = 0
    for path in source.rglob("*"):
        if path.is_dir():
            continue
        published = target / path.relative_to(source)
        if published.exists() and published.stat().st_size == path.stat().st_size and not is_mutable(path):
            published.touch()
            continue
        published.parent.mkdir(parents=True, exist_ok=True)
        # Not the process id: a process in another container may have the same.
        unfinished = published.with_name(f".{published.name}.{uuid4().hex}.part")
        shutil.copyfile(path, unfinished)
        unfinished.chmod(0o644)
        unfinished.replace(published)
        new += 1
    return new


def is_mutable(path: Path) -> bool:
    """Whether a file may change under the same name: it has no hash in its name (`base.d41d8cd98f00.css` has one)."""
    parts = path.name.removesuffix(".gz").split(".")
    return not any(len(part) == 12 and set(part) <= set("0123456789abcdef") for part in parts[1:])


def prune(target: Path, seconds: float) -> int:
    """Remove files that no release has used for so long, and empty folders. Returns the number of removed files."""
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

    django.setup()


def migrate() -> None:
    """Apply the migrations. A second process, such as a swarm's job that runs twice, waits and has nothing to do."""
    from django.db import connection

    from portico_site import patience, roles

    set_up()
    if (url := os.environ.get(roles.DATA_URL)) and os.environ.get(roles.OWN) == "1":
        with patience.one_at_a_time(connection):
            roles.prepare(connection, url)
    with patience.one_at_a_time(connection):
        _migrate()
    if os.environ.get("PORTICO_CELERY") and os.environ.get("CELERY_BROKER_URL", "").startswith("amqp"):
        declare_queues()


def declare_queues() -> None:
    """Declare the queues in the stack's own broker: web may not, and must be able to send before a worker is there."""
    from portico_site import publisher

    if os.environ.get(publisher.VARIABLE) == "declare":
        from portico_site.celery import app

        publisher.declare(app)


def _migrate() -> None:
    from django.core.management import CommandError, call_command
    from django.db import connection
    from django.db.migrations.recorder import MigrationRecorder

    from portico_site import patience

    is_new = MigrationRecorder.Migration._meta.db_table not in connection.introspection.table_names()
    patience.patiently(connection, lambda: call_command("migrate", interactive=False))
    samples = os.environ.get("PORTICO_SAMPLES")
    if samples and is_new:
        print(f"samples: {samples}", flush=True)
        try:
            call_command(samples)
        except CommandError as error:
            sys.exit(f"samples: {error}; set project.samples in invoke.yaml, then run `invoke manage -- COMMAND`")
    if collects("elsewhere"):
        call_command("collectstatic", interactive=False, verbosity=0)


def main() -> None:
    wanted = sys.argv[1:] or ["publish", "migrate"]
    for word in wanted:
        if word not in WORDS:
            sys.exit(f"release {word}: unknown step; there are: {', '.join(WORDS)}")
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
