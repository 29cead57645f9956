"""Write an export: all votes as CSV, row by row, completely or not at all."""

import csv
import os
import shutil
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from django.conf import settings
from django.utils import timezone

from polls.models import Export, Vote

#: Rows fetched from the database at a time; memory grows with this, not with the table.
CHUNK = 2000
#: Seconds between two reports of progress.
REPORT_SECONDS = 0.5
#: The beginning of the owner of an export who is a browser, not a user.
VISITOR = "visitor:"
#: How many recent exports are looked at for a file to share.
LOOKED_AT = 10
#: A spreadsheet reads a cell with such a beginning as a formula (OWASP, "CSV Injection").
FORMULA = ("=", "+", "-", "@", "|", "%", "\t", "\r", "\n")
#: What some spreadsheets leave out before they look.
IGNORED = " \ufeff\u00a0"

HEADER = ("vote", "cast at (UTC)", "poll", "answer")


class DiskNearlyFullError(Exception):
    """There is too little room for another file."""


def is_disk_nearly_full() -> bool:
    """Whether less than `EXPORTS_FREE_BYTES` are free where exports are written; not known before there is a folder."""
    try:
        return bool(shutil.disk_usage(str(settings.PROTECTED_ROOT)).free < settings.EXPORTS_FREE_BYTES)
    except OSError:
        return False


def harmless(cell: str) -> str:
    """Escape a text that a spreadsheet would evaluate as a formula. It takes full-width signs for the usual ones."""
    read = cell if cell.isascii() else unicodedata.normalize("NFKC", cell)
    return f"'{cell}" if read.lstrip(IGNORED).startswith(FORMULA) else cell


def rows() -> Iterator[tuple[int, str, str, str]]:
    """Every vote in order, fetched in chunks."""
    votes = Vote.objects.order_by("pk").values_list("pk", "cast_at", "question__text", "choice__text")
    cast_at: datetime
    for pk, cast_at, question, choice in votes.iterator(chunk_size=CHUNK):
        yield pk, cast_at.isoformat(timespec="seconds"), harmless(question), harmless(choice)


def write(export: Export) -> None:
    """Write the file of an export and record it. Repeated or concurrent runs result in one complete file.

    The rows are written to a temporary file, which gets its final name when it is complete. Raises OSError if writing
    fails; the incomplete file is then removed. Raises `DiskNearlyFullError` before it begins.

    Who asks within `EXPORTS_SHARE_SECONDS` gets the same file under another name, which takes no room.
    """
    path = export.path
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    if other := share(export):
        record(export, rows=other.rows_done, size=0)
        return
    if is_disk_nearly_full():
        raise DiskNearlyFullError
    unfinished = path.with_name(f".{path.stem}.{uuid4().hex}.part")
    begun = time.time()
    report = reporter(export, Vote.objects.count())
    try:
        with unfinished.open("w", newline="", encoding="utf-8") as file:
            unfinished.chmod(0o640)  # the group is the web server's, which serves it
            count = write_rows(file, rows(), report)
            file.flush()
            os.fsync(file.fileno())
        os.utime(unfinished, (begun, begun))  # `share` looks at it: what was cast later is not in the file
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    record(export, rows=count, size=path.stat().st_size)


def share(export: Export) -> Export | None:
    """Give an export the file of a recent one, if one is here that has all votes of its owner; returns that one.

    Not for signed-in users, whose votes are not known by their name.
    """
    if settings.EXPORTS_PAUSE or not settings.EXPORTS_SHARE_SECONDS or not export.owner.startswith(VISITOR):
        return None
    since = export.created_at - timedelta(seconds=settings.EXPORTS_SHARE_SECONDS)
    recent = Export.objects.filter(state=Export.State.DONE, touched_at__gte=since).exclude(pk=export.pk)
    for other in recent.order_by("-touched_at")[:LOOKED_AT]:
        with suppress(OSError):  # on another machine, already removed, or where files have one name only
            begun = datetime.fromtimestamp(other.path.stat().st_mtime, tz=UTC)
            own = Vote.objects.filter(visitor=export.owner.removeprefix(VISITOR), cast_at__gte=begun)
            if begun < since or own.exists():
                continue
            export.path.unlink(missing_ok=True)  # of a run that was interrupted
            os.link(other.path, export.path)
            return other
    return None


def record(export: Export, *, rows: int, size: int) -> None:
    """Record that an export is done. ``size``: the bytes that its file takes on the disk; 0 for a shared one."""
    now = timezone.now()
    Export.objects.filter(pk=export.pk, state__in=Export.OPEN).update(
        state=Export.State.DONE,
        rows_done=rows,
        rows_total=rows,
        size=size,
        touched_at=now,
        expires_at=now + timedelta(seconds=settings.EXPORTS_KEEP_SECONDS),
    )


def write_rows(file: object, lines: Iterable[tuple[int, str, str, str]], report: Callable[[int], None]) -> int:
    """Write a header and the lines; returns the number of lines."""
    writer = csv.writer(file)  # type: ignore[arg-type]
    writer.writerow(HEADER)
    count = 0
    for count, line in enumerate(lines, start=1):
        writer.writerow(line)
        if count % CHUNK == 0:
            report(count)
    return count


def reporter(export: Export, total: int) -> Callable[[int], None]:
    """Record that an export runs; returns a function that records its progress, at most every `REPORT_SECONDS`."""
    running = Export.objects.filter(pk=export.pk, state__in=Export.OPEN)
    running.update(state=Export.State.RUNNING, rows_done=0, rows_total=total, touched_at=timezone.now())
    last = time.monotonic()

    def report(done: int) -> None:
        nonlocal last
        if settings.EXPORTS_PAUSE:
            time.sleep(settings.EXPORTS_PAUSE)
        if time.monotonic() - last >= REPORT_SECONDS:
            last = time.monotonic()
            running.update(rows_done=done, rows_total=max(total, done), touched_at=timezone.now())

    report(0)
    return report


def remove_expired() -> tuple[int, int]:
    """Remove expired files and records; returns the number of each.

    An export whose task has not reported for longer than any task may run is marked as failed.
    """
    now = timezone.now()
    silent = now - timedelta(seconds=2 * settings.CELERY_TASK_TIME_LIMIT)
    Export.objects.filter(state=Export.State.RUNNING, touched_at__lt=silent).update(
        state=Export.State.FAILED, reason="it was interrupted."
    )
    files = 0
    for export in Export.objects.filter(state=Export.State.DONE, expires_at__lte=now):
        export.path.unlink(missing_ok=True)
        files += Export.objects.filter(pk=export.pk).update(state=Export.State.EXPIRED)
    ended = (Export.State.EXPIRED, Export.State.FAILED)
    forgotten = now - timedelta(seconds=settings.EXPORTS_REMEMBER_SECONDS)
    records, _ = Export.objects.filter(state__in=ended, touched_at__lt=forgotten).delete()
    remove_orphans(now - timedelta(seconds=2 * settings.CELERY_TASK_TIME_LIMIT))
    return files, records


def remove_orphans(before: datetime) -> None:
    """Remove files without a record: partial files of killed tasks, and files of deleted records."""
    folder = Path(str(settings.PROTECTED_ROOT))
    if not folder.is_dir():
        return
    known = {str(pk) for pk in Export.objects.filter(state=Export.State.DONE).values_list("pk", flat=True)}
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            if path.stem not in known and path.stat().st_mtime < before.timestamp():
                path.unlink()
