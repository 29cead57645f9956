"""The native runtime: web, workers and beat as processes of this machine, with embedded servers.

`plan` decides everything; `development` acts. honcho runs the processes in parallel and prefixes their output.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, urlsplit

from deploy.core.action import Action
from deploy.core.errors import Failure
from deploy.core.running import (
    HOST,
    Notify,
    alone,
    announce,
    complaint,
    free_port,
    port_in_use,
    port_taken,
    run_once,
)
from deploy.core.shell import Run
from deploy.project import assets, mail, services, site, sources
from deploy.project.config import Project
from deploy.project.declared import server_values
from deploy.venvs import build
from deploy.venvs.store import Store

#: The port of a Redis of this machine.
REDIS_PORT = 6379
#: Seconds for a running task to finish when everything stops; after that, the task returns to its queue.
GRACE_SECONDS = 10
#: Seconds until honcho kills what has not ended: more than a reloader needs for both of its attempts.
KILL_SECONDS = GRACE_SECONDS + 10


@dataclass(frozen=True)
class Plan:
    """What `invoke dev --native` runs: ``first`` in sequence, then ``processes`` in parallel until they are stopped."""

    project: Project
    port: int
    first: dict[str, Run]
    processes: dict[str, Run]
    #: Files that the workers and beat create when they are ready.
    ready_files: tuple[Path, ...]

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/"


def environment(project: Project, given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Environment variables for the site: what it is, and embedded servers in place of those that are not ``given``."""
    run = project.run_folder
    embedded = {
        "DATABASE_URL": f"sqlite:///{quote(str(run / 'db.sqlite3'))}",
        **({"CELERY_BROKER_URL": "filesystem://"} if project.names.celery else {}),
        **(redis_variables(project, given.get("REDIS_URL", "")) if project.redis else {}),
        "SECRET_KEY": site.STAND_IN_KEY,
        "ALLOWED_HOSTS": "localhost,127.0.0.1",
        "STATIC_ROOT": str(run / "static"),
        "PROTECTED_ROOT": str(run / "protected"),
        "PROTECTED_URL": "",
    }
    return {
        **site.variables(project, site.DEVELOPMENT),
        **{name: value for name, value in embedded.items() if not (given.get(name) or given.get(f"{name}_FILE"))},
        "RUN_DIR": str(run),
        "PYTHONPATH": str(project.root / site.KIT),
        "PYTHONUNBUFFERED": "1",
    }


def redis_variables(project: Project, named: str = "") -> dict[str, str]:
    """Redis on this machine. The broker stays embedded: only a server that is named is one."""
    assert project.redis
    address = urlsplit(named or f"redis://{HOST}:{REDIS_PORT}")._replace(path="", query="").geturl()
    return dict(services.variables(replace(project.redis, broker=False), address))


def own_variables(project: Project) -> dict[str, str]:
    """The project's own variables in `.env`. They are inherited, not part of a command: one may be a secret.

    Raises `Failure` for a secret whose source does not give it.
    """
    given = server_values(project.root)
    found = {name: given[name] for name in project.env if name in given and name not in os.environ}
    for name in [name for name in found if project.env[name] == "secret"]:
        try:
            if source := sources.named(found[name]):
                found[name] = sources.fetch(source, project.root, os.environ)
        except (ValueError, Failure) as error:
            raise Failure(f".env: {name}: {error}") from None
    return found


def python(project: Project, store: Store, *words: str) -> Run:
    """Python in the dev environment, in the folder of manage.py, as on every runtime."""
    executable = str(store.link("dev") / "bin" / "python")
    return Run([executable, *words], environment(project), cwd=project.site_folder)


def manage(project: Project, store: Store, arguments: list[str]) -> Run:
    """The command that runs manage.py with these arguments in the dev environment."""
    return python(project, store, "manage.py", *arguments)


def plan(project: Project, store: Store, port: int, workers: int) -> Plan:
    """Decide what runs; ``workers`` is the number of workers of the default kind. Raises `Failure` for one too many."""
    if workers > 1 and project.kinds and project.kinds[0].alone:
        raise Failure("--workers: there must be one: project.workers.default.alone in invoke.yaml")
    ready = project.run_folder / "ready"
    served = manage(project, store, ["runserver", "--noreload", f"{HOST}:{port}"])
    if project.names.asgi:
        served = python(project, store, "-m", "portico_site.serve", f"{HOST}:{port}")
    processes = {"web": reloading(project, store, served.argv, {})}
    background = _celery(project, store, workers) if project.names.celery else {}
    for name, command in background.items():
        processes[name] = reloading(project, store, command, {"READY_FILE": str(ready / name)})
    for name, watch in assets.watching(project.assets).items():
        # All that it has started ends with it. In a folder without code, so that only its end makes it start again.
        script = f'trap "trap - TERM; kill 0" TERM; cd "$0" || exit; ({watch}) & wait $!'
        words = ["sh", "-c", script, str(project.root)]
        processes[name] = reloading(project, store, words, {}, watch=ready)
    migrate = python(project, store, "-m", "portico_site.release", "migrate")
    samples = {"PORTICO_SAMPLES": project.samples} if project.samples else {}
    return Plan(
        project=project,
        port=port,
        first={**_front_end(project), "migrate": replace(migrate, env={**migrate.env, **samples})},
        processes=processes,
        ready_files=tuple(ready / name for name in background),
    )


def _front_end(project: Project) -> dict[str, Run]:
    """The command that builds the front end, where it never was."""
    front = project.assets
    if front is None or (project.root / front.output).is_dir():
        return {}
    return {"assets": Run(["sh", "-c", front.run], cwd=project.root, seconds=assets.BUILD_SECONDS)}


def _celery(project: Project, store: Store, workers: int) -> dict[str, list[str]]:
    """The commands of the workers and beat, by their names."""
    celery = [str(store.link("dev") / "bin" / "celery"), "--quiet", *site.CELERY]
    default, *others = project.kinds
    names = [default.process] if workers == 1 else [f"{default.process}{number}" for number in range(1, workers + 1)]
    schedule = str(project.run_folder / "celerybeat-schedule")
    return {
        # Two workers with the same node name on one machine would share a mailbox.
        **{name: [*celery, "worker", *default.words(process=name)] for name in names},
        **{kind.process: [*celery, "worker", *kind.words()] for kind in others},
        "beat": [*celery, "beat", "-s", schedule, "-l", "info"],
    }


def reloading(
    project: Project, store: Store, command: Sequence[str], more: dict[str, str], *, watch: Path | None = None
) -> Run:
    """A command that is restarted when the code changes, and stopped with us."""
    reloader = [str(store.link("tools") / "bin" / "python"), "-m", "deploy.native.reloader"]
    options = ["--watch", str(watch or project.site_folder), "--grace", str(GRACE_SECONDS)]
    return Run([*reloader, *options, "--", *command], {**environment(project), "PYTHONPATH": str(project.root), **more})


def precheck(plan: Plan) -> None:
    """Raise `Failure` for what would prevent the start: a folder that cannot be written, a server that is not there."""
    folder = plan.project.run_folder
    try:
        (folder / "ready").mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        why = f"cannot be written ({error.strerror}); change its owner or mode, or remove it"
        raise Failure(f"{folder}: {why}") from None
    if plan.project.redis and not os.environ.get("REDIS_URL") and not port_in_use(REDIS_PORT):
        raise Failure(
            f"project.services.redis: nothing listens at {HOST}:{REDIS_PORT}: start a server"
            " (`sudo apt install valkey-server`), name one with REDIS_URL, or run `invoke dev` in containers"
        )


@contextmanager
def own_port(plan: Plan) -> Iterator[None]:
    """Take the port from now on: environments and migrations may take minutes. Raises `Failure` if another has it."""
    with ExitStack() as taken:
        try:
            taken.enter_context(port_taken(plan.port, _in_use(plan.port)))
        except OSError as error:
            raise Failure(f"port {plan.port}: {error.strerror}; choose another with --port") from None
        yield


def _in_use(port: int) -> str:
    return f"port {port} is in use by another program; try --port {free_port()}"


def development(project: Project, store: Store, port: int, workers: int, notify: Notify) -> Action:
    """Prepare the database, then run everything in parallel until Ctrl-C or TERM."""
    this = plan(project, store, port, workers)

    def show() -> None:
        build.ensure(store, "dev", dry_run=True, notify=notify)
        for command in this.first.values():
            print(command.render())
        for command in this.processes.values():
            print(f"{command.render()} &")

    def do() -> None:
        precheck(this)
        folder = project.run_folder
        refusal = f"another `invoke dev` runs on {folder}; stop it first: two would share one schedule"
        with own_port(this), alone(folder / "lock", "`invoke dev`", refusal):
            if said := mail.where(project):
                notify(said)
            os.environ.update(own_variables(project))
            build.ensure(store, "dev", notify=notify)
            prepare(this)
            if port_in_use(this.port):  # by a program that takes no turns, since we began
                raise Failure(_in_use(this.port))
            run_all(this)

    return Action(show, do)


def prepare(plan: Plan) -> None:
    """Bring the database up to date. Raises `Failure` with one line; the full output is then in a log."""
    for ready_file in plan.ready_files:
        ready_file.unlink(missing_ok=True)
    for name, command in plan.first.items():
        print(f"{name} …", file=sys.stderr, flush=True)
        run_once(name, command, plan.project.run_folder)


def run_all(plan: Plan) -> None:
    """Run the processes until we are stopped. Raises `Failure` if one of them ends before that."""
    from deploy.native import side_by_side

    def announced() -> None:
        announce(plan.url, list(plan.processes), lambda: not_ready(plan), ended=lambda: False)

    code = side_by_side.run(plan.processes, patience=KILL_SECONDS, when_forked=announced)
    if code not in (0, 128 + signal.SIGINT, 128 + signal.SIGTERM):
        raise Failure("a process stopped unexpectedly; its last lines above say why", code=code)
    print("All stopped.")


def not_ready(plan: Plan) -> list[str]:
    """The processes that are not ready yet."""
    names = [path.name for path in plan.ready_files if not path.exists()]
    if names:
        return [f"{name} (has not reported that it is ready)" for name in names]
    return [f"web ({said})"] if (said := complaint(f"{plan.url}readyz")) else []
