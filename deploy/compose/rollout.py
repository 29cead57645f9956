"""A release into production with compose: the first start, an update, a rollback, more replicas or fewer."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from deploy.compose import journal, ledger, maintenance, versions
from deploy.compose.containers import (
    START,
    await_healthy,
    create_replicas,
    names,
    replicas,
    require_own,
    require_ports,
    scales,
    start_replicas,
    stop_replicas,
)
from deploy.compose.definitions import definitions, record
from deploy.compose.front import route_only_to
from deploy.compose.ledger import Release
from deploy.compose.update import Wanted, release, up, update, wanted
from deploy.core import git, shell
from deploy.core.action import Action
from deploy.core.errors import Failure
from deploy.core.running import Notify, alone
from deploy.core.shell import Run, Step
from deploy.docker import additions, images
from deploy.docker.dotenv import prepare, require_own_servers
from deploy.docker.engine import require_engine
from deploy.docker.mounted import mounted
from deploy.docker.releases import target
from deploy.docker.stack import PROD, Stack, build, nginx_steps, secret_steps
from deploy.project import hooks, proxy
from deploy.project.config import Project


def only_one(stack: Stack, what: str) -> AbstractContextManager[None]:
    """Lock the stack. Raises `Failure` naming the holder if another command has the lock."""
    shell.perform(secret_steps(stack)[:1])
    return alone(
        stack.secrets / "lock", what, f"{{holder}}, holds the lock on {stack.name}; retry when it has finished"
    )


# --- Actions ---


def production(project: Project, tag: str, notify: Notify, *, detach: bool) -> Action:
    """Deploy the work tree, or an image by its tag, with the `.env` it had; then follow the log, unless ``detach``."""

    def stack_of(*, dry_run: bool) -> Stack:
        require_engine(project.free_gigabytes)
        stack = prepare(project, PROD, dry_run=dry_run, notify=notify)
        require_own(stack)
        require_own_servers(stack)
        additions.check(stack)
        return stack

    def do() -> Run | None:
        stack = stack_of(dry_run=False)
        running = replicas(stack.name)
        require_ports(ports(stack), running, project.env_path.name)
        versions.require_readable(stack, running)
        if earlier := ledger.of_image(stack, images.image_id(f"{stack.env.image}:{tag}") if tag else ""):
            go_back(ledger.environment_of(stack, earlier), earlier, notify)
        else:
            deploy(stack, tag, notify)
        notify("; ".join([f"Serving: {url(stack)}", *maintenance.remarks(stack)]))
        return None if detach else stack.compose("logs", "--tail", "200", "--follow")

    return Action(lambda: shell.perform(first_steps(stack_of(dry_run=True), tag), dry_run=True), do)


def rollback(stack: Stack, to: str, notify: Notify) -> Action:
    """Return to an earlier release, with the `.env` it had. Raises `Failure` if there is none."""
    goal = target(ledger.releases(stack), to)
    ledger.require_image(goal)
    back = ledger.environment_of(stack, goal)

    def show() -> None:
        print(f"# back to {goal.title}")
        shell.perform(release_steps(back, Run(["docker", "tag", goal.image, back.image])), dry_run=True)

    return Action(show, lambda: go_back(back, goal, notify))


def deploy(stack: Stack, tag: str, notify: Notify) -> None:
    """Deploy the work tree, or an image by its tag.

    Raises `Failure` if that does not succeed; the earlier release then keeps serving.
    """
    what = f"tag {tag}" if tag else git.revision(stack.project.root).tag
    root, name = stack.project.root, tag or what
    hooks.run(stack.env.hook_before, root, stack.place, name, key="HOOK_BEFORE", after=False)
    with only_one(stack, "a deploy"), ledger.recorded(stack, "deploy", what) as said:
        env = stack.project.env_path.read_text()
        release = put_into_service(stack, Wanted(lambda: fetch_image(stack, tag, notify), env), notify)
        said.append(f"release {release.number} serves")
        ledger.prune(stack)
    hooks.run(stack.env.hook_after, root, stack.place, name, key="HOOK_AFTER", after=True)


def go_back(stack: Stack, goal: Release, notify: Notify) -> None:
    """Deploy an earlier release again. Raises `Failure` if that fails; the current release then keeps serving."""
    env = ledger.text_of(stack, goal)
    fetch = Run(["docker", "tag", goal.image, stack.image])
    with only_one(stack, "a rollback"), ledger.recorded(stack, "rollback", f"to release {goal.of}") as said:
        notify(f"back to {goal.title}")
        release = put_into_service(stack, Wanted(lambda: shell.perform([fetch]), env, goal.of), notify)
        said.append(f"release {release.number} serves: it is release {goal.of} again")
        ledger.prune(stack)
    notify(f"{said[-1]}. Migrations stay as they are")
    if other := ledger.differs(stack, env):
        notify(other)


def put_into_service(stack: Stack, what: Wanted, notify: Notify) -> Release:
    """Start a release, replacing a running one; returns it."""
    if any(each.running for each in replicas(stack.name, "app")):
        journal.recover(stack, notify)
        return update(stack, what, notify)
    what.fetch()
    shell.perform(secret_steps(stack))
    first_start(stack, notify)
    release = what.release(stack)
    ledger.stage(stack, release, what.env)
    ledger.add(stack, release)
    return release


def fetch_image(stack: Stack, tag: str, notify: Notify) -> None:
    """Build the image, or use an earlier one by its tag, pulling it if it is not on this machine."""
    if not tag:
        version = git.revision(stack.project.root)
        notify(f"build: {version.name}")
        images.perform(build(stack), stack.project.run_folder, notify)
        return
    source = f"{stack.env.image}:{images.tag(tag)}"
    if (
        not images.image_id(source)
        and (pulled := shell.run(Run(["docker", "pull", source]), capture=True, check=False)).code
    ):
        why = shell.last_line(pulled.stderr)
        raise Failure(f"{source}: there is no such image here (`docker image ls`), and it cannot be pulled: {why}")
    shell.run(Run(["docker", "tag", source, stack.image]))


def first_steps(stack: Stack, tag: str) -> list[Step]:
    """The steps of a first start. An update does the same beside the running release, and then switches nginx."""
    named = Run(["docker", "tag", f"{stack.env.image}:{images.tag(tag)}", stack.image]) if tag else build(stack)
    about = (stack.project.root, stack.place, tag or git.revision(stack.project.root).tag)
    before, after = (hooks.steps(words, *about) for words in (stack.env.hook_before, stack.env.hook_after))
    return [*before, *release_steps(stack, named), *after]


def release_steps(stack: Stack, image: Run) -> list[Step]:
    """The steps of a release; ``image`` provides the image for its containers."""
    once = [*START, "--wait"]
    return [
        image,
        *secret_steps(stack),
        *nginx_steps(stack, proxy.ALL),
        stack.compose(*once, *additions.beside(stack)),
        stack.compose("run", "--rm", "-T", "--no-deps", "release"),
        stack.compose(
            *once, *scales(wanted(stack, replicas(stack.name))), *maintenance.free(stack, stack.site_services)
        ),
        stack.compose(*once, "nginx"),
    ]


def ports(stack: Stack) -> dict[str, tuple[str, int]]:
    """The ports that the stack uses on this machine: key in `.env`, service and number."""
    return {"HTTP_PORT": ("nginx", stack.env.http_port), "HTTPS_PORT": ("nginx", stack.env.https_port)}


def url(stack: Stack) -> str:
    """The URL of the site on this machine."""
    scheme, port = ("https", stack.env.https_port) if stack.env.tls else ("http", stack.env.http_port)
    host = next((name for name in stack.env.allowed_hosts if not name.startswith(".")), stack.env.allowed_hosts[0])
    return f"{scheme}://{host}/" if port in (80, 443) else f"{scheme}://{host}:{port}/"


# --- Deploying ---


def first_start(stack: Stack, notify: Notify) -> None:
    """Start all services in the order of their dependencies."""
    shell.perform(nginx_steps(stack, proxy.ALL))
    counts = wanted(stack, replicas(stack.name))
    notify(f"start: {', '.join(additions.beside(stack))}")
    up(stack, *additions.beside(stack))
    release(stack, notify)
    services = maintenance.free(stack, stack.site_services)
    notify(f"start: {', '.join(f'{counts.get(service, 1)} {service}' for service in services)}")
    shell.run(stack.compose(*START, *scales(counts), *services), capture=True)
    await_healthy(replicas(stack.name, *services))
    up(stack, "nginx")
    record(stack, [*stack.datastores, "nginx"], definitions(stack))


def require_scalable(stack: Stack, service: str) -> None:
    """Raise `Failure` for a service whose number of replicas is fixed."""
    allowed = stack.rolling if stack.kind == PROD else stack.rolling[1:]
    if service not in allowed:
        some = f"{stack.kind} can scale only {' and '.join(allowed) or 'nothing'}"
        raise Failure(f"--service is {service!r}: {stack.why_not_scaled(service) or some}")


def scale(stack: Stack, service: str, number: int, notify: Notify) -> None:
    """Change the number of replicas. Those that are stopped get no new work, and finish their requests or tasks.

    New replicas get the secrets of the serving release. Raises `Failure` for a service that cannot be scaled.
    """
    require_scalable(stack, service)
    with only_one(stack, f"a change of {service}"), ledger.recorded(stack, "scale", f"{service} to {number}"):
        stack = ledger.serving(stack)
        journal.recover(stack, notify)
        now = [each for each in replicas(stack.name, service) if each.running]
        only_these = route_only_to(stack, names(now[:number], "app"), mounted(stack).nginx, wait=number < len(now))
        with only_these if service == "app" and number != len(now) else nullcontext():
            if number > len(now):
                start_replicas(stack, create_replicas(stack, {service: number - len(now)}))
            stop_replicas(now[number:])
    notify(f"{service}: {len(now)} → {number}")
