"""Rules about Celery: which application, how tasks are acknowledged, where beat keeps its schedule."""

from __future__ import annotations

from collections.abc import Iterator

from deploy.project import workers
from deploy.project.declared import FILE
from deploy.project.findings import Edit, Finding
from deploy.project.rules.known import Known, project
from deploy.project.source.celery import App, sent
from deploy.project.source.modules import Module
from deploy.project.source.packages import inner
from deploy.project.source.tree import Location
from deploy.project.source.values import Table, Variable, text, truth

SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
APP = "django_celery_beat"


def application(known: Known) -> Iterator[Finding]:
    """One application, or the word that there is none."""
    said, apps = known.declared.text("celery"), known.detected.celery
    if said == "none":
        return
    if said and not apps:
        yield Finding(known.declared.at("celery"), f"there is no Celery application {said}", [project("celery: none")])
    elif len(apps) > 1:
        names = ", ".join(each.name for each in apps)
        what = f"there are {len(apps)} Celery applications: {names}"
        yield Finding(apps[0].at, what, [project(f"celery: {apps[0].name}")])
    elif not apps and (evidence := _evidence(known)):
        what = "uses Celery, and no application is found: `app = Celery(…)` at the top of a module"
        yield Finding(evidence, what, [project("celery: none")])


def _evidence(known: Known) -> Location | None:
    """What says that the project uses Celery."""
    if known.detected.tasks:
        return known.detected.tasks[0].at
    for _, module in known.settings:
        for name, found in module.names.items():
            if name.startswith("CELERY_"):
                return found[-1].at
    return None


def acknowledged_early(known: Known) -> Iterator[Finding]:
    """A task that is acknowledged when it is taken is lost with the worker that took it."""
    app, module = known.app, known.production
    if not (known.serves and app and module):
        return
    early = [each.at for each in known.detected.tasks if not each.late]
    found = app.setting(module, "task_acks_late")
    if early and (found is None or truth(found.value) is False):
        what = "tasks are acknowledged when taken, so a worker that dies loses them (make them safe to run twice)"
        yield Finding(found.at if found else early[0], what, [_set(app, module, "task_acks_late", "True")], advice=True)


def queues(known: Known) -> Iterator[Finding]:
    """Tasks in a queue that no worker takes from wait for ever."""
    app, module = known.app, known.production
    if not (app and module):
        return
    declared = inner(known.declared.values, "workers")
    if not declared and app.setting(module, "task_queues"):  # a worker takes from all of these
        return
    default = app.setting(module, "task_default_queue")
    usual = text(default.value) if default else "celery"
    if not usual:  # only a run could tell
        return
    kinds = workers.parse(declared)
    taken = {queue for kind in kinds for queue in kind.queues or (usual,)}
    if usual not in taken:
        line = known.declared.lines.get("workers.default", 1)
        what = f"no worker takes from the default queue {usual!r}: its tasks wait for ever"
        yield Finding(Location(FILE, line), what, [Edit(FILE, "default: {}", line)])
    for queue, at in dict(_queues(known, app, module)).items():
        if queue not in taken | {usual}:
            lines = [project(f"{queue}: {{queues: [{queue}]}}", "workers")]
            yield Finding(at, f"no worker takes from the queue {queue!r}: its tasks wait for ever", lines)


def _queues(known: Known, app: App, module: Module) -> Iterator[tuple[str, Location]]:
    """The queues that tasks are sent to: by their decorators, where they are sent, by routes, by beat's schedule."""
    for each in known.detected.tasks:
        if each.queue:
            yield each.queue, each.at
    yield from sent(known.detected.tree, known.detected.site)
    for setting, inside in (("task_routes", ""), ("beat_schedule", "options")):
        found = app.setting(module, setting)
        table = found.value if found and isinstance(found.value, Table) else Table({}, {})
        for name in table.entries:
            entry = table.table(name).table(inside) if inside else table.table(name)
            if queue := text(entry.get("queue")):
                yield queue, entry.places.get("queue", app.at)


def always_eager(known: Known) -> Iterator[Finding]:
    """Tasks that run within the request never reach a worker."""
    app = known.app
    for role, module in known.settings if app else ():
        found = app.setting(module, "task_always_eager") if app else None
        if not (app and found and truth(found.value)) or found.sometimes:
            continue
        edits = [_set(app, module, "task_always_eager", "False")]
        if isinstance(found.value, Variable):
            edits = known.switch_off(found.value.name, found.at)
        if edits:
            what = f"{role.name} runs tasks within the request: workers get none"
            yield Finding(found.at, what, edits, advice=role.name != known.detected.production_name)


def scheduler(known: Known) -> Iterator[Finding]:
    """Beat's own scheduler keeps its state in a file beside the code."""
    app, module = known.app, known.production
    if not (known.serves and app and module) or app.setting(module, "beat_scheduler"):
        return
    has_app = APP in known.detected.apps(module)
    schedule = app.setting(module, "beat_schedule")
    at = schedule.at if schedule else app.at if has_app else None
    if at is None:
        return
    edits = [_set(app, module, "beat_scheduler", f'"{SCHEDULER}"')]
    what = "django_celery_beat is installed, and beat does not use it"
    if not has_app:
        what = "beat keeps its schedule in a file beside the code; a database would outlive releases"
        apps = module.get("INSTALLED_APPS")
        file = apps.at.path if apps else module.path
        edits += [
            Edit(file, f'INSTALLED_APPS = [*INSTALLED_APPS, "{APP}"]'),
            Edit("requirements/base.in", "django-celery-beat"),
        ]
    yield Finding(at, what, edits, "" if has_app else "invoke lock", advice=True)


def _set(app: App, module: Module, name: str, value: str) -> Edit:
    """The line that makes a setting of Celery's, in place of the one that makes it otherwise."""
    found = app.setting(module, name)
    if name in app.own or app.namespace is None:
        here = app.own.get(name)
        line = here.at.line if here else 0
        return Edit(here.at.path if here else app.at.path, f"{app.variable}.conf.{name} = {value}", line)
    place = found or app.setting(module, "broker_url") or module.get("INSTALLED_APPS")
    return Edit(
        place.at.path if place else module.path, f"{app.spelled(name)} = {value}", found.at.line if found else 0
    )


RULES = (application, acknowledged_early, queues, always_eager, scheduler)
