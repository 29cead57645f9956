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

DAY = 24 * 60 * 60


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
        unfinished = published.with_name(f".{published.name}.{os.getpid()}.part")
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


def main() -> None:
    wanted = sys.argv[1:] or ["publish", "migrate"]
    published = os.environ.get("PUBLISHED_STATIC")
    if published and "publish" in wanted:
        new = publish(Path(os.environ["STATIC_ROOT"]), Path(published))
        gone = prune(Path(published), float(os.environ.get("PUBLISHED_STATIC_DAYS", "30")) * DAY)
        print(f"static files: {new} new, {gone} of earlier releases removed", flush=True)
    if "migrate" in wanted:
        os.execvp(sys.executable, [sys.executable, "manage.py", "migrate", "--noinput"])


if __name__ == "__main__":
    main()
