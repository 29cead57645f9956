"""Files that several sites, and others, have lines in: what stays when the lines of one site change or go. Pure."""

from __future__ import annotations

#: In the first line of each file that setup writes.
WRITTEN = "Written by remote-setup"
#: Between an earlier version's lines and those of a file that was there before.
REST = "# --- End of remote-setup's lines. Those below were there before.\n"


def merged(ours: str, before: str, *, earlier: bool = False) -> str:
    """The lines of a site with what others have: in the place of the site's old lines, else with these first.

    The first and the last of the lines name the site. ``earlier``: an earlier version has written the whole file for
    this site, up to what was there before.
    """
    first, last = _ends(ours)
    if first in before:
        above, _, rest = before.partition(first)
        return above + ours + rest.partition(last)[2]
    if earlier and WRITTEN in before.partition("\n")[0]:
        return ours + before.partition(REST)[2]
    return ours + before


def without(ours: str, before: str) -> str:
    """What others have, without the lines of a site."""
    first, last = _ends(ours)
    above, _, rest = before.partition(first)
    return above + rest.partition(last)[2] if first in before else before


def _ends(ours: str) -> tuple[str, str]:
    lines = ours.splitlines()
    return f"{lines[0]}\n", f"{lines[-1]}\n"
