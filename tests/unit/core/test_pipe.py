"""Two commands at once: the second reads what the first writes."""

import sys
import time

import pytest

from deploy.core import pipe
from deploy.core.errors import Failure
from deploy.core.shell import Run

MANY = Run([sys.executable, "-c", "import sys; sys.stdout.write('x' * 1_000_000); sys.stderr.write('e' * 200_000)"])
COUNT = Run([sys.executable, "-c", "import sys; print(len(sys.stdin.read())); sys.stderr.write('e' * 200_000)"])


def test_what_one_writes_the_other_reads_however_much_both_complain() -> None:
    one, two = pipe.run(MANY, COUNT)
    assert (one.code, two.code, two.stdout.strip()) == (0, 0, "1000000")
    assert len(one.stderr) == len(two.stderr) == 200_000


def test_the_script_of_the_first_is_its_input() -> None:
    one, two = pipe.run(Run(["sh", "-s"], input="printf abc; exit 3\n"), Run(["cat"]))
    assert (one.code, two.stdout) == (3, "abc")


def test_one_that_ends_early_ends_the_other() -> None:
    endless = Run([sys.executable, "-c", "while True: print('x' * 1000)"])
    one, two = pipe.run(endless, Run(["false"]))
    assert one.code != 0
    assert two.code == 1


def test_a_limit_stops_both() -> None:
    began = time.monotonic()
    with pytest.raises(Failure, match=r"has not ended within 0\.2 s"):
        pipe.run(Run(["sleep", "60"], seconds=0.2), Run(["cat"]))
    assert time.monotonic() - began < 10
