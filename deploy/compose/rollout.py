"""A release into production with compose: new replicas beside the old, nginx turned to them, the old ones drained.

Compose itself replaces a container by stopping it first. What loses no request was found by measuring: nginx is told
the old replicas by name, so that none gets a request for being there; the new ones start, and are asked whether they
are well; nginx is told the new ones, and reloads; once the nginx processes that knew the old ones are gone, nothing is
on its way to those any more, and they stop. Were they stopped earlier, what waits to be accepted by them would be cut
off: nginx rightly does not send a POST twice.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

from deploy.compose.containers import Replica, inspect, replicas
from deploy.compose.front import current_upstream, serve
from deploy.core import git, shell
from deploy.core.errors import Failure
from deploy.core.running import Say, alone, run_once
from deploy.core.shell import Run, Step, WriteSecret
from deploy.docker import images
from deploy.docker.stack import DATASTORES, DEFAULT_REPLICAS, Stack, build, nginx_steps, secret_steps
from deploy.project import proxy

#: Seconds for new containers to become healthy.
HEALTH_SECONDS = 150
#: Seconds for a healthy replica to say that it is ready: servers reached, migrations applied.
READY_SECONDS = 20

#: Images of earlier releases that are kept, to go back to with `invoke prod --tag`.
KEPT_IMAGES = 5
ROLLING = ("app", "celery_worker")
#: Where it is remembered with which definitions the services were started that outlive a release.
DEFINITIONS = "definitions.json"


def only_one(stack: Stack) -> AbstractContextManager[None]:
    """Hold the stack; raises `Failure` when another command does."""
    shell.perform(secret_steps(stack)[:1])
    return alone(
        stack.secrets / "lock", f"another command is changing {stack.name} at this moment; repeat when it is done"
    )


def wanted(stack: Stack, running: Sequence[Replica]) -> dict[str, int]:
    """How many replicas of what rolls: as `.env` says, else as many as run, else the default."""
    named = {"app": stack.env.app_replicas, "celery_worker": stack.env.worker_replicas}
    counts = {service: sum(1 for each in running if each.service == service and each.running) for service in ROLLING}
    return {service: named[service] or counts[service] or DEFAULT_REPLICAS[service] for service in ROLLING}


def prod(stack: Stack, tag: str, say: Say) -> None:
    """Put the work tree's release, or that of an earlier image, into service.

    Raises `Failure` when that does not succeed; then what served before serves on.
    """
    with only_one(stack):
        fetch_image(stack, tag, say)
        shell.perform(secret_steps(stack))
        if any(each.running for each in replicas(stack.name, "app")):
            update(stack, say)
        else:
            first_start(stack, say)
        prune_images(stack)


def fetch_image(stack: Stack, tag: str, say: Say) -> None:
    """Build the image, or take an earlier one by its tag."""
    if not tag:
        version = git.revision(stack.project.root)
        say(f"build: {version.name}")
        shell.run(build(stack))
        return
    source = f"{stack.env.image}:{images.tag(tag)}"
    if not _image_id(source) and shell.run(Run(["docker", "pull", source]), capture=True, check=False).code:
        raise Failure(f"{source}: there is no such image here, nor in a registry; `docker image ls` lists those here")
    shell.run(Run(["docker", "tag", source, stack.image]))


def show(stack: Stack, tag: str) -> None:
    """Print what a first start would run. An update does the same beside what runs, and then turns nginx."""
    image = Run(["docker", "tag", f"{stack.env.image}:{images.tag(tag)}", stack.image]) if tag else build(stack)
    once = ["up", "-d", "--no-deps", "--no-build", "--wait"]
    counts = wanted(stack, replicas(stack.name))
    steps: list[Step] = [
        image,
        *secret_steps(stack),
        *nginx_steps(stack, proxy.ALL),
        stack.compose(*once, *DATASTORES),
        stack.compose("run", "--rm", "-T", "--no-deps", "release"),
        stack.compose(*once, *scales(counts), *ROLLING, "celery_beat"),
        stack.compose(*once, "nginx"),
    ]
    shell.perform(steps, dry_run=True)


def ports(stack: Stack) -> dict[str, tuple[str, int]]:
    """The ports of this machine that the stack takes: key in `.env`, service and number."""
    return {"HTTP_PORT": ("nginx", stack.env.http_port), "HTTPS_PORT": ("nginx", stack.env.https_port)}


def url(stack: Stack) -> str:
    """Where the site is found on this machine."""
    scheme, port = ("https", stack.env.https_port) if stack.env.tls else ("http", stack.env.http_port)
    host = next((name for name in stack.env.allowed_hosts if not name.startswith(".")), stack.env.allowed_hosts[0])
    return f"{scheme}://{host}/" if port in (80, 443) else f"{scheme}://{host}:{port}/"


def first_start(stack: Stack, say: Say) -> None:
    """Start everything, in the order in which one needs the other."""
    shell.perform(nginx_steps(stack, proxy.ALL))
    counts = wanted(stack, replicas(stack.name))
    say(f"start: {', '.join(DATASTORES)}")
    up(stack, *DATASTORES)
    release(stack, say)
    say(f"start: {', '.join(f'{number} {service}' for service, number in counts.items())}, 1 celery_beat")
    services = (*ROLLING, "celery_beat")
    shell.run(stack.compose("up", "-d", "--no-deps", "--no-build", *scales(counts), *services), capture=True)
    await_well(replicas(stack.name, *services))
    up(stack, "nginx")
    record(stack, [*DATASTORES, "nginx"])


def update(stack: Stack, say: Say) -> None:
    """Replace what runs without losing a request; what fails is taken away again."""
    clear_up(stack, say)
    old = [each for each in replicas(stack.name, *ROLLING) if each.running]
    counts = wanted(stack, old)
    up(stack, *DATASTORES, recreate=False)
    other = changed(stack)
    for service in set(other) & set(DATASTORES):
        say(
            f"{service}: its definition has changed, and it runs on as it was;"
            f" `docker compose up -d --no-deps {service}` replaces it, with a pause"
        )
    try:
        # In the file before anything starts: who is named in it serves, should we not live to the end of this.
        serve(stack, names(old, "app"))
        release(stack, say)
        say(f"start beside the old ones: {', '.join(f'{number} {service}' for service, number in counts.items())}")
        new = grow(stack, counts)
    except BaseException:
        keep_image(stack, old)
        serve(stack, proxy.ALL)
        raise
    say(f"turn nginx to {', '.join(names(new, 'app'))}")
    serve(stack, names(new, "app"), wait=True)
    say(f"drain and stop {', '.join(each.name for each in old)}")
    retire(old)
    up(stack, "celery_beat", force=True)  # one beat: the old one stops before the new one starts
    if "nginx" in other:
        say("replace nginx, whose definition has changed: connections are refused for a moment")
    up(stack, "nginx", recreate="nginx" in other)
    record(stack, ["nginx"])
    serve(stack, proxy.ALL)


def scale(stack: Stack, service: str, number: int, say: Say) -> None:
    """Have so many replicas of a service, without losing what those that go are at. Raises `Failure` for a service
    that cannot be scaled."""
    allowed = ROLLING if stack.kind == "prod" else ("celery_worker",)
    if service not in allowed:
        why = "there must be one beat" if service == "celery_beat" else f"of {stack.kind}, {' and '.join(allowed)} can"
        raise Failure(f"--service is {service!r}: {why}")
    with only_one(stack):
        clear_up(stack, say)
        now = [each for each in replicas(stack.name, service) if each.running]
        rolling = service == "app"
        if number > len(now):
            if rolling:
                serve(stack, names(now, "app"))
            try:
                grow(stack, {service: number - len(now)})
            finally:
                if rolling:
                    serve(stack, proxy.ALL)
        elif number < len(now):
            if rolling:
                serve(stack, names(now[:number], "app"), wait=True)
            retire(now[number:])
            if rolling:
                serve(stack, proxy.ALL)
    say(f"{service}: {len(now)} → {number}")


# --- Steps ---


def up(stack: Stack, *services: str, recreate: bool = True, force: bool = False) -> None:
    """Start services that are not running, and wait until they are well; replace those that changed, or all."""
    words = ["--force-recreate"] if force else [] if recreate else ["--no-recreate"]
    shell.run(stack.compose("up", "-d", "--no-deps", "--no-build", *words, *services), capture=True)
    await_well(replicas(stack.name, *services))


def release(stack: Stack, say: Say) -> None:
    """Run the one-shot service that migrates and publishes static files. Raises `Failure` when it fails."""
    say("release: static files, migrations")
    run_once("release", stack.compose("run", "--rm", "-T", "--no-deps", "release"), stack.project.run_folder)


def grow(stack: Stack, more: Mapping[str, int]) -> list[Replica]:
    """Start so many replicas beside those that run, and wait until they are well; returns them.

    Raises `Failure` when they do not become well, having taken all of them away again.
    """
    known = {each.name for each in replicas(stack.name, *more)}
    totals = {
        service: number + sum(1 for each in replicas(stack.name, service) if each.name in known)
        for service, number in more.items()
    }
    try:
        shell.run(
            stack.compose("up", "-d", "--no-deps", "--no-build", "--no-recreate", *scales(totals), *more), capture=True
        )
        fresh = [each for each in replicas(stack.name, *more) if each.name not in known]
        await_well(fresh)
        for each in fresh:
            if each.service == "app":
                await_ready(each, stack.project.probes)
        return fresh
    except BaseException:
        remove([each for each in replicas(stack.name, *more) if each.name not in known])
        raise


def scales(counts: Mapping[str, int]) -> list[str]:
    """The words that say how many replicas."""
    return [word for service, number in counts.items() for word in ("--scale", f"{service}={number}")]


def names(some: Sequence[Replica], service: str) -> list[str]:
    return [each.name for each in some if each.service == service]


def await_well(some: Sequence[Replica]) -> None:
    """Return once all of them are healthy.

    Raises `Failure` for one that ends, restarts or takes too long, its last lines shown.
    """
    deadline = time.monotonic() + HEALTH_SECONDS
    while True:
        now = inspect(some)
        for each, before in zip(now, some, strict=True):
            if how := each.failed(before.restarts):
                tell_last_lines([each])
                raise Failure(f"{each.name} {how}; its last lines are above")
        missing = [each for each in now if not each.well]
        if not missing:
            return
        if time.monotonic() > deadline:
            tell_last_lines(missing)
            raise Failure(f"not healthy within {HEALTH_SECONDS} s: {', '.join(each.name for each in missing)}")
        time.sleep(0.3)


def await_ready(replica: Replica, probes: Sequence[str]) -> None:
    """Return once a replica answers all of these paths without an error.

    Raises `Failure` with what it answers, its last lines shown.
    """
    deadline = time.monotonic() + READY_SECONDS
    for path in probes:
        asked = Run(["docker", "exec", replica.name, "python", "healthcheck.py", f"http://127.0.0.1:8000{path}"])
        while (result := shell.run(asked, capture=True, check=False)).code:
            if time.monotonic() > deadline:
                tell_last_lines([replica])
                raise Failure(f"{replica.name} is not ready: {shell.last_line(result.stderr)}")
            time.sleep(0.5)


def retire(some: Sequence[Replica]) -> None:
    """Stop replicas that nothing is sent to any more, each with its `stop_grace_period`; then remove them."""
    if some:
        shell.run(Run(["docker", "stop", *(each.name for each in some)]), capture=True, check=False)
    remove(some)


def remove(some: Sequence[Replica]) -> None:
    """Remove containers at once."""
    if some:
        shell.run(Run(["docker", "rm", "--force", *(each.name for each in some)]), capture=True, check=False)


def clear_up(stack: Stack, say: Say) -> None:
    """Remove what an earlier command left when it was killed: replicas that ended, and those that do not serve."""
    left = left_over(replicas(stack.name, *ROLLING), current_upstream(stack))
    if left:
        say(f"remove what an earlier command left: {', '.join(each.name for each in left)}")
        remove(left)


def left_over(some: Sequence[Replica], serving: Sequence[str]) -> list[Replica]:
    """What an interrupted command left behind, by the replicas that nginx is told to use."""
    ended = [each for each in some if each.state in ("created", "exited", "dead")]
    if tuple(serving) == proxy.ALL or not any(each.name in serving and each.running for each in some):
        return ended
    return [each for each in some if each in ended or (each.service == "app" and each.name not in serving)]


def tell_last_lines(some: Sequence[Replica]) -> None:
    """Show the end of the logs, on standard error."""
    for each in some:
        result = shell.run(Run(["docker", "logs", "--tail", "20", each.name]), capture=True, check=False)
        for line in (result.stdout + result.stderr).splitlines():
            sys.stderr.write(f"{each.name} | {line}\n")


def definitions(stack: Stack) -> dict[str, str]:
    """A hash of what the files and `.env` say of each service that is not replaced by each release."""
    said = shell.run(stack.compose("config", "--hash", ",".join((*DATASTORES, "nginx"))), capture=True).stdout
    return {service: value for service, _, value in (line.partition(" ") for line in said.splitlines())}


def changed(stack: Stack) -> list[str]:
    """The services whose definition is another than when they were started.

    The engine's own record does not tell: Compose computes another one when it starts a service without the others.
    """
    path = stack.secrets / DEFINITIONS
    recorded = json.loads(path.read_text()) if path.exists() else {}
    return [service for service, value in definitions(stack).items() if recorded.get(service, value) != value]


def record(stack: Stack, services: Sequence[str]) -> None:
    """Remember the definitions with which these services were started."""
    path = stack.secrets / DEFINITIONS
    recorded = json.loads(path.read_text()) if path.exists() else {}
    now = definitions(stack)
    recorded.update({service: now[service] for service in services if service in now})
    shell.perform([WriteSecret(path, json.dumps(recorded))])


def keep_image(stack: Stack, serving: Sequence[Replica]) -> None:
    """Have the next container made of the image that serves: not of what has just failed."""
    asked = Run(["docker", "inspect", "-f", "{{.Image}}", serving[0].name])
    shell.run(Run(["docker", "tag", shell.run(asked, capture=True).stdout.strip(), stack.image]), check=False)


def prune_images(stack: Stack) -> None:
    """Remove images of releases long past; what a container uses stays."""
    listed = shell.run(
        Run(["docker", "image", "ls", stack.env.image, "--format", "{{.Tag}}"]), capture=True, check=False
    )
    tags = [tag for tag in listed.stdout.split() if tag not in ("latest", "<none>")]
    for old in tags[KEPT_IMAGES:]:
        shell.run(Run(["docker", "rmi", f"{stack.env.image}:{old}"]), capture=True, check=False)


def _image_id(name: str) -> str:
    found = shell.run(Run(["docker", "image", "inspect", "-f", "{{.Id}}", name]), capture=True, check=False)
    return found.stdout.strip() if found.code == 0 else ""
