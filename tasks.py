"""Portico: a Django and Celery project from a laptop to a cluster.

`python3 tasks.py X` does the same as `invoke X`, and needs nothing but Python.
"""

import sys

sys.path.insert(0, __file__.rpartition("/")[0])  # also under `python3 -I`, and before PYTHONPATH
from deploy import bootstrap

bootstrap.enter(as_script=__name__ == "__main__")

import functools
import importlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from invoke import Collection, Config, Context, Exit, Task
from invoke.util import yaml

from deploy import front
from deploy.core import options
from deploy.core.errors import Failure
from deploy.core.help import HERE, LAYER, ON_OR_NATIVE, RESTORE, texts
from deploy.core.options import Lines, Manager, Where
from deploy.front import arguments_after_dashes, carry_out, checked, comma_separated, make, notify, number, store, tell
from deploy.project import file

if TYPE_CHECKING:
    from deploy.places import Place, Places
    from deploy.project.config import Project

# A task imports what it needs itself, so that `invoke --list` stays as quick as with an empty file.

options.told_in_one_line(bootstrap.ROOT)
if said := options.wrong(sys.argv) or file.wrong(bootstrap.ROOT, sys.argv, yaml, Config.global_defaults()):
    raise Exit(said, code=1)


def task(**help: str) -> Callable[[Callable[..., None]], "Task[Callable[..., None]]"]:
    """Invoke's task, without short flags that would hide Invoke's own; ``help`` goes before `deploy/core/help.py`."""

    def decorate(body: Callable[..., None]) -> "Task[Callable[..., None]]":
        @functools.wraps(body)
        def guarded(c: Context, *args: object, **kwargs: object) -> None:
            try:
                kwargs.update(options.dry_run(body, c.config._overrides, dry=bool(c.config.run.dry)))
                body(c, *args, **options.grouped(body, kwargs))
            except Failure as failure:  # its message only
                raise Exit(front.printable(failure.message), code=failure.code) from None
            except KeyboardInterrupt:
                raise Exit(code=130) from None

        guarded.__signature__ = signature = options.signature(body)  # type: ignore[attr-defined] # as functools does
        return Task(guarded, auto_shortflags=False, help=texts(signature.parameters, options.meanings(body), help))

    return decorate


def project(c: Context, runtime: str = "", env: str = "") -> "Project":
    """The validated configuration; with a runtime, only if nothing keeps the site from running there."""
    return checked(dict(c.config.project), runtime, env)


def places(c: Context, env: str = "") -> "Places":
    """The places where the site can run."""
    from deploy.places import Places

    return Places(project(c, env=env), store(), notify)


def place(c: Context, where: Where) -> "Place":
    """The place named on the command line, else the one where the site runs. Raises `Failure` if it runs nowhere."""
    return places(c, where.env).chosen(where.on or where.stack, where.host, where.context)


# --- start ----------------------------------------------------------------------------------------------------------
@task(
    native="Run as processes of this machine, even if a container engine is available.",
    port="Port on 127.0.0.1 (default: project.port).",
    workers="Number of Celery workers.",
)
def dev(c: Context, native: bool = False, port: str = "", workers: str = "1", dry_run: bool = False) -> None:
    """Run the site, workers and beat, and reload them when code changes. Ctrl-C stops them all."""
    from deploy.places import development

    action = development(functools.partial(project, c), store(), port, workers, notify, native=native)
    carry_out(action, dry_run=dry_run)


@task(
    detach="Return when the site serves. Without it, the log is shown; Ctrl-C leaves the site running.",
    tag="Deploy an earlier image by its tag instead of a new build.",
    env=HERE,
)
def prod(c: Context, detach: bool = False, tag: str = "", env: str = "", dry_run: bool = False) -> None:
    """Start the site as in production, or update it to a new release without losing a request."""
    from deploy.compose import rollout

    carry_out(rollout.production(project(c, "prod", env), tag, notify, detach=detach), dry_run=dry_run)


@task(volumes="Delete the data too, after a question.", on="dev or prod (default: the stack that runs).", env=HERE)
def down(
    c: Context,
    volumes: bool = False,
    yes: bool = False,
    on: str = "",
    stack: str = "",
    env: str = "",
    dry_run: bool = False,
) -> None:
    """Stop and remove the containers. The data is kept."""
    from deploy.compose import operate

    there = operate.known(project(c, env=env), on or stack, notify)
    carry_out(there.down(volumes=volumes), dry_run=dry_run, yes=yes)


@task()
def status(c: Context, where: Where) -> None:
    """List what runs, its state and its release; exits 1 if something is wrong."""
    tell(place(c, where).status())


@task(service="A service, such as app or celery_worker (default: all).")
def logs(c: Context, lines: Lines, where: Where, service: str = "") -> None:
    """Show the logs of the site's processes and servers, in order of time."""
    carry_out(place(c, where).logs(service, front.wanted_lines(lines)))


@task(
    service="app, celery_worker, or another kind of workers, such as celery_worker_mail.",
    replicas="Number of replicas, 1 to 64.",
)
def scale(c: Context, service: str, replicas: str, where: Where, dry_run: bool = False) -> None:
    """Change the number of replicas (until the next scale or `.env` change)."""
    count = number(replicas, "--replicas", 64)
    carry_out(place(c, where).scale(service, count), dry_run=dry_run)


@task()
def releases(c: Context, where: Where) -> None:
    """List the releases that `rollback` can restore, and the latest actions: who, when, what, and how each ended."""
    tell(place(c, where).releases())


@task(to="A release as `releases` lists it (default: the release before).")
def rollback(c: Context, where: Where, to: str = "", dry_run: bool = False) -> None:
    """Return to an earlier release, with the environment it had."""
    carry_out(place(c, where).rollback(to), dry_run=dry_run)


@task()
def doctor(c: Context) -> None:
    """Check the prerequisites, and name the command that installs each missing one."""
    from deploy import doctor as examination

    tell(examination.report(store()))


# --- data -----------------------------------------------------------------------------------------------------------
@task(verify="Instead, prove that one can be restored.", to="The one to prove (default: latest).", env=HERE)
def backup(c: Context, verify: bool = False, to: str = "", env: str = "", dry_run: bool = False) -> None:
    """Back up the data of production, or restore a backup beside the site to prove it."""
    from deploy.compose.data import verify as proof

    carry_out(proof.action(project(c, env=env), to, notify, verify=verify), dry_run=dry_run)


@task(env=HERE)
def backups(c: Context, env: str = "") -> None:
    """List the backups that `restore` can put back."""
    from deploy.compose.data import make

    tell(make.report(project(c, env=env), notify))


@task(
    **RESTORE,
    drop_old="Only remove what earlier restores have put aside.",
    env=HERE,
    into="Another environment that gets the data, such as staging. Its code stays; mail and beat are held there.",
)
def restore(
    c: Context,
    to: str = "",
    into: str = "",
    keep_code: bool = False,
    drop_old: bool = False,
    env: str = "",
    yes: bool = False,
    dry_run: bool = False,
) -> None:
    """Put a backup back into production: its data, and the release of that time. What is there is kept aside."""
    from deploy.compose.data import restore as back

    action = back.action(project(c, env=env), to, notify, into=into, keep_code=keep_code, drop_old=drop_old)
    carry_out(action, dry_run=dry_run, yes=yes)


# --- code -----------------------------------------------------------------------------------------------------------
@task(for_="native, dev, prod, swarm, or an environment of hosts (default: all but hosts).")
def check(c: Context, for_: str = "") -> None:
    """Say what the project is, and what keeps it from running; runs nothing of it, exits 1 for an error."""
    from deploy.project import check as examination

    tell(examination.report(bootstrap.ROOT, dict(c.config.project), for_, os.environ))


@task(
    path="The top of the repository.",
    name="The project's short name (default: the folder's).",
    set_aside="Rename what is in the way.",
    dry_run="Show what would be written, and write nothing.",
)
def adopt(
    c: Context, path: str, name: str = "", set_aside: bool = False, yes: bool = False, dry_run: bool = False
) -> None:
    """Put Portico into a repository with a Django project, and change no file of that project."""
    from deploy.project import adopt as adoption

    action = adoption.adoption(bootstrap.ROOT, path, name, notify, set_aside=set_aside, confirmed=yes)
    carry_out(action, dry_run=dry_run)


@task(
    to="A branch, tag or commit of Portico (default: the newest of its default branch).",
    from_="Portico's repository, a URL or a folder (default: where the installed version came from).",
    replace="Comma-separated files of Portico's that were edited here and may be replaced.",
    path="Another repository, adopted by a version without this task.",
)
def upgrade(
    c: Context, to: str = "", from_: str = "", replace: str = "", path: str = "", dry_run: bool = False
) -> None:
    """Install a newer Portico in an adopted repository. What is the project's own stays as it is."""
    from deploy.project.upgrade import plan, run

    wanted = plan.Options(path, to, from_, comma_separated(replace))
    carry_out(run.upgrade(bootstrap.ROOT, wanted, notify), dry_run=dry_run)


@task(
    name="The project's short name, in lower case.",
    package="The package with its settings (default: the name).",
    folder="The folder of manage.py (default: as it is).",
)
def rename(
    c: Context, name: str, package: str = "", folder: str = "", yes: bool = False, dry_run: bool = False
) -> None:
    """Make a clone of Portico, with its demonstration, a project of its own name."""
    from deploy.project import rename as names

    carry_out(names.renaming(project(c), name, package, folder, notify), dry_run=dry_run, yes=yes)


def _manage(c: Context, words: list[str], where: Where, *, dry_run: bool) -> None:
    there = place(c, where) if where != Where() else places(c).running() or places(c).native()
    carry_out(there.manage(words), dry_run=dry_run)


@task(on=ON_OR_NATIVE)
def manage(c: Context, where: Where, dry_run: bool = False) -> None:
    """Run manage.py where the site runs, or else in the dev environment: `invoke manage -- ARGS`."""
    _manage(c, arguments_after_dashes() or ["help"], where, dry_run=dry_run)


@task(on=ON_OR_NATIVE)
def shell(c: Context, where: Where, dry_run: bool = False) -> None:
    """Open Django's Python shell."""
    _manage(c, ["shell"], where, dry_run=dry_run)


@task(
    suite="Comma-separated names of folders in tests/ (default: all).",
    require="`all`, or comma-separated suites: a skipped test in them counts as failed.",
    processes="Number of processes that share the test files (default: 3 for all suites, else 1).",
)
def test(c: Context, suite: str = "", require: str = "", processes: str = "", dry_run: bool = False) -> None:
    """Run the tests; arguments after `--` are passed to pytest."""
    from deploy import checks
    from deploy.core.action import steps

    count = number(processes, "--processes", 32) if processes else None
    this = project(c, "native")
    *first, last = checks.tests(this, store(), suite, require, arguments_after_dashes(), processes=count)
    make("test", dry_run=dry_run)
    carry_out(steps(first, last), dry_run=dry_run)


@task(fix="Fix what can be fixed automatically.")
def lint(c: Context, fix: bool = False, dry_run: bool = False) -> None:
    """Check style, types, shell scripts and migrations."""
    from deploy import checks

    make("test", dry_run=dry_run)
    checks.lint(project(c), store(), fix=fix, dry_run=dry_run, notify=notify)


# --- images ---------------------------------------------------------------------------------------------------------
@task(
    tag="The image's tag (default: the revision).",
    platform="The platform to build for, such as linux/arm64 (default: this machine's).",
    env=HERE,
)
def build(c: Context, tag: str = "", platform: str = "", env: str = "", dry_run: bool = False) -> None:
    """Build the production image."""
    from deploy.docker import operate

    carry_out(operate.build(project(c, "prod", env), tag, platform, notify), dry_run=dry_run)


@task(tag="The image's tag (default: the revision).", env=HERE)
def push(c: Context, tag: str = "", env: str = "", dry_run: bool = False) -> None:
    """Push an image to the registry named in IMAGE in .env."""
    from deploy.docker import operate

    carry_out(operate.push(project(c, env=env), tag), dry_run=dry_run)


# --- swarm ----------------------------------------------------------------------------------------------------------
@task(tag="The tag of the site's image (default: latest).", env=HERE)
def swarm_render(c: Context, tag: str = "", env: str = "") -> None:
    """Print the stack file rendered from the compose files and `.env`. Needs no engine."""
    from deploy.swarm import deploy

    print(deploy.rendered(project(c, env=env), tag), end="")


@task(advertise="The address at which other nodes reach this one.")
def swarm_init(c: Context, manager: Manager, advertise: str = "", dry_run: bool = False) -> None:
    """Create a swarm on this engine and prepare the node for the stack."""
    from deploy.swarm import membership

    this = project(c, env=manager.env)
    carry_out(membership.init(this, manager.host, manager.context, advertise, notify), dry_run=dry_run)


@task(
    tag="Deploy an image of the registry by its tag instead of a new build.",
    pull="Pull newer images for the servers' tags too. This may replace the database container.",
    remove="Comma-separated things that may be removed: SERVICE, SERVICE:/mount or SERVICE:port.",
)
def swarm_deploy(
    c: Context, manager: Manager, tag: str = "", pull: bool = False, remove: str = "", dry_run: bool = False
) -> None:
    """Deploy a release to the swarm and wait until it has finished. A deploy that fails is rolled back."""
    from deploy.swarm.deploy import Options

    project(c, "swarm", manager.env)
    options = Options(tag, comma_separated(remove), pull)
    there = places(c, manager.env).swarm(manager.host, manager.context, ready=not dry_run)
    carry_out(there.deploy(options), dry_run=dry_run)


@task()
def swarm_status(c: Context, manager: Manager) -> None:
    """List nodes, services and releases (same as `status --on swarm`)."""
    tell(places(c, manager.env).swarm(manager.host, manager.context).status())


@task(to="A release number (default: the release before).")
def swarm_rollback(c: Context, manager: Manager, to: str = "", dry_run: bool = False) -> None:
    """Return the whole stack to an earlier release (same as `rollback --on swarm`)."""
    carry_out(places(c, manager.env).swarm(manager.host, manager.context).rollback(to), dry_run=dry_run)


@task()
def swarm_rm(c: Context, manager: Manager, yes: bool = False, dry_run: bool = False) -> None:
    """Stop and remove the stack. The data is kept on the nodes."""
    carry_out(places(c, manager.env).swarm(manager.host, manager.context).remove(), dry_run=dry_run, yes=yes)


@task()
def swarm_leave(c: Context, manager: Manager, yes: bool = False, dry_run: bool = False) -> None:
    """Make this engine leave its swarm."""
    from deploy.swarm import membership

    carry_out(membership.leave(project(c, env=manager.env), manager.host, manager.context), dry_run=dry_run, yes=yes)


# --- plain hosts ----------------------------------------------------------------------------------------------------
@task(
    replace="Comma-separated hosts whose changed key is to be accepted, because they were reinstalled.",
    dry_run="Show the keys, and pin none of them.",
)
def remote_trust(c: Context, env: str, yes: bool = False, replace: str = "", dry_run: bool = False) -> None:
    """Show the host keys of an environment and pin the new ones. No other task trusts a new host key."""
    from deploy.hosts.environment import file as environments
    from deploy.hosts.ssh import pinning

    there = environments.of(project(c), env)
    carry_out(pinning.pin(there, set(comma_separated(replace)), notify, confirmed=yes), dry_run=dry_run)


@task(
    only="Comma-separated hosts (default: all).",
    take_over="Comma-separated: what was there before and may become ours, as the refusal names it.",
    details="Show each change, with the texts of files; without it, a summary.",
    dry_run="Show what would change on each host, and change nothing.",
)
def remote_setup(
    c: Context,
    env: str,
    only: str = "",
    yes: bool = False,
    take_over: str = "",
    details: bool = False,
    dry_run: bool = False,
) -> None:
    """Prepare the hosts of an environment for deploys: users, packages, units, nginx, servers, firewall.

    Shows the changes first. The user `deploy` gets the administrator's keys, so an administrator can deploy.
    """
    from deploy.hosts.environment import file as environments
    from deploy.hosts.setup import converge

    there = environments.of(project(c), env, pair=True)
    wanted = converge.setup(
        there, project(c), only, notify, confirmed=yes, take_over=comma_separated(take_over), details=details
    )
    carry_out(wanted, dry_run=dry_run)


@task(
    only="Comma-separated hosts (default: all).",
    data="Comma-separated data to remove too: database, broker, redis, files, or all (default: none).",
)
def remote_remove(
    c: Context, env: str, only: str = "", data: str = "", yes: bool = False, dry_run: bool = False
) -> None:
    """Take the site off its hosts: units, nginx, users, folders, firewall. Data stays; other sites go on."""
    from deploy.hosts.environment import file as environments
    from deploy.hosts.setup import remove

    there, gone = environments.of(project(c), env), comma_separated(data)
    carry_out(remove.remove(there, project(c), only, notify, confirmed=yes, data=gone), dry_run=dry_run)


@task(ref="A branch, tag or commit (default: the checked-out commit).")
def remote_deploy(c: Context, env: str, ref: str = "", only: str = "", dry_run: bool = False) -> None:
    """Deploy a commit to all hosts or to none, without losing a request or a task."""
    there = places(c).hosts(env, only)
    project(c, "" if ref else env)
    carry_out(there.deploy(ref), dry_run=dry_run)


@task(to="A release id or commit (default: the release before).")
def remote_rollback(c: Context, env: str, to: str = "", only: str = "", dry_run: bool = False) -> None:
    """Return to a release kept on the hosts, with the environment it had (same as `rollback --on ENVIRONMENT`)."""
    carry_out(places(c).hosts(env, only).rollback(to), dry_run=dry_run)


@task(role="web, worker, worker_KIND or beat (default: all).")
def remote_restart(c: Context, env: str, role: str = "", only: str = "", dry_run: bool = False) -> None:
    """Restart the site's processes, host by host, without losing a request or a task."""
    carry_out(places(c).hosts(env, only).restart(role), dry_run=dry_run)


@task(role="web, worker or worker_KIND.", number="Processes on each host, 1 to 64.")
def remote_scale(c: Context, env: str, role: str, number: str, only: str = "", dry_run: bool = False) -> None:
    """Change the number of processes on hosts (until the next scale, or until the file has another number)."""
    count = front.number(number, "--number", 64)
    carry_out(places(c).hosts(env, only).scale(role, count), dry_run=dry_run)


@task(finish="End the SECRET_KEY of before, which is accepted beside the new one.")
def remote_rotate(c: Context, env: str, secret: str, finish: bool = False, dry_run: bool = False) -> None:
    """Replace a secret on all hosts, without losing a request, a task or a session; the old one is then refused."""
    carry_out(places(c).hosts(env).rotate(secret, finish=finish), dry_run=dry_run)


@task()
def remote_releases(c: Context, env: str) -> None:
    """List the releases on the hosts, and the latest actions: who, when, what, and how each ended."""
    tell(places(c).hosts(env).releases())


@task(json="Print one JSON object, for a program.")
def remote_status(c: Context, env: str, only: str = "", json: bool = False) -> None:
    """List what runs on each host, and what the site, its servers and disks answer; exits 1 if anything is wrong."""
    tell(places(c).hosts(env, only).status(), json=json)


@task(role="web, worker, worker_KIND, beat, release or backup (default: all).")
def remote_logs(c: Context, env: str, lines: Lines, role: str = "", only: str = "") -> None:
    """Show the logs of the site's processes on all hosts, in order of time."""
    carry_out(places(c).hosts(env, only).logs(role, front.wanted_lines(lines)))


@task(only="A host (default: the first that has a release).")
def remote_manage(c: Context, env: str, only: str = "", dry_run: bool = False) -> None:
    """Run manage.py on a host, in the serving release: `invoke remote-manage --env NAME -- ARGS`."""
    carry_out(places(c).hosts(env, only).manage(arguments_after_dashes() or ["help"]), dry_run=dry_run)


@task(verify="Make none: restore the latest one beside, and compare each table.")
def remote_backup(c: Context, env: str, verify: bool = False, dry_run: bool = False) -> None:
    """Make a backup of database and files now, as the hosts' timers do; or prove that the last one can be restored."""
    carry_out(places(c).hosts(env).backup(verify=verify), dry_run=dry_run)


@task(json="Print one JSON object, for a program.")
def remote_backups(c: Context, env: str, json: bool = False) -> None:
    """List the backups in the repository."""
    tell(places(c).hosts(env).backups(), json=json)


@task(**RESTORE, dry_run="Check the backup's list and the hosts, and show the steps.")
def remote_restore(
    c: Context, env: str, to: str = "", keep_code: bool = False, yes: bool = False, dry_run: bool = False
) -> None:
    """Bring the data of a backup back, with the release of its time. It needs the administrator's key."""
    carry_out(places(c).hosts(env).restore(to, keep_code=keep_code, confirmed=yes), dry_run=dry_run)


@task(dry_run="Show who holds the lock, and stop nothing.")
def remote_unlock(c: Context, env: str, yes: bool = False, only: str = "", dry_run: bool = False) -> None:
    """Stop a deploy that hangs; its hosts roll back. A deploy whose client died releases its lock by itself."""
    carry_out(places(c).hosts(env, only).unlock(), dry_run=dry_run, yes=yes)


# --- environments ---------------------------------------------------------------------------------------------------
@task(
    env=LAYER,
    python="A version (3.12), a command or a path (default: the Python it has, else the one running this).",
    rebuild="Rebuild it and every environment below it, even if they are current.",
)
def venv(c: Context, env: str = "", python: str = "", rebuild: bool = False, dry_run: bool = False) -> None:
    """Build or update an environment from its lock (without --env, all of them)."""
    from deploy.venvs import layers

    for name in layers.chosen(store().requirements, env):
        changed = make(name, python=python, rebuild=rebuild, dry_run=dry_run)
        if not dry_run:
            notify(f"{name}: {'ready' if changed else 'nothing to do'}")


@task()
def venv_list(c: Context) -> None:
    """List the environments: state, Python, packages, size, and which environments each stands on."""
    from deploy.venvs import views

    tell(views.report(store()))


@task()
def venv_tree(c: Context) -> None:
    """Draw the tree of environments: which stands on which."""
    from deploy.venvs import views

    views.show_tree(store())


@task(env=LAYER)
def venv_check(c: Context, env: str = "") -> None:
    """Check the environments and list every problem; exits 1 if there is one."""
    from deploy.venvs import check
    from deploy.venvs.store import named

    check.check_all(store(), named(store(), env), notify)


@task(env=LAYER, unused="Remove the layers of earlier locks that no environment uses.")
def venv_remove(c: Context, env: str = "", unused: bool = False, dry_run: bool = False) -> None:
    """Remove an environment. Refused while another stands on it."""
    from deploy.venvs import build
    from deploy.venvs.store import named

    build.clear(store(), named(store(), env) if env else [], unused=unused, dry_run=dry_run, notify=notify)


@task(
    upgrade="Upgrade to the newest versions that the .in files allow.",
    check="Change nothing; fail if a lock does not match its .in file.",
)
def lock(c: Context, upgrade: bool = False, check: bool = False, dry_run: bool = False) -> None:
    """Lock every requirements/*.in with hashes, each consistent with the locks below it."""
    from deploy.venvs import locking

    locking.lock(store(), upgrade=upgrade, check=check, dry_run=dry_run, notify=notify, python=project(c).python)


ns = Collection(*(each for each in list(globals().values()) if isinstance(each, Task)))
if (bootstrap.ROOT / "project_tasks.py").exists():  # a project's own tasks, as `invoke project.NAME`
    ns.add_collection(Collection.from_module(importlib.import_module("project_tasks")), name="project")
ns.configure({"project": file.DEFAULTS})  # invoke.yaml beside this file lies over them
