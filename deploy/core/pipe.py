"""Two commands at once, of which the second reads what the first writes: no file and no memory holds it whole."""

from __future__ import annotations

import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from deploy.core.errors import Failure
from deploy.core.shell import Result, Run, end, heredoc, start


def rendered(first: Run, second: Run) -> str:
    """Both, as a line of shell."""
    line = replace(first, input="").render()
    if not first.input:
        return f"{line} | {second.render()}"
    opened, _, text = heredoc(line, first.input).partition("\n")
    return f"{opened} | {second.render()}\n{text}"


def run(first: Run, second: Run) -> tuple[Result, Result]:
    """Run both and wait for both; returns their results, whatever these are. Output and errors are captured.

    One that ends early ends the other. Raises `Failure` if the first exceeds its time limit. If we are interrupted,
    both are stopped first.
    """
    children = [start(first, capture=True)]
    try:
        [one] = children
        assert one.stdout is not None
        two = start(second, capture=True, given=one.stdout)
        children.append(two)
        one.stdout.close()  # ours: so that the first notices when the second has ended
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(two.communicate)
            try:
                _, said = one.communicate(first.input or None, timeout=first.seconds)
            except BaseException:
                two.terminate()  # the pool waits for it
                raise
            stdout, stderr = answer.result()
    except BaseException as error:
        for child in children:
            end(child)
        if isinstance(error, subprocess.TimeoutExpired):
            raise Failure(f"`{shlex.join(first.argv)}`: has not ended within {first.seconds:g} s") from None
        raise
    return Result(one.returncode, "", said or ""), Result(two.returncode, stdout or "", stderr or "")
