"""What `status` says of the backups: from the ledger, so that no repository is asked. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def remarks(done: Sequence[Mapping[str, str]]) -> list[str]:
    """When the last backup was made, and when one was last proven. ``done``: the actions, oldest first."""
    return [
        f"last backup: {_last(done, 'backup', 'backup ')}",
        f"last proven restore: {_last(done, 'proof', 'proven: ')}",
    ]


def _last(done: Sequence[Mapping[str, str]], action: str, begins: str) -> str:
    good = [each for each in done if each.get("action") == action and each.get("outcome", "").startswith(begins)]
    if not good:
        return f"none; `invoke backup{' --verify' if action == 'proof' else ''}` makes one"
    later = [each for each in done[done.index(good[-1]) + 1 :] if each.get("action") == action]
    failed = f"; {len(later)} failed since: {later[-1].get('outcome', '')}" if later else ""
    return f"{good[-1].get('end', good[-1].get('at', ''))[:16]}, {good[-1]['outcome']}{failed}"
