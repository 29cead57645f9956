"""Portico: a Django and Celery project from a laptop to a cluster.

`python3 tasks.py` needs only Python; it is `invoke` on every machine that has that.
"""

from deploy import bootstrap

bootstrap.enter(as_script=__name__ == "__main__")

import functools
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec

from invoke import Collection, Context, Exit, Task

from deploy.core.errors import Failure

if TYPE_CHECKING:
    from deploy.core.action import Action
    from deploy.core.report import Report
    from deploy.places import Place, Places
    from deploy.project.config import Project
    from deploy.venvs.store import Store

# What a task needs beyond this is imported in it, so that `invoke --list` is as quick as with an empty file.

P = ParamSpec("P")


def task(help: dict[str, str] | None = None) -> Callable[[Callable[P, None]], "Task[Callable[P, None]]"]:
    """Invoke's task, without short flags that hide Invoke's own, and with a `Failure` ending as one line."""

    def decorate(body: Callable[P, None]) -> "Task[Callable[P, None]]":
        @functools.wraps(body)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                body(*args, **kwargs)
            except Failure as failure:
                from deploy.core.running import printable  # a failure may quote another program

                raise Exit("\n".join(map(printable, failure.message.splitlines())), code=failure.code) from None
            except KeyboardInterrupt:
                raise Exit(code=130) from None

        return Task(guarded, auto_shortflags=False, help=help or {})

    return decorate


def notify(line: str) -> None:
    """A line of progress, on standard error."""
    from deploy.core.running import tell

    tell(line)


def carry_out(action: "Action", *, dry_run: bool = False, yes: bool = False) -> None:
    """Show an action, or do it: the one place where a task changes anything."""
    from deploy.core import action as actions

    if code := actions.carry_out(action, dry_run=dry_run, confirmed=yes):
        raise Exit(code=code)


def tell(report: "Report") -> None:
    """Print a report. Raises `Failure` with what is wrong in it."""
    from deploy.core import screen

    screen.show(*report.grids)
    for line in report.remarks:
        notify(line)
    if report.wrong:
        raise Failure("\n".join(report.wrong))


def store() -> "Store":
    """The environments of this project."""
    from deploy.venvs.store import Store

    return Store.of(bootstrap.ROOT)


def project(c: Context) -> "Project":
    """The checked configuration."""
    from deploy.project import config

    return config.load(bootstrap.ROOT, dict(c.config.project))


def places(c: Context) -> "Places":
    """Where the site runs, or could."""
    from deploy.places import Places

    return Places(project(c), store(), notify)


def place(c: Context, on: str, host: str = "", context: str = "") -> "Place":
    """The place that was named, or the one where the site runs."""
    return places(c).chosen(on, host, context)


def words_after_dashes() -> list[str]:
    """What the user wrote after `--`, word by word as the shell gave it."""
    return sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []


def comma_separated(text: str) -> list[str]:
    """The words of a comma-separated list."""
    return [word.strip() for word in text.split(",") if word.strip()]


def make(env: str, *, python: str = "", rebuild: bool = False, dry_run: bool = False) -> bool:
    """Build an environment where it is not current; returns whether anything had to be done."""
    from deploy.venvs import build

    return build.ensure(store(), env, python=python, rebuild=rebuild, dry_run=dry_run, notify=notify)


DRY_RUN = {"dry_run": "Print what would run, ready to paste, and change nothing."}
YES = {"yes": "Do not ask."}
ENV = {"env": "An environment: base, dev, prod, test or tools."}
SWARM = {
    "host": "A manager of the swarm, as ssh://me@manager.example.org (default: this machine's engine).",
    "context": "A docker context that leads to one, instead.",
}
ON = {
    "on": "native, dev, prod, swarm, or an environment of hosts (default: where the site runs on this machine).",
    "stack": "An older name of --on.",
    **SWARM,
}


# --- start ----------------------------------------------------------------------------------------------------------


@task(
    help={
        "native": "As processes of this machine, whatever else is here.",
        "port": "Port on 127.0.0.1 (default: project.port).",
        "workers": "Number of Celery workers.",
        **DRY_RUN,
    }
)
def dev(c: Context, native: bool = False, port: str = "", workers: str = "1", dry_run: bool = False) -> None:
    """Run the site, workers and beat, reloading on changes. Ctrl-C ends them all."""
    from deploy import doctor
    from deploy.project import config

    this = project(c)
    number = config.port_number(port, "--port") if port else 0
    nodes = config.whole_number(workers, "--workers", 1, 32)
    if why := "" if native else doctor.why_native():
        notify(f"Running natively: {why}.")
    if native or why:
        from deploy.native import runtime

        carry_out(runtime.development(this, store(), number or this.port, nodes, notify), dry_run=dry_run)
    else:
        from deploy.compose import dev as containers

        carry_out(containers.development(this, number, nodes, notify), dry_run=dry_run)


@task(
    help={
        "detach": "Return when it serves; else its log is shown, and Ctrl-C leaves it running.",
        "tag": "An earlier image instead of a new build.",
        **DRY_RUN,
    }
)
def prod(c: Context, detach: bool = False, tag: str = "", dry_run: bool = False) -> None:
    """Run the site as in production, or put a new release of it into service without losing a request."""
    from deploy.compose import rollout

    carry_out(rollout.production(project(c), tag, notify, detach=detach), dry_run=dry_run)


@task(
    help={
        "volumes": "Delete the data too; asks before.",
        "on": "dev or prod (default: the one that runs).",
        "stack": "An older name of --on.",
        **YES,
        **DRY_RUN,
    }
)
def down(
    c: Context, volumes: bool = False, yes: bool = False, on: str = "", stack: str = "", dry_run: bool = False
) -> None:
    """Stop and remove the containers; the data stays."""
    from deploy.compose import operate

    there = operate.known(project(c), on or stack, notify)
    carry_out(there.down(volumes=volumes), dry_run=dry_run, yes=yes)


@task(help=ON)
def status(c: Context, on: str = "", host: str = "", context: str = "", stack: str = "") -> None:
    """List what runs, in which state, of which release; exits 1 when something is wrong."""
    tell(place(c, on or stack, host, context).status())


@task(help={"follow": "Go on with what comes.", "service": "One service (default: all).", "lines": "To 1000.", **ON})
def logs(
    c: Context,
    follow: bool = False,
    service: str = "",
    lines: str = "200",
    on: str = "",
    host: str = "",
    context: str = "",
    stack: str = "",
) -> None:
    """Show the last lines of the logs."""
    from deploy.project import config

    number = config.whole_number(lines, "--lines", 1, 1000)
    carry_out(place(c, on or stack, host, context).logs(service, follow=follow, lines=number))


@task(help={"service": "app or celery_worker.", "replicas": "How many.", **ON, **DRY_RUN})
def scale(
    c: Context,
    service: str,
    replicas: str,
    on: str = "",
    host: str = "",
    context: str = "",
    stack: str = "",
    dry_run: bool = False,
) -> None:
    """Change the number of replicas, until the next scale or a change of `.env`."""
    from deploy.project import config

    number = config.whole_number(replicas, "--replicas", 1, 64)
    carry_out(place(c, on or stack, host, context).scale(service, number), dry_run=dry_run)


@task(help=ON)
def releases(c: Context, on: str = "", host: str = "", context: str = "", stack: str = "") -> None:
    """List the releases that can be gone back to, and what was done of late, by whom, and how it ended."""
    tell(place(c, on or stack, host, context).releases())


@task(help={"to": "A release, as `releases` lists it (default: the one before).", **ON, **DRY_RUN})
def rollback(
    c: Context, to: str = "", on: str = "", host: str = "", context: str = "", stack: str = "", dry_run: bool = False
) -> None:
    """Put an earlier release back into service, with the environment that it had."""
    carry_out(place(c, on or stack, host, context).rollback(to), dry_run=dry_run)


@task()
def doctor(c: Context) -> None:
    """Look for each prerequisite, and name the command that installs one that is missing."""
    from deploy import doctor as examination

    tell(examination.report(store()))


# --- code -----------------------------------------------------------------------------------------------------------


@task(help={"for_": "native, dev, prod, swarm, or an environment of hosts (default: all but hosts)."})
def check(c: Context, for_: str = "") -> None:
    """Say what the project is, and what keeps it from running; runs nothing of it, exits 1 for an error."""
    from deploy.project import check as examination

    tell(examination.report(bootstrap.ROOT, dict(c.config.project), for_, os.environ))


def _manage(
    c: Context, arguments: list[str], on: str, host: str = "", context: str = "", *, dry_run: bool = False
) -> None:
    there = place(c, on, host, context) if on or host or context else places(c).running() or places(c).native()
    carry_out(there.manage(arguments), dry_run=dry_run)


@task(help={**ON, "on": f"{ON['on'][:-1]}, else native).", **DRY_RUN})
def manage(c: Context, on: str = "", host: str = "", context: str = "", stack: str = "", dry_run: bool = False) -> None:
    """Run manage.py where the site runs, else in the dev environment: `invoke manage -- ARGS`."""
    _manage(c, words_after_dashes() or ["help"], on or stack, host, context, dry_run=dry_run)


@task(help={**ON, "on": f"{ON['on'][:-1]}, else native).", **DRY_RUN})
def shell(c: Context, on: str = "", host: str = "", context: str = "", stack: str = "", dry_run: bool = False) -> None:
    """Open Django's Python shell."""
    _manage(c, ["shell"], on or stack, host, context, dry_run=dry_run)


@task(
    help={
        "suite": "Comma-separated: unit, site, native, acceptance, browser, docker, swarm, hosts (default: all).",
        "require": "`all`, or comma-separated suites, in which a skipped test is a failure.",
        "processes": "Number of processes that share the test files (default: 2 for all suites, else 1).",
        **DRY_RUN,
    }
)
def test(c: Context, suite: str = "", require: str = "", processes: str = "", dry_run: bool = False) -> None:
    """Run the tests; what follows `--` goes to pytest."""
    from deploy import checks
    from deploy.core.action import command
    from deploy.project import config

    number = config.whole_number(processes, "--processes", 1, 32) if processes else None
    run = checks.pytest(project(c), store(), suite, require, words_after_dashes(), processes=number)
    make("test", dry_run=dry_run)
    carry_out(command(run), dry_run=dry_run)


@task(help={"fix": "Fix what can be fixed by machine.", **DRY_RUN})
def lint(c: Context, fix: bool = False, dry_run: bool = False) -> None:
    """Check style, types, shell scripts and migrations."""
    from deploy import checks

    this = project(c)
    make("test", dry_run=dry_run)
    checks.lint(this, store(), fix=fix, dry_run=dry_run, notify=notify)


# --- images ---------------------------------------------------------------------------------------------------------


@task(
    help={
        "tag": "The image's tag (default: the revision).",
        "platform": "What it must run on, as linux/arm64 (default: this machine's).",
        **DRY_RUN,
    }
)
def build(c: Context, tag: str = "", platform: str = "", dry_run: bool = False) -> None:
    """Build the production image."""
    from deploy.docker import operate

    carry_out(operate.build(project(c), tag, platform, notify), dry_run=dry_run)


@task(help={"tag": "The image's tag (default: the revision).", **DRY_RUN})
def push(c: Context, tag: str = "", dry_run: bool = False) -> None:
    """Push an image to the registry that IMAGE in .env begins with."""
    from deploy.docker import operate

    carry_out(operate.push(project(c), tag), dry_run=dry_run)


# --- swarm ----------------------------------------------------------------------------------------------------------


@task(help={"tag": "The tag of the site's image (default: latest)."})
def swarm_render(c: Context, tag: str = "") -> None:
    """Print the stack file that the compose files and `.env` become. Needs no engine."""
    from deploy.swarm import deploy

    print(deploy.rendered(project(c), tag), end="")


@task(help={"advertise": "The address that other nodes reach this one by.", **SWARM, **DRY_RUN})
def swarm_init(c: Context, advertise: str = "", host: str = "", context: str = "", dry_run: bool = False) -> None:
    """Create a swarm on this engine and prepare the node for the stack."""
    from deploy.swarm import membership

    carry_out(membership.init(project(c), host, context, advertise, notify), dry_run=dry_run)


@task(
    help={
        "tag": "An image of the registry instead of a new build.",
        "pull": "Take what the registry has now for the servers' tags too: it may replace the database.",
        "remove": "Comma-separated things that may be removed: SERVICE, SERVICE:/mount or SERVICE:port.",
        **SWARM,
        **DRY_RUN,
    }
)
def swarm_deploy(
    c: Context,
    tag: str = "",
    pull: bool = False,
    remove: str = "",
    host: str = "",
    context: str = "",
    dry_run: bool = False,
) -> None:
    """Put a release into service on the swarm, and follow it to its end; one that fails is taken back."""
    from deploy.swarm.deploy import Options

    options = Options(tag, comma_separated(remove), pull)
    carry_out(places(c).swarm(host, context, ready=not dry_run).deploy(options), dry_run=dry_run)


@task(help=SWARM)
def swarm_status(c: Context, host: str = "", context: str = "") -> None:
    """List nodes, services and releases: `status --on swarm`."""
    tell(places(c).swarm(host, context).status())


@task(help={"to": "A release, by its number (default: the one before).", **SWARM, **DRY_RUN})
def swarm_rollback(c: Context, to: str = "", host: str = "", context: str = "", dry_run: bool = False) -> None:
    """Put the whole stack back to an earlier release: `rollback --on swarm`."""
    carry_out(places(c).swarm(host, context).rollback(to), dry_run=dry_run)


@task(help={**YES, **SWARM, **DRY_RUN})
def swarm_rm(c: Context, yes: bool = False, host: str = "", context: str = "", dry_run: bool = False) -> None:
    """Stop and remove the stack; the data stays on the nodes."""
    carry_out(places(c).swarm(host, context).remove(), dry_run=dry_run, yes=yes)


@task(help={**YES, **SWARM, **DRY_RUN})
def swarm_leave(c: Context, yes: bool = False, host: str = "", context: str = "", dry_run: bool = False) -> None:
    """Take the engine out of its swarm."""
    from deploy.swarm import membership

    carry_out(membership.leave(project(c), host, context), dry_run=dry_run, yes=yes)


# --- plain hosts ----------------------------------------------------------------------------------------------------


REMOTE = {"env": "An environment of hosts: NAME of deploy/environments/NAME.yaml."}
ONLY = {"only": "Comma-separated hosts (default: all that run the site)."}


@task(
    help={
        **REMOTE,
        **YES,
        "replace": "Comma-separated hosts whose changed key is right: they were installed again.",
        "dry_run": "Show the keys, and pin none.",
    }
)
def remote_trust(c: Context, env: str, yes: bool = False, replace: str = "", dry_run: bool = False) -> None:
    """Show the host keys of an environment, and pin those that are new; nothing else ever trusts a host."""
    from deploy.hosts.environment import file
    from deploy.hosts.ssh import pinning

    there = file.load(bootstrap.ROOT, env)
    carry_out(pinning.pin(there, set(comma_separated(replace)), notify, confirmed=yes), dry_run=dry_run)


@task(
    help={
        **REMOTE,
        "only": "Comma-separated hosts (default: all).",
        **YES,
        "dry_run": "Show what would change on each host, and change nothing.",
    }
)
def remote_setup(c: Context, env: str, only: str = "", yes: bool = False, dry_run: bool = False) -> None:
    """Make the hosts of an environment ready for deploys: users, packages, units, nginx, servers, firewall.

    Shows the changes first. Whoever may log in as administrator may deploy: `deploy` gets the administrator's keys.
    """
    from deploy.hosts.environment import file
    from deploy.hosts.setup import converge

    there = file.load(bootstrap.ROOT, env, pair=True)
    carry_out(converge.setup(there, project(c), only, notify, confirmed=yes), dry_run=dry_run)


@task(help={**REMOTE, "ref": "A branch, tag or commit (default: what is checked out).", **ONLY, **DRY_RUN})
def remote_deploy(c: Context, env: str, ref: str = "", only: str = "", dry_run: bool = False) -> None:
    """Put a commit into service on all hosts, or on none, without losing a request or a task."""
    carry_out(places(c).hosts(env, only).deploy(ref), dry_run=dry_run)


@task(help={**REMOTE, "to": "A release, by its id or commit (default: the one before).", **ONLY, **DRY_RUN})
def remote_rollback(c: Context, env: str, to: str = "", only: str = "", dry_run: bool = False) -> None:
    """Go back to a release that the hosts have kept, with the environment it had: `rollback --on ENVIRONMENT`."""
    carry_out(places(c).hosts(env, only).rollback(to), dry_run=dry_run)


@task(help=REMOTE)
def remote_releases(c: Context, env: str) -> None:
    """List the releases on the hosts, and what was done of late, by whom, and how it ended."""
    tell(places(c).hosts(env).releases())


@task(help={**REMOTE, **ONLY})
def remote_status(c: Context, env: str, only: str = "") -> None:
    """List what runs on each host of the site; exits 1 when something that should does not, or a setup failed."""
    tell(places(c).hosts(env, only).status())


@task(help={**REMOTE, "role": "web, worker or beat (default: all).", "lines": "How many of each, to 1000.", **ONLY})
def remote_logs(c: Context, env: str, role: str = "", lines: str = "100", only: str = "") -> None:
    """Show the last lines that the site's processes logged."""
    from deploy.project import config

    number = config.whole_number(lines, "--lines", 1, 1000)
    carry_out(places(c).hosts(env, only).logs(role, follow=False, lines=number))


@task(help={**REMOTE, "only": "A host (default: the first that has a release).", **DRY_RUN})
def remote_manage(c: Context, env: str, only: str = "", dry_run: bool = False) -> None:
    """Run manage.py on a host, in the release that serves: `invoke remote-manage --env NAME -- ARGS`."""
    carry_out(places(c).hosts(env, only).manage(words_after_dashes() or ["help"]), dry_run=dry_run)


@task(help={**REMOTE, **YES, **ONLY, "dry_run": "Say who holds the lock, and end nobody."})
def remote_unlock(c: Context, env: str, yes: bool = False, only: str = "", dry_run: bool = False) -> None:
    """End a deploy that hangs: its hosts put themselves back. One whose client died releases its lock by itself."""
    carry_out(places(c).hosts(env, only).unlock(), dry_run=dry_run, yes=yes)


# --- environments ---------------------------------------------------------------------------------------------------


@task(
    help={
        **ENV,
        "python": "A version (3.12), a command or a path (default: the one it has, else the one running this).",
        "rebuild": "Build it and all below it again, even when they are in order.",
        **DRY_RUN,
    }
)
def venv(c: Context, env: str = "", python: str = "", rebuild: bool = False, dry_run: bool = False) -> None:
    """Make an environment what its lock says (all of them without --env)."""
    from deploy.venvs import layers

    for name in layers.chosen(store().requirements, env):
        changed = make(name, python=python, rebuild=rebuild, dry_run=dry_run)
        if not dry_run:
            notify(f"{name}: {'ready' if changed else 'nothing to do'}")


@task()
def venv_list(c: Context) -> None:
    """List the environments: state, Python, packages, size, what each stands on."""
    from deploy.venvs import views

    tell(views.report(store()))


@task()
def venv_tree(c: Context) -> None:
    """Draw which environment stands on which."""
    from deploy.venvs import views

    views.show_tree(store())


@task(help=ENV)
def venv_check(c: Context, env: str = "") -> None:
    """Name everything that is wrong with the environments; exits 1 if anything is."""
    from deploy.venvs import check, layers
    from deploy.venvs.store import built

    names = layers.chosen(store().requirements, env) if env else built(store())
    check.check_all(store(), names, notify)


@task(help={**ENV, "unused": "Remove the layers of earlier locks that no environment uses.", **DRY_RUN})
def venv_remove(c: Context, env: str = "", unused: bool = False, dry_run: bool = False) -> None:
    """Remove an environment; refuses while another stands on it."""
    from deploy.venvs import build, layers

    names = layers.chosen(store().requirements, env) if env else []
    build.clear(store(), names, unused=unused, dry_run=dry_run, notify=notify)


@task(
    help={
        "upgrade": "Take the newest versions that the .in files allow.",
        "check": "Change nothing; fail when a lock is not what its .in file asks for.",
        **DRY_RUN,
    }
)
def lock(c: Context, upgrade: bool = False, check: bool = False, dry_run: bool = False) -> None:
    """Lock every requirements/*.in with hashes, each on top of those below it."""
    from deploy.venvs import locking

    locking.lock(store(), upgrade=upgrade, check=check, dry_run=dry_run, notify=notify)


ns = Collection(
    *[dev, prod, down, status, logs, scale, releases, rollback, doctor],
    *[check, manage, shell, test, lint],
    *[build, push],
    *[swarm_init, swarm_render, swarm_deploy, swarm_status, swarm_rollback, swarm_rm, swarm_leave],
    *[remote_trust, remote_setup, remote_deploy, remote_rollback, remote_releases, remote_unlock],
    *[remote_status, remote_logs, remote_manage],
    *[venv, venv_list, venv_tree, venv_check, venv_remove, lock],
)
ns.configure(
    {
        "project": {
            "name": "portico",  # short, lower case
            "site": "site",  # the folder of manage.py
            "package": "mysite",  # settings, urls, celery_app
            "port": "8000",  # of the development site, on 127.0.0.1
            "samples": "load_sample_polls",  # fills an empty development database; "" for none
            "run": ".run",  # what the native runtime writes
            "probes": "/readyz /",  # what a new release must answer before it gets requests
            "free_gigabytes": "3",  # what the container engine's disk must have left
        },
    }
)
