"""The words of help that several tasks have in common, by the option."""

from __future__ import annotations

DRY_RUN = {"dry_run": "Print the commands, ready to paste, and change nothing."}
YES = {"yes": "Do not ask."}
ENV = {"env": "An environment: base, dev, prod, test or tools."}
SWARM = {
    "host": "A manager of the swarm, such as ssh://me@manager.example.org (default: this machine's engine).",
    "context": "A docker context that connects to a manager (instead of --host).",
}
ON = {
    "on": "native, dev, prod, swarm, or an environment of hosts (default: where the site runs on this machine).",
    "stack": "An older name of --on.",
    **SWARM,
}
REMOTE = {"env": "An environment of hosts: NAME of deploy/environments/NAME.yaml."}
ONLY = {"only": "Comma-separated hosts (default: all that run the site)."}
RESTORE = {
    "to": "The backup: its id or the beginning of it, or latest.",
    "keep_code": "Keep the release that serves, and apply its migrations (default: the release of the backup serves).",
}
