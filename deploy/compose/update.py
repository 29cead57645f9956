"""An update: another release beside the one that serves, nginx switched to it, the old one drained; and its undoing.

Compose itself replaces a container by stopping it first. Measurements led to this order, which loses no request:

1. nginx gets the old replicas by name, so that a replica gets no traffic just because it has started.
2. The new replicas start, and must answer their probes. Beat is replaced.
3. nginx gets the new replicas, and reloads.
4. When the nginx processes that knew the old replicas have ended, no request is on its way to those, and they stop. If
   they stopped earlier, requests that wait to be accepted would fail, because nginx rightly never resends a POST.

What need not wait for each other runs side by side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from deploy.compose import journal, ledger, maintenance, versions
from deploy.compose.containers import (
    ENDED,
    START,
    Replica,
    await_healthy,
    create_replicas,
    names,
    remove,
    replicas,
    start_replicas,
    stop_replicas,
)
from deploy.compose.definitions import bring_accounts, changed, definitions, record
from deploy.compose.front import switch_upstream
from deploy.compose.journal import site_replicas
from deploy.compose.ledger import Release
from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.running import Notify, run_once
from deploy.core.shell import Run
from deploy.core.together import side_by_side
from deploy.docker import additions, images
from deploy.docker.kinds import BEAT
from deploy.docker.mounted import Mounted, mounted
from deploy.docker.stack import DATASTORES, Stack, absent_steps, files_of, secret_steps
from deploy.project import limits, proxy


def wanted(stack: Stack, running: Sequence[Replica]) -> dict[str, int]:
    """The number of replicas of each rolling service: from `.env`, else as many as run, else the default."""
    counts = Counter(each.service for each in running if each.running)
    return {name: number for name, number in stack.replicas(counts).items() if maintenance.free(stack, [name])}


@dataclass(frozen=True)
class Wanted:
    """The release to deploy: a function that fetches its image, the text of its `.env`, and the release it repeats."""

    fetch: Callable[[], None]
    env: str
    of: int = 0

    def release(self, stack: Stack) -> Release:
        """Its record; the image must have been fetched."""
        return ledger.coming(stack, images.image_id(stack.image), images.revision_of(stack.image), self.of)


@dataclass(frozen=True)
class Before:
    """The state before an update, for `restore`."""

    containers: Sequence[Replica]
    image: str
    mounted: Mounted

    @property
    def serving(self) -> list[str]:
        """The names of the replicas that get requests."""
        return names([each for each in self.containers if each.running], "app")


def update(stack: Stack, what: Wanted, notify: Notify) -> Release:
    """Replace the running release without losing a request. A failed update is undone by `restore`."""
    now = site_replicas(stack)
    remove([each for each in now if each.service in stack.alone and each.state in ENDED])
    old = [each for each in now if each.state not in ENDED]  # a replica that keeps restarting must be replaced too
    before = Before(old, next(each.image for each in old if each.service == "app" and each.running), mounted(stack))
    counts = wanted(stack, old)
    shell.perform(absent_steps(stack))
    up(stack, *stack.datastores, recreate=False)
    for service in additions.services(stack):
        up(stack, service)
    defined = definitions(stack)
    other = changed(stack, defined)
    for service in set(other) & set(DATASTORES):
        then = versions.replacement(stack) if service == "postgres" else versions.replaced(service)
        notify(f"{service}: its definition has changed, but it keeps running with the earlier one; {then}")
    try:
        what.fetch()
        coming = what.release(stack)
        journal.begin(stack, old, coming, what.env)
        shell.perform(secret_steps(stack))
        bring_accounts(stack, before.mounted)
        # The file must name the serving replicas before anything starts: recovery after a kill depends on it.
        side_by_side(lambda: release(stack, notify), lambda: switch_upstream(stack, before.serving))
        new = start_beside(stack, counts, notify)
        notify(f"switch nginx to {', '.join(names(new, 'app'))}")
        switch_upstream(stack, names(new, "app"), wait=True)
        journal.serves(stack)
    except BaseException:
        restore(stack, before, notify)
        raise
    notify(f"drain and stop {', '.join(each.name for each in old)}")

    def use_the_name() -> None:
        stop_replicas([each for each in old if each.service == "app"])
        if "nginx" in other:
            notify("replace nginx, because its definition has changed: connections are refused for a moment")
        if "nginx" in other or not any(each.running for each in replicas(stack.name, "nginx")):
            up(stack, "nginx", recreate="nginx" in other)
        record(stack, ["nginx"], defined)
        switch_upstream(stack, proxy.ALL)

    # Workers end their tasks, which takes longest.
    side_by_side(lambda: stop_replicas([each for each in old if each.service != "app"]), use_the_name)
    ledger.add(stack, coming)
    journal.end(stack)
    return coming


def start_beside(stack: Stack, counts: Mapping[str, int], notify: Notify) -> list[Replica]:
    """Start the new release beside the old one, and replace beat; returns the new replicas when all of them are ready.

    Raises `Failure` if one does not become ready.
    """
    alone = maintenance.free(stack, stack.alone)
    beat = [service for service in alone if service == BEAT]
    started = ", ".join(f"{number} {service}" for service, number in counts.items())
    notify(f"start beside the old ones: {started}{'; replace beat' if beat else ''}")
    fresh = create_replicas(stack, {**counts, **dict.fromkeys(beat, 1)})
    new = [each for each in fresh if each.service != BEAT]

    def replace_beat() -> None:
        for service in beat:
            replace_alone(stack, service, fresh)

    side_by_side(lambda: start_replicas(stack, new), replace_beat)
    for service in alone:
        if service != BEAT:  # the old one ends its task before the new one starts
            notify(f"replace {service}, when the old one has ended")
            replace_alone(stack, service, create_replicas(stack, {service: 1}))
    return new


def replace_alone(stack: Stack, service: str, fresh: Sequence[Replica]) -> None:
    """Start the new replica of a service that must have one. The old one is stopped first, and is kept for `restore`.

    Raises `Failure` if the new one does not become healthy.
    """
    one = [each for each in fresh if each.service == service][:1]
    journal.start_alone(stack, service, one)
    await_healthy(one)


def restore(stack: Stack, before: Before, notify: Notify) -> None:
    """Restore the state before an update: secrets, image, beat, nginx, containers.

    A part that cannot be restored is reported, and the rest is still restored. The journal is kept in that case, and
    the next command restores what is missing.
    """

    def tried(what: str, do: Callable[[], object]) -> bool:
        try:
            do()
        except Failure as failure:
            said.append(f"cannot restore {what}, the next command tries again: {failure.message}")
            return False
        return True

    def stop_new() -> None:
        known = {each.name for each in before.containers}
        stop_replicas([each for each in site_replicas(stack) if each.name not in known])

    def start_alone(*services: str) -> None:
        for service in services:
            journal.start_alone(stack, service, [each for each in before.containers if each.service == service])

    said: list[str] = []
    files = before.mounted.nginx
    notify("restore the earlier release")
    tried("secrets", lambda: shell.perform(files_of(stack, before.mounted.secrets)))
    tried("the image", lambda: shell.run(Run(["docker", "tag", before.image, stack.image]), capture=True))
    # Before the new workers are stopped: that takes as long as their tasks, and beat would be missing meanwhile.
    tried("beat", lambda: start_alone(*stack.alone[:1]))
    # In this order: nginx must not use stopped replicas, and by the service's name it would use the new ones too.
    switched = tried("nginx", lambda: switch_upstream(stack, before.serving, wait=True, files=files))
    if (
        tried("workers", lambda: start_alone(*stack.alone[1:]))
        and switched
        and tried("the number of containers", stop_new)
        and tried("nginx", lambda: switch_upstream(stack, proxy.ALL, files=files))
        and not said
    ):
        tried("the journal", lambda: journal.end(stack))
    for line in said:
        notify(line)


# --- Steps ---


def up(stack: Stack, *services: str, recreate: bool = True) -> None:
    """Start services and wait until they are healthy; with ``recreate``, replace those that changed."""
    words = [] if recreate else ["--no-recreate"]
    shell.run(stack.compose(*START, *words, *services), capture=True)
    await_healthy(replicas(stack.name, *services))


def release(stack: Stack, notify: Notify) -> None:
    """Run the one-shot service that migrates and publishes static files. Raises `Failure` if it fails."""
    notify("release: static files, migrations")
    command = stack.compose("run", "--rm", "-T", "--no-deps", "release")
    run_once("release", command, stack.project.run_folder, limits.MIGRATE)
