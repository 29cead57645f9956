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

from deploy.errors import Failure

if TYPE_CHECKING:
    from deploy.config import Project
    from deploy.venvs import Store

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
    from deploy import venvs

    return venvs.Store.of(bootstrap.ROOT)


def project(c: Context) -> "Project":
    """The checked configuration."""
    from deploy import config

    return config.load(bootstrap.ROOT, dict(c.config.project))


def make(env: str, *, python: str = "", rebuild: bool = False, dry_run: bool = False) -> bool:
    """See to it that an environment is there; returns whether anything had to be done."""
    from deploy import venvs

    return venvs.ensure(store(), env, python=python, rebuild=rebuild, dry_run=dry_run, say=say)


def words_after_dashes() -> list[str]:
    """What the user wrote after `--`, word by word as the shell gave it."""
    return sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []


def environments(env: str) -> list[str]:
    """The environment asked for, or all of them."""
    from deploy import layers

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
    from deploy import config, doctor
    from deploy import native as runtime

    this = project(c)
    if not native:
        say(f"Running natively: {doctor.why_native()}.")
    number, nodes = config.port_number(port or this.port, "--port"), config.whole_number(workers, "--workers", 1, 32)
    plan = runtime.plan(this, store(), number, nodes)
    if not dry_run:
        runtime.precheck(plan)
    make("dev", dry_run=dry_run)
    runtime.dev(plan, dry_run=dry_run)


@task(help={})
def doctor(c: Context) -> None:
    """Look for each prerequisite, and say what mends one that is missing."""
    from deploy import doctor as examination

    examination.show(store())


# --- code -----------------------------------------------------------------------------------------------------------


@task(help=DRY_RUN)
def manage(c: Context, dry_run: bool = False) -> None:
    """Run manage.py in the dev environment: `invoke manage -- ARGS`."""
    _in_dev(c, words_after_dashes() or ["help"], dry_run)


@task(help=DRY_RUN)
def shell(c: Context, dry_run: bool = False) -> None:
    """Open Django's Python shell."""
    _in_dev(c, ["shell"], dry_run)


def _in_dev(c: Context, arguments: list[str], dry_run: bool) -> None:
    from deploy import native
    from deploy.shell import become, perform

    this = project(c)
    make("dev", dry_run=dry_run)
    command = native.manage(this, store(), arguments)
    if dry_run:
        perform([command], dry_run=True)
    else:
        become(command)


@task(
    help={
        "suite": "Suites, by comma: unit, site, native, acceptance, browser (default: all that this machine can).",
        "require": "`all`, or suites by comma, in which a skipped test is a failure.",
        **DRY_RUN,
    }
)
def test(c: Context, suite: str = "", require: str = "", dry_run: bool = False) -> None:
    """Run the tests; what follows `--` goes to pytest."""
    from deploy import checks
    from deploy.shell import become, perform

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
    from deploy import venv_views

    venv_views.show_list(store())


@task(help={})
def venv_tree(c: Context) -> None:
    """Draw which environment stands on which."""
    from deploy import venv_views

    venv_views.show_tree(store())


@task(help=ENV)
def venv_check(c: Context, env: str = "") -> None:
    """Name everything that is wrong with the environments; exits 1 if anything is."""
    from deploy import venv_check as examination
    from deploy import venvs

    names = environments(env) if env else venvs.built(store())
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
    from deploy import venvs

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
    from deploy import lock as locking
    from deploy import venvs

    uv = venvs.find_uv(store())
    if uv is None:
        raise Failure("locking needs uv, which the tools environment has: unset PORTICO_INSTALLER and repeat")
    locking.lock(store().requirements, uv, upgrade=upgrade, check=check, dry_run=dry_run, say=say)


ns = Collection(dev, doctor, manage, shell, test, lint, venv, venv_list, venv_tree, venv_check, venv_remove, lock)
ns.configure(
    {
        "project": {
            "name": "portico",  # short, lower case
            "site": "site",  # the folder of manage.py
            "package": "mysite",  # settings, urls, celery_app
            "port": "8000",  # of the development site, on 127.0.0.1
            "samples": "load_sample_polls",  # fills an empty development database; "" for none
            "run": ".run",  # what the native runtime writes
        },
    }
)
