"""The words of help that several tasks have in common, by the option."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

ON = "native, dev, prod, swarm, or an environment of hosts (default: where the site runs on this machine)."
#: What an option means, wherever a task does not say what it means there.
COMMON = {
    "dry_run": "Print the commands, ready to paste, and change nothing.",
    "yes": "Do not ask.",
    "on": ON,
    "stack": "An older name of --on.",
    "host": "A manager of the swarm, such as ssh://me@manager.example.org (default: this machine's engine).",
    "context": "A docker context that connects to a manager (instead of --host).",
    "env": "An environment of hosts: NAME of deploy/environments/NAME.yaml.",
    "secret": "A name of `secrets` in the file, such as SECRET_KEY; or some of database,broker,redis.",
    "only": "Comma-separated hosts (default: all that run the site).",
}
ON_OR_NATIVE = f"{ON[:-2]}, else native)."
HERE = "An environment beside the usual one, such as staging: NAME of the file .env.NAME (default: that of .env)."
LAYER = "An environment: base, dev, prod, test or tools."
RESTORE = {
    "to": "The backup: its id or the beginning of it, or latest.",
    "keep_code": "Keep the release that serves, and apply its migrations (default: the release of the backup serves).",
}


def texts(options: Iterable[str], grouped: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """What each option of a task means: ``own`` first, then what its group says."""
    return {**{name: COMMON[name] for name in options if name in COMMON}, **grouped, **own}
