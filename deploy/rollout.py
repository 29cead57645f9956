"""A release into production with compose: new replicas beside the old, nginx turned to them, the old ones drained.

Compose itself replaces a container by stopping it first. What loses no request was found by measuring: nginx is told
the old replicas by name, so that none gets a request for being there; the new ones start, and are asked whether they
are well; nginx is told the new ones, and reloads; once the nginx processes that knew the old ones are gone, nothing is
on its way to those any more, and they stop. Were they stopped earlier, what waits to be accepted by them would be cut
off: nginx rightly does not send a POST twice.

Beat is replaced before nginx is turned, so that a release whose beat fails never gets a request. The old beat stops
before the new one starts, and its container stays until the old release is removed: it can be started again.

Turning nginx is the one step that decides: before it the old release is restored, after it the new one stays. What ran
before is in a file until the update is over, so that the next command knows it even when this one was killed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

from deploy import images, proxy, server_env, shell
from deploy.compose import (
    DATASTORES,
    DEFAULT_REPLICAS,
    READABLE,
    Replica,
    Say,
    Stack,
    build_ca,
    inspect,
    nginx_steps,
    replicas,
    secret_steps,
)
from deploy.errors import Failure
from deploy.running import alone, run_once
from deploy.shell import Run, Step, WriteSecret

#: Seconds for new containers to become healthy.
HEALTH_SECONDS = 150
#: Seconds for a healthy replica to say that it is ready: servers reached, migrations applied.
READY_SECONDS = 20
#: Seconds to wait for nginx processes that still serve old connections; those then go on without the old replicas.
DRAIN_SECONDS = 60
#: Seconds for nginx to start new processes, and to look up the names that they are told.
RELOAD_SECONDS, RESOLVE_SECONDS = 20, 1.0
#: Images of earlier releases that are kept, to go back to with `invoke prod --tag`.
KEPT_IMAGES = 5
ROLLING = ("app", "celery_worker")
BEAT = "celery_beat"
#: What an update replaces.
RELEASED = (*ROLLING, BEAT)
#: States of a container that does not run, and will not by itself.
ENDED = ("created", "exited", "dead")
#: Where the names of what ran before an update are until it is over.
BEFORE = "before.json"
#: Where it is remembered with which definitions the services were started that outlive a release.
DEFINITIONS = "definitions.json"


def check(stack: Stack) -> None:
    """Raise `Failure` for what would stop a rollout later."""
    if stack.env.tls_certificate and stack.env.tls_key:
        server_env.check_certificate(stack.env.tls_certificate, stack.env.tls_key)


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
        clear_up(stack, say)  # first: it may have the image of what serves be the next container's again
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
        version = images.revision(stack.project.root)
        say(f"build: {version.name}")
        shell.run(build(stack))
        return
    source = f"{stack.env.image}:{images.tag(tag)}"
    if not _image_id(source):
        pulled = shell.run(Run(["docker", "pull", source]), capture=True, check=False)
        if pulled.code:
            raise Failure(
                f"{source}: there is no such image here, and `docker pull` fails: {shell.last_line(pulled.stderr)};"
                " `docker image ls` lists those here"
            )
    shell.run(Run(["docker", "tag", source, stack.image]))


def build(stack: Stack, tag: str = "", platform: str = "") -> Run:
    """Build the production image under its revision or a tag; without one, the next container is made of it."""
    version = images.revision(stack.project.root)
    names = [f"{stack.env.image}:{tag}"] if tag else [f"{stack.env.image}:{version.tag}", stack.image]
    return images.build(stack.project, "app", names, version, ca=build_ca(stack.env), platform=platform)


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
        stack.compose(*once, *scales(counts), *RELEASED),
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
    """Start everything, in the order in which one needs the other. Raises `Failure` when a part does not start."""
    shell.perform(nginx_steps(stack, proxy.ALL))
    counts = wanted(stack, replicas(stack.name))
    say(f"start: {', '.join(DATASTORES)}")
    up(stack, *DATASTORES)
    release(stack, say)
    say(f"start: {', '.join(f'{number} {service}' for service, number in counts.items())}, 1 {BEAT}")
    shell.run(stack.compose("up", "-d", "--no-deps", "--no-build", *scales(counts), *RELEASED), capture=True)
    try:
        await_well(replicas(stack.name, *RELEASED))
    except Failure as failure:
        raise Failure(f"{failure.message}; nginx was not started: fix that, and repeat `invoke prod`") from None
    up(stack, "nginx")
    record(stack, [*DATASTORES, "nginx"])


def update(stack: Stack, say: Say) -> None:
    """Replace what runs without losing a request. Raises `Failure` when the new release does not start; then the old
    one runs as before."""
    old = [each for each in replicas(stack.name, *RELEASED) if each.state not in ENDED]
    shell.perform([WriteSecret(stack.secrets / BEFORE, json.dumps([each.name for each in old]))])
    try:
        up(stack, *DATASTORES, recreate=False)
        other = changed(stack)
        for service in set(other) & set(DATASTORES):
            say(
                f"{service}: its definition has changed, and it runs on as it was;"
                f" `docker compose up -d --no-deps {service}` replaces it, with a pause"
            )
        new = start_release(stack, old, say)
        say(f"turn nginx to {', '.join(names(new, 'app'))}")
        serve(stack, names(new, "app"), wait=True)
    except BaseException:
        put_back(stack, old, say)
        raise
    kept = {each.name for each in new}
    left = [each for each in replicas(stack.name, *RELEASED) if each.name not in kept]
    say(f"drain and stop {', '.join(each.name for each in left)}")
    retire(left)
    if "nginx" in other:
        say("replace nginx, whose definition has changed: connections are refused for a moment")
    up(stack, "nginx", recreate="nginx" in other)
    record(stack, ["nginx"])
    serve(stack, proxy.ALL)
    forget(stack)


def start_release(stack: Stack, old: Sequence[Replica], say: Say) -> list[Replica]:
    """Start the new release beside the old, its beat in place of the old one; returns its replicas.

    Raises `Failure` when a part of it does not become healthy.
    """
    # In the file before anything starts: who is named in it serves, should we not live to the end of this.
    serve(stack, [each.name for each in old if each.service == "app" and each.running])
    release(stack, say)
    counts = wanted(stack, old)
    say(f"start beside the old ones: {', '.join(f'{number} {service}' for service, number in counts.items())}")
    new = grow(stack, counts)
    say(f"replace {BEAT}: the old one stops, then the new one starts")
    beat = create_beat(stack)
    start_beat(stack, beat)
    await_well([beat])
    return [*new, beat]


def put_back(stack: Stack, old: Sequence[Replica], say: Say) -> None:
    """Have the old release run alone again, whatever had been reached. The next command does what fails of it."""
    attempt(say, lambda: keep_image(stack, old), lambda: restore(stack, old))


def attempt(say: Say, *steps: Callable[[], None]) -> None:
    """Do all of this while an error is handled: a `Failure` of these is said, and does not replace that error."""
    failures = []
    for step in steps:
        try:
            step()
        except Failure as failure:
            failures.append(failure.message)
    for message in failures:
        say(f"not restored, the next command tries again: {message}")


def restore(stack: Stack, kept: Sequence[Replica]) -> None:
    """Have these replicas run and serve alone; the others are drained, stopped and removed. Raises `Failure`."""
    mine = {each.name for each in kept}
    others = [each for each in replicas(stack.name, *RELEASED) if each.name not in mine]
    for beat in [each for each in kept if each.service == BEAT][:1]:
        start_beat(stack, beat)
    if names(others, "app"):
        turn_back(stack, [each.name for each in kept if each.service == "app" and each.running])
    retire(others)
    if _serving(stack) != proxy.ALL:
        serve(stack, proxy.ALL)
    forget(stack)


def forget(stack: Stack) -> None:
    """An update is over: what ran before it does not matter any more."""
    (stack.secrets / BEFORE).unlink(missing_ok=True)


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
            except BaseException:
                if rolling:
                    attempt(say, lambda: serve(stack, proxy.ALL))
                raise
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


def up(stack: Stack, *services: str, recreate: bool = True) -> None:
    """Start services that are not running, and wait until they are well; with ``recreate``, replace what changed."""
    words = [] if recreate else ["--no-recreate"]
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


def create_beat(stack: Stack) -> Replica:
    """Make the container of another beat, which does not run yet; what runs is left as it is."""
    known = [each.name for each in replicas(stack.name, BEAT)]
    words = ["--no-deps", "--no-build", "--no-recreate", *scales({BEAT: len(known) + 1}), BEAT]
    shell.run(stack.compose("up", "--no-start", *words), capture=True)
    return next(each for each in replicas(stack.name, BEAT) if each.name not in known)


def start_beat(stack: Stack, beat: Replica) -> None:
    """Have this beat run, and no other one: those are stopped before, and kept. Raises `Failure`."""
    others = [each.name for each in replicas(stack.name, BEAT) if each.name != beat.name]
    if others:
        shell.run(Run(["docker", "stop", *others]), capture=True)
    shell.run(Run(["docker", "start", beat.name]), capture=True)


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


def serve(stack: Stack, upstream: Sequence[str], *, wait: bool = False) -> None:
    """Turn nginx to these replicas; with ``wait``, return when no process of it knows any others.

    In two steps: first it learns the addresses, still serving by those before; then it uses them. Raises `Failure` for
    a configuration that it does not take; then the files are as they were, too.
    """
    laid = [path for path in (stack.secrets / "nginx").glob("*") if path.is_file()]
    before = [WriteSecret(path, path.read_text(), READABLE) for path in laid]
    try:
        _turn(stack, upstream, wait=wait)
    except Failure:
        shell.perform(before)
        raise


def _turn(stack: Stack, upstream: Sequence[str], *, wait: bool) -> None:
    fronts = _fronts(stack)
    before = _serving(stack)
    if fronts and set(before) != set(upstream):
        shell.perform(nginx_steps(stack, before, [name for name in upstream if name not in before]))
        for front in fronts:
            reload(front)
        time.sleep(RESOLVE_SECONDS)
    shell.perform(nginx_steps(stack, upstream))
    for front in fronts:
        reload(front, wait=wait)


def turn_back(stack: Stack, upstream: Sequence[str]) -> None:
    """Turn nginx from what was to follow these replicas back to them, and wait for it, as `serve` does.

    The files may say so already, and nginx have been told something else by then.
    """
    if set(_serving(stack)) != set(upstream):
        serve(stack, upstream, wait=True)
        return
    for front in _fronts(stack):
        reload(front, wait=True)


def _fronts(stack: Stack) -> list[str]:
    return [each.name for each in replicas(stack.name, "nginx") if each.running]


def reload(front: str, *, wait: bool = False) -> None:
    """Have nginx take its configuration, and return when it has; with ``wait``, when none of its processes goes by
    the one before, or after `DRAIN_SECONDS`. Raises `Failure` when it does not take it: it goes on as it was."""
    nginx = ["docker", "exec", front, "nginx", "-c", "/etc/nginx/site/nginx.conf"]
    tested = shell.run(Run([*nginx, "-q", "-t"]), capture=True, check=False)
    if tested.code:
        raise Failure(f"nginx does not take its configuration: {proxy.complaint(tested.stderr)}")
    before = nginx_workers(front)
    shell.run(Run([*nginx, "-s", "reload"]), capture=True)
    began = time.monotonic()
    while True:
        now, seconds = nginx_workers(front), time.monotonic() - began
        if now - before and not (wait and now & before and seconds < DRAIN_SECONDS):
            return
        if not now - before and seconds > RELOAD_SECONDS:
            raise Failure(f"{front} started no process with its new configuration within {RELOAD_SECONDS} s")
        time.sleep(0.1)


def nginx_workers(container: str) -> set[int]:
    """The ids of the processes that serve, those included that only finish what they have. Raises `Failure`."""
    listed = shell.run(Run(["docker", "top", container, "-eo", "pid,args"]), capture=True).stdout
    return {int(line.split()[0]) for line in listed.splitlines() if "worker process" in line}


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
    """Finish what an earlier command left when it was killed: of two releases, the one that nginx is told stays."""
    path = stack.secrets / BEFORE
    before = json.loads(path.read_text()) if path.exists() else []
    now, serving = replicas(stack.name, *RELEASED), _serving(stack)
    left = left_over(now, serving, before)
    if left:
        say(f"remove what an earlier command left: {', '.join(each.name for each in left)}")
    if before and serves(now, serving):
        kept = [each for each in now if each not in left]
        keep_image(stack, kept)
        restore(stack, kept)
    else:
        remove(left)
        forget(stack)


def serves(some: Sequence[Replica], serving: Sequence[str]) -> bool:
    """Whether nginx is told replicas by name, of which one runs."""
    return any(each.name in serving and each.running for each in some)


def left_over(some: Sequence[Replica], serving: Sequence[str], before: Sequence[str] = ()) -> list[Replica]:
    """What an interrupted command left behind, by the replicas that nginx is told to use.

    ``before``: what ran before the update that was interrupted, by name; without it, it was no update.
    """
    ended = [each for each in some if each.service in ROLLING and each.state in ENDED]
    if not serves(some, serving):
        return ended
    if not before:
        return [each for each in some if each in ended or (each.service == "app" and each.name not in serving)]
    old_serves = any(name in before for name in serving)
    return [each for each in some if each in ended or (each.name in before) != old_serves]


def _serving(stack: Stack) -> tuple[str, ...]:
    path = stack.secrets / "nginx" / "http.conf"
    return proxy.serving(path.read_text()) if path.exists() else proxy.ALL


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
    """Have the next container made of the image that serves: not of what has just failed. Raises `Failure`."""
    for image in [each.image for each in serving if each.service == "app"][:1]:
        shell.run(Run(["docker", "tag", image, stack.image]), capture=True)


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
