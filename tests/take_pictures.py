"""The pictures of README.md, taken of the real thing: `.venvs/test/bin/python -m tests.take_pictures [site] [deploy]`.

`site` needs Chromium; `deploy` an engine with the rig's images (`tests/rig/up`).
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests import support
from tests.bench.hosts import EVERYTHING, change, fleet
from tests.rig.visitor import Visitor
from tests.support import Dev

PICTURES = support.ROOT / "tests" / "pictures"
#: Of the terminal in the picture.
COLUMNS, ROWS = 92, 30


def site() -> None:
    """The page of a poll's results, as a browser on a laptop shows it."""
    with tempfile.TemporaryDirectory() as folder, Dev(support.ROOT, Path(folder) / "run") as dev:
        dev.wait_ready()
        vote(dev.url, "/1/", [0, 1, 1, 0, 1, 1, 2, 1, 1, 0, 1])
        words = ["chromium", "--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=960,360"]
        picture = PICTURES / "site.png"
        subprocess.run(
            [*words, f"--user-data-dir={folder}/profile", f"--screenshot={picture}", f"{dev.url}/1/results/"],
            check=True,
            capture_output=True,
            timeout=60,
        )


def vote(url: str, poll: str, choices: list[int]) -> None:
    """Votes of so many visitors, for the choices in their order on the page."""
    for number in choices:
        visitor = Visitor(url)
        values = re.findall(r'name="choice" value="(\d+)"', visitor.get(poll).text)
        visitor.post(poll, choice=values[number])


def deploy() -> None:
    """The screen at the end of a deploy to two hosts."""
    roles = {"web1": EVERYTHING, "web2": ("web",)}
    with tempfile.TemporaryDirectory() as folder, fleet(Path(folder), roles) as made:
        change(made)
        command = ["python3", "tasks.py", "remote-deploy", "--env", "test"]
        said = on_a_terminal(command, made.project, {"SITE_SECRET_KEY": made.secret_key})
        draw("invoke remote-deploy --env production", said, PICTURES / "deploy.svg")


def on_a_terminal(command: list[str], cwd: Path, env: dict[str, str]) -> str:
    """What a command has left on a terminal when it is done."""
    ours, theirs = pty.openpty()
    more = {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(ROWS), **env}
    with subprocess.Popen(
        command, cwd=cwd, env=support.environment(**more), stdin=theirs, stdout=theirs, stderr=theirs
    ) as child:
        os.close(theirs)
        said = b""
        try:
            while piece := os.read(ours, 65536):
                said += piece
        except OSError:
            pass  # how a terminal on Linux says that nobody is at its other end any more
    os.close(ours)
    assert child.returncode == 0, said.decode()
    # A live table is drawn over itself: what stands there in the end comes after the last move upwards.
    return re.split(r"(?:\r|\x1b\[2K|\x1b\[1A|\x1b\[\d*A)*\x1b\[1A(?:\r|\x1b\[2K)*", said.decode())[-1]


def draw(prompt: str, said: str, picture: Path) -> None:
    """A terminal's text as an SVG, without the fonts that Rich would have loaded from elsewhere."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {prompt}"))
    console.print(Text.from_ansi(re.sub(r"\x1b\[\?25[hl]", "", said).replace("\r", "")))
    picture.write_text(re.sub(r"\s*@font-face \{.*?\}", "", console.export_svg(title="a deploy"), flags=re.DOTALL))


def main() -> None:
    """All pictures, or the named ones."""
    PICTURES.mkdir(exist_ok=True)
    for name in sys.argv[1:] or ["site", "deploy"]:
        {"site": site, "deploy": deploy}[name]()


if __name__ == "__main__":
    main()
