"""Portico: a Django and Celery project from a laptop to a cluster.

`python3 tasks.py` needs only Python; it is `invoke` on every machine that has that.
"""

from deploy import bootstrap

bootstrap.enter(as_script=__name__ == "__main__")

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec

from invoke import Collection, Context, Exit, Task

from deploy.core.errors import Failure

if TYPE_CHECKING:
    from deploy.docker.stack import Stack
    from deploy.hosts.release.phases import Site
    from deploy.project.config import Project
    from deploy.swarm.manager import Manager
    from deploy.venvs.store import Store

# What a task needs beyond this is imported in it: `invoke --list` is to be as quick as with an empty file.

P = ParamSpec("P")


def task(help: dict[str, str] | None = None) -> Callable[[Callable[P, None]], "Task[Callable[P, None]]"]:
    """Invoke's task, without short flags that hide Invoke's own, and with a `Failure` ending as one line."""

    def decorate(body: Callable[P, None]) -> "Task[Callable[P, None]]":
        @functools.wraps(body)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                body(*args, **kwargs)
            except Failure as failure:
                raise Exit(failure.message, code=failure.code) from None
            except KeyboardInterrupt:
                raise Exit(code=130) from None

        return Task(guarded, auto_shortflags=False, help=help or {})

    return decorate


def say(line: str) -> None:
    """A line of progress, on standard error so that what a command prints can be piped."""
    print(line, file=sys.stderr, flush=True)


def store() -> "Store":
    """The environments of this project."""
    from deploy.venvs import store as layer_store

    return layer_store.Store.of(bootstrap.ROOT)


def project(c: Context) -> "Project":
    """The checked configuration."""
    from deploy.project import config

    return config.load(bootstrap.ROOT, dict(c.config.project))


def make(env: str, *, python: str = "", rebuild: bool = False, dry_run: bool = False) -> bool:
    """See to it that an environment is there; returns whether anything had to be done."""
    from deploy.venvs import build as venvs

    return venvs.ensure(store(), env, python=python, rebuild=rebuild, dry_run=dry_run, say=say)


def words_after_dashes() -> list[str]:
    """What the user wrote after `--`, word by word as the shell gave it."""
    return sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []


def environments(env: str) -> list[str]:
    """The environment asked for, or all of them."""
    from deploy.venvs import layers

    graph = layers.read_graph(store().requirements)
    return layers.order(graph, [env])[-1:] if env else layers.order(graph, graph)


DRY_RUN = {"dry_run": "Print what would run, ready to paste, and change nothing."}
ENV = {"env": "An environment: base, dev, prod, test or tools."}


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
    from deploy.native import runtime
    from deploy.project import config

    this = project(c)
    number, nodes = config.port_number(port or this.port, "--port"), config.whole_number(workers, "--workers", 1, 32)
    why = "" if native else doctor.why_native()
    if not native and not why:
        _dev_in_containers(this, number if port else 0, nodes, dry_run)
        return
    if why:
        say(f"Running natively: {why}.")
    plan = runtime.plan(this, store(), number, nodes)
    if not dry_run:
        runtime.precheck(plan)
    make("dev", dry_run=dry_run)
    runtime.dev(plan, dry_run=dry_run)


def _dev_in_containers(this: "Project", port: int, workers: int, dry_run: bool) -> None:
    from deploy.compose import containers
    from deploy.compose import dev as live
    from deploy.docker import engine
    from deploy.docker import stack as stacks

    engine.need_engine(this.free_gigabytes)
    stack = stacks.prepare(this, stacks.DEV, dry_run=dry_run, say=say)
    if port:
        stack = stacks.Stack(this, stacks.DEV, stack.env.model_copy(update={"port": port}))
    if not dry_run:
        containers.need_ports(live.ports(stack), containers.replicas(stack.name))
    live.dev(stack, workers, say, dry_run=dry_run)


@task(
    help={
        "detach": "Return when it serves; else its log is shown, and Ctrl-C leaves it running.",
        "tag": "An earlier image instead of a new build: how to go back.",
        **DRY_RUN,
    }
)
def prod(c: Context, detach: bool = False, tag: str = "", dry_run: bool = False) -> None:
    """Run the site as in production, or put a new release of it into service without losing a request."""
    from deploy.compose import containers, rollout
    from deploy.compose import operate as compose
    from deploy.core.shell import become
    from deploy.docker import engine
    from deploy.docker import stack as stacks

    this = project(c)
    engine.need_engine(this.free_gigabytes)
    stack = stacks.prepare(this, stacks.PROD, dry_run=dry_run, say=say)
    stacks.check(stack)
    if dry_run:
        rollout.show(stack, tag)
        return
    containers.need_ports(rollout.ports(stack), containers.replicas(stack.name))
    rollout.prod(stack, tag, say)
    say(f"Serving: {rollout.url(stack)}")
    if not detach:
        become(compose.logs(stack, "", follow=True))


STACK = {"stack": "dev, prod or swarm (default: the one that runs with compose)."}
SWARM = {
    "host": "A manager of the swarm, as ssh://me@manager.example.org (default: this machine's engine).",
    "context": "A docker context that leads to one, instead.",
}


def _swarm(c: Context, host: str, context: str, *, ready: bool = True) -> tuple["Manager", "Stack"]:
    """The manager that was named, and the stack as `.env` has it."""
    from deploy.docker import stack as stacks
    from deploy.swarm import manager

    stack = stacks.load(project(c), stacks.SWARM)
    named = manager.Manager(stack.name, manager.engine(host, context))
    if ready:
        manager.need_manager(named)
    return named, stack


@task(
    help={
        "volumes": "Delete the data too; asks before.",
        "yes": "Do not ask.",
        "stack": "dev or prod (default: the one that runs).",
        **DRY_RUN,
    }
)
def down(c: Context, volumes: bool = False, yes: bool = False, stack: str = "", dry_run: bool = False) -> None:
    """Stop and remove the containers; the data stays."""
    from deploy.compose import operate as compose

    compose.down(compose.known_stack(project(c), stack), volumes=volumes, confirmed=yes, dry_run=dry_run)


@task(help=STACK)
def status(c: Context, stack: str = "") -> None:
    """List the containers: state, health, release."""
    if stack == "swarm":
        swarm_status.body(c)
        return
    from deploy.compose import operate as compose

    compose.show(compose.need_stack(project(c), stack))


@task(help={"follow": "Go on with what comes.", "service": "One service (default: all).", **STACK, **SWARM})
def logs(
    c: Context, follow: bool = False, service: str = "", stack: str = "", host: str = "", context: str = ""
) -> None:
    """Show the logs."""
    from deploy.compose import operate as compose
    from deploy.core.shell import become, perform

    if stack == "swarm":
        from deploy.swarm import operate

        commands = operate.logs(_swarm(c, host, context)[0], service, follow=follow)
        perform(commands[:-1])
        become(commands[-1])
    become(compose.logs(compose.need_stack(project(c), stack), service, follow=follow))


@task(help={"service": "app or celery_worker.", "replicas": "How many.", **STACK, **SWARM})
def scale(c: Context, service: str, replicas: str, stack: str = "", host: str = "", context: str = "") -> None:
    """Have more or fewer replicas, until `.env` or the next scale says otherwise."""
    from deploy.compose import operate as compose
    from deploy.compose import rollout
    from deploy.project import config

    number = config.whole_number(replicas, "--replicas", 1, 64)
    if stack == "swarm":
        from deploy.swarm import operate

        operate.scale(_swarm(c, host, context)[0], service, number, say)
        return
    rollout.scale(compose.need_stack(project(c), stack), service, number, say)


@task(help={})
def doctor(c: Context) -> None:
    """Look for each prerequisite, and say what mends one that is missing."""
    from deploy import doctor as examination

    examination.show(store())


# --- code -----------------------------------------------------------------------------------------------------------


WHERE = {"stack": "native, dev, prod or swarm (default: the one that runs with compose, else native)."}


@task(help={**WHERE, **SWARM, **DRY_RUN})
def manage(c: Context, stack: str = "", host: str = "", context: str = "", dry_run: bool = False) -> None:
    """Run manage.py where the site runs, else in the dev environment: `invoke manage -- ARGS`."""
    arguments = words_after_dashes() or ["help"]
    if stack == "swarm":
        _manage_on_swarm(c, arguments, host, context)
    else:
        _manage(c, arguments, stack, dry_run)


@task(help={**WHERE, **DRY_RUN})
def shell(c: Context, stack: str = "", dry_run: bool = False) -> None:
    """Open Django's Python shell."""
    if stack == "swarm":
        _manage_on_swarm(c, ["shell"], "", "")
    else:
        _manage(c, ["shell"], stack, dry_run)


def _manage_on_swarm(c: Context, arguments: list[str], host: str, context: str) -> None:
    from deploy.core.shell import become
    from deploy.swarm import operate

    if command := operate.manage(*_swarm(c, host, context), arguments):
        become(command)


def _manage(c: Context, arguments: list[str], where: str, dry_run: bool) -> None:
    from deploy.core.shell import become, perform
    from deploy.native import runtime as native

    this = project(c)
    stack = None
    if where != "native":
        from deploy.compose import operate as compose

        stack = compose.need_stack(this, where, stopped=False) if where else compose.running_stack(this)
    if stack:
        command = compose.manage(stack, arguments)
    else:
        make("dev", dry_run=dry_run)
        command = native.manage(this, store(), arguments)
    if dry_run:
        perform([command], dry_run=True)
    else:
        become(command)


@task(
    help={
        "suite": "By comma: unit, site, native, acceptance, browser, docker, swarm, hosts (default: all that can run).",
        "require": "`all`, or suites by comma, in which a skipped test is a failure.",
        **DRY_RUN,
    }
)
def test(c: Context, suite: str = "", require: str = "", dry_run: bool = False) -> None:
    """Run the tests; what follows `--` goes to pytest."""
    from deploy import checks
    from deploy.core.shell import become, perform

    command = checks.pytest(project(c), store(), suite, require, words_after_dashes())
    make("test", dry_run=dry_run)
    if dry_run:
        perform([command], dry_run=True)
    else:
        become(command)


@task(help={"fix": "Mend what can be mended by machine.", **DRY_RUN})
def lint(c: Context, fix: bool = False, dry_run: bool = False) -> None:
    """Check style, types, shell scripts and migrations."""
    from deploy import checks

    this = project(c)
    make("test", dry_run=dry_run)
    checks.lint(this, store(), fix=fix, dry_run=dry_run, say=say)


# --- images ---------------------------------------------------------------------------------------------------------


@task(
    help={
        "tag": "The image's tag (default: the revision).",
        "platform": "What it is to run on, as linux/arm64 (default: this machine's).",
        **DRY_RUN,
    }
)
def build(c: Context, tag: str = "", platform: str = "", dry_run: bool = False) -> None:
    """Build the production image."""
    from deploy.core.shell import perform
    from deploy.docker import engine, images
    from deploy.docker import stack as stacks

    this = project(c)
    engine.need_engine(this.free_gigabytes)
    stack = stacks.prepare(this, stacks.PROD, dry_run=dry_run, say=say)
    perform([stacks.build(stack, images.tag(tag) if tag else "", platform)], dry_run=dry_run)


@task(help={"tag": "The image's tag (default: the revision).", **DRY_RUN})
def push(c: Context, tag: str = "", dry_run: bool = False) -> None:
    """Push an image to the registry that IMAGE in .env begins with."""
    from deploy.core import git
    from deploy.core.shell import perform
    from deploy.docker import images
    from deploy.docker import stack as stacks

    stack = stacks.load(project(c), stacks.PROD)
    version = images.tag(tag) if tag else git.revision(bootstrap.ROOT).tag
    perform([images.push(f"{stack.env.image}:{version}")], dry_run=dry_run)


# --- swarm ----------------------------------------------------------------------------------------------------------


@task(help={"tag": "The tag of the site's image (default: latest)."})
def swarm_render(c: Context, tag: str = "") -> None:
    """Print the stack file that the compose files and `.env` become. Needs no engine."""
    from deploy.docker import images
    from deploy.docker import stack as stacks
    from deploy.swarm import images as swarm_images
    from deploy.swarm import stack as stack_files

    stack = stacks.load(project(c), stacks.SWARM)
    name = f"{swarm_images.repository(stack.env.image)}:{images.tag(tag or 'latest')}"
    print(stack_files.stack_file(stack, {stack.image: name}).text, end="")


@task(help={"advertise": "The address that other nodes reach this one by.", **SWARM, **DRY_RUN})
def swarm_init(c: Context, advertise: str = "", host: str = "", context: str = "", dry_run: bool = False) -> None:
    """Make the engine a manager of a new swarm, with what the stack needs of a node."""
    from deploy.docker import stack as stacks
    from deploy.swarm import manager, operate

    this, engine = project(c), manager.engine(host, context)
    operate.need_env(manager.Manager(this.name, engine), this.root / ".env")
    stack = stacks.prepare(this, stacks.SWARM, dry_run=dry_run, say=say)
    operate.init(manager.Manager(stack.name, engine), stack, advertise, say, dry_run=dry_run)


@task(
    help={
        "tag": "An image of the registry instead of a new build.",
        "pull": "Take what the registry has now for the servers' tags too: it may replace the database.",
        "remove": "What may go, by comma, when the files have it no more: services, or SERVICE:/folder, SERVICE:port.",
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
    from deploy.core import running
    from deploy.swarm import deploy

    manager, stack = _swarm(c, host, context, ready=not dry_run)
    if dry_run:
        deploy.show(manager, stack, tag)
        return
    running.exit_when_told()
    gone = [name.strip() for name in remove.split(",") if name.strip()]
    deploy.deploy(manager, stack, deploy.Wish(tag, gone, pull), say)


@task(help=SWARM)
def swarm_status(c: Context, host: str = "", context: str = "") -> None:
    """List nodes, services and releases."""
    from deploy.swarm import operate

    operate.show(_swarm(c, host, context)[0])


@task(help={**SWARM, **DRY_RUN})
def swarm_rollback(c: Context, host: str = "", context: str = "", dry_run: bool = False) -> None:
    """Put the whole stack back to the release before, as the swarm remembers it."""
    from deploy.core import running
    from deploy.swarm import deploy

    manager, stack = _swarm(c, host, context)
    if dry_run:
        deploy.show_rollback(manager)
        return
    running.exit_when_told()
    deploy.rollback(manager, stack.project.run_folder, say)


@task(help={"yes": "Do not ask.", **SWARM, **DRY_RUN})
def swarm_rm(c: Context, yes: bool = False, host: str = "", context: str = "", dry_run: bool = False) -> None:
    """Stop and remove the stack; the data stays on the nodes."""
    from deploy.swarm import operate

    operate.remove(_swarm(c, host, context)[0], confirmed=yes, say=say, dry_run=dry_run)


@task(help={"yes": "Do not ask.", **SWARM, **DRY_RUN})
def swarm_leave(c: Context, yes: bool = False, host: str = "", context: str = "", dry_run: bool = False) -> None:
    """Take the engine out of its swarm."""
    from deploy.swarm import operate

    manager, stack = _swarm(c, host, context, ready=False)
    operate.leave(manager, stack.name, confirmed=yes, dry_run=dry_run)


# --- plain hosts ----------------------------------------------------------------------------------------------------


REMOTE = {"env": "An environment of hosts: NAME of deploy/environments/NAME.yaml."}


@task(
    help={
        **REMOTE,
        "yes": "Do not ask.",
        "replace": "Hosts, by comma, whose changed key is right: they were made anew.",
        "dry_run": "Show the keys, and pin none.",
    }
)
def remote_trust(c: Context, env: str, yes: bool = False, replace: str = "", dry_run: bool = False) -> None:
    """Show the host keys of an environment, and pin those that are new; nothing else ever trusts a host."""
    from deploy.hosts.environment import file
    from deploy.hosts.ssh import pinning

    there = file.load(bootstrap.ROOT, env)
    changed = {name.strip() for name in replace.split(",") if name.strip()}
    pinning.pin(there, changed, say, confirmed=yes, dry_run=dry_run)


@task(
    help={
        **REMOTE,
        "only": "Hosts, by comma (default: all).",
        "yes": "Do not ask.",
        "dry_run": "Show what would change on each host, and change nothing.",
    }
)
def remote_setup(c: Context, env: str, only: str = "", yes: bool = False, dry_run: bool = False) -> None:
    """Make the hosts of an environment ready for deploys: users, packages, units, nginx, servers, firewall.

    Shows what changes first; a second time, that is nothing. Whoever may log in as administrator may deploy: the user
    that deploys gets that one's keys when it is made.
    """
    from deploy.core import running
    from deploy.hosts.environment import file
    from deploy.hosts.setup import converge

    running.exit_when_told()
    there = file.load(bootstrap.ROOT, env)
    converge.setup(there, project(c), converge.Wish(dry_run, only, yes), say)


def _site(c: Context, env: str, only: str = "") -> "Site":
    """The hosts of an environment that run the site, or those that were named."""
    from deploy.hosts.environment import file
    from deploy.hosts.release import phases

    return phases.choose(project(c), file.load(bootstrap.ROOT, env), only)


ONLY = {"only": "Hosts, by comma (default: all that run the site)."}


@task(help={**REMOTE, "ref": "A branch, tag or commit (default: what is checked out).", **ONLY, **DRY_RUN})
def remote_deploy(c: Context, env: str, ref: str = "", only: str = "", dry_run: bool = False) -> None:
    """Put a commit into service on all hosts, or on none, without losing a request or a task."""
    from deploy.core import running
    from deploy.hosts.release import deploy

    site = _site(c, env, only)
    if dry_run:
        deploy.show(site, ref)
        return
    running.exit_when_told()
    deploy.deploy(site, ref, say)


@task(help={**REMOTE, "to": "A release, by its id or commit (default: the one before).", **ONLY, **DRY_RUN})
def remote_rollback(c: Context, env: str, to: str = "", only: str = "", dry_run: bool = False) -> None:
    """Go back to a release that the hosts have kept, with the environment it had."""
    from deploy.core import running
    from deploy.hosts.release import deploy

    site = _site(c, env, only)
    if dry_run:
        deploy.show_rollback(site, to)
        return
    running.exit_when_told()
    deploy.rollback(site, to, say)


@task(help=REMOTE)
def remote_releases(c: Context, env: str) -> None:
    """List the releases on the hosts, and what was done of late, by whom, and how it ended."""
    from deploy.hosts import operate

    operate.releases(_site(c, env))


@task(help={**REMOTE, **ONLY})
def remote_status(c: Context, env: str, only: str = "") -> None:
    """List what runs on each host of the site; exits 1 when something that should does not, or a setup failed."""
    from deploy.hosts import operate

    operate.status(_site(c, env, only), say)


@task(help={**REMOTE, "role": "web, worker or beat (default: all).", "lines": "How many of each, to 1000.", **ONLY})
def remote_logs(c: Context, env: str, role: str = "", lines: str = "100", only: str = "") -> None:
    """Show the last lines that the site's processes logged."""
    from deploy.hosts import operate
    from deploy.project import config

    if role not in ("", "web", "worker", "beat"):
        raise Failure(f"--role {role}: is not web, worker or beat")
    operate.logs(_site(c, env, only), role, config.whole_number(lines, "--lines", 1, 1000))


@task(help={**REMOTE, "only": "A host (default: the first that has a release).", **DRY_RUN})
def remote_manage(c: Context, env: str, only: str = "", dry_run: bool = False) -> None:
    """Run manage.py on a host, in the release that serves: `invoke remote-manage --env NAME -- ARGS`."""
    from deploy.hosts import operate

    if code := operate.manage(_site(c, env, only), words_after_dashes() or ["help"], dry_run=dry_run):
        raise Exit(code=code)


@task(help={**REMOTE, "yes": "Do not ask.", **ONLY, "dry_run": "Say who holds the lock, and end nobody."})
def remote_unlock(c: Context, env: str, yes: bool = False, only: str = "", dry_run: bool = False) -> None:
    """End a deploy that hangs: its hosts put themselves back. One that died holds no lock, so this is hardly needed."""
    from deploy.hosts import operate

    operate.unlock(_site(c, env, only), say, confirmed=yes, dry_run=dry_run)


# --- environments ---------------------------------------------------------------------------------------------------


@task(
    help={
        **ENV,
        "python": "A version (3.12), a command or a path (default: the one it has, else the one running this).",
        "rebuild": "Build it and all below it anew, even when in order.",
        **DRY_RUN,
    }
)
def venv(c: Context, env: str = "", python: str = "", rebuild: bool = False, dry_run: bool = False) -> None:
    """Make an environment what its lock says (all of them without --env)."""
    for name in environments(env):
        changed = make(name, python=python, rebuild=rebuild, dry_run=dry_run)
        if not dry_run:
            say(f"{name}: {'ready' if changed else 'nothing to do'}")


@task(help={})
def venv_list(c: Context) -> None:
    """List the environments: state, Python, packages, size, what each stands on."""
    from deploy.venvs import views as venv_views

    venv_views.show_list(store())


@task(help={})
def venv_tree(c: Context) -> None:
    """Draw which environment stands on which."""
    from deploy.venvs import views as venv_views

    venv_views.show_tree(store())


@task(help=ENV)
def venv_check(c: Context, env: str = "") -> None:
    """Name everything that is wrong with the environments; exits 1 if anything is."""
    from deploy.venvs import check as examination
    from deploy.venvs import store as layer_store

    names = environments(env) if env else layer_store.built(store())
    problems = []
    for name in names:
        say(f"{name} …")
        problems += examination.check(store(), name)
    if problems:
        raise Failure("\n".join(problems))
    say(f"{', '.join(names)}: in order")


@task(help={**ENV, "unused": "Remove the layers of earlier locks that no environment uses.", **DRY_RUN})
def venv_remove(c: Context, env: str = "", unused: bool = False, dry_run: bool = False) -> None:
    """Remove an environment; refuses while another stands on it."""
    from deploy.venvs import build as venvs

    if not env and not unused:
        raise Failure("say which: --env NAME, or --unused for the layers that nothing uses")
    if env:
        venvs.remove(store(), environments(env)[0], dry_run=dry_run, say=say)
    if unused:
        count = venvs.prune(store(), dry_run=dry_run, say=say)
        say(f"{count} unused layer{'' if count == 1 else 's'}")


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
    from deploy.venvs import store as layer_store

    uv = layer_store.find_uv(store())
    if uv is None:
        raise Failure("locking needs uv, which the tools environment has: unset PORTICO_INSTALLER and repeat")
    locking.lock(store().requirements, uv, upgrade=upgrade, check=check, dry_run=dry_run, say=say)


ns = Collection(
    *[dev, prod, down, status, logs, scale, doctor],
    *[manage, shell, test, lint],
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
