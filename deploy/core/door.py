"""Starts Invoke in the tools environment, with an error within it in one line: `python -P door.py INVOKE ARGUMENTS`.

`bootstrap` runs it. Invoke reads the files of the user and of the machine before it reads `tasks.py`.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from deploy.core import options

    options.told_in_one_line(ROOT)
    script = sys.argv[1]
    sys.argv = ["invoke", *sys.argv[2:]]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
