"""A deploy on three nodes beside plain `docker stack deploy` of the same change, under load; and its exit code.

Needs an engine with the rig's images (`tests/rig/up`) and wrk. The rival gets our own stack file and the same image, so
that what is compared is the command; and once more with Swarm's own defaults in place of our update policies.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from deploy.core.shell import Run, run
from tests import support
from tests.figures import Figures
from tests.rig.engine import docker
from tests.rig.load import Load
from tests.rig.nodes import Cluster
from tests.support import wait_until
from tests.swarm.conftest import Swarm, fill, join, new_project

#: Seconds and connections of a measurement of requests a second.
SECONDS, CONNECTIONS = 8, 24


@contextmanager
def swarm(folder: Path) -> Iterator[Swarm]:
    cluster = Cluster(folder / "cluster")
    cluster.start()
    try:
        made = new_project(folder, cluster)
        join(made)
        made.must("swarm-deploy")
        fill(made)
        yield made
    finally:
        cluster.down()


def change(made: Swarm) -> None:
    (made.project / "site/polls/static/polls/style.css").open("a").write(f"\n.x{time.time_ns()} {{ color: red }}\n")


def break_it(made: Swarm) -> None:
    made.edit("site/polls/apps.py", "class", "import os\nif os.environ.get('DATABASE_URL_FILE'): 1 / 0\nclass")
    made.edit("deploy/kit/portico_site/release.py", '    if "migrate" in wanted:', "    if False:")


def repair(made: Swarm) -> None:
    for name in ("site/polls/apps.py", "deploy/kit/portico_site/release.py"):
        (made.project / name).write_text((support.ROOT / name).read_text())


def plainly(made: Swarm, edit: Callable[[str], str] = lambda text: text) -> int:
    """Build, push, and `docker stack deploy` with our stack file; its exit code."""
    name = f"{made.cluster.registry.address}/{made.name}:plain{time.time_ns()}"
    env = {**os.environ, **made.cluster.environment()}
    ca = os.environ.get("SSL_CERT_FILE", "/dev/null")
    build = ["docker", "buildx", "build", "-q", "--load", "--target", "app", "--secret", f"id=build_ca,src={ca}"]
    subprocess.run([*build, "-t", name, "."], cwd=made.project, env=env, check=True, capture_output=True)
    subprocess.run(["docker", "push", "-q", name], env=env, check=True, capture_output=True)
    file = support.invoke(made.project, "swarm-render", "--tag", name.rpartition(":")[2]).stdout
    document = yaml.safe_load(file)
    for job in ("release", "static"):
        del document["services"][job]
    words = ["stack", "deploy", "--detach=false", "--with-registry-auth", "-c", "-", made.name]
    command = ["timeout", "300", "docker", "-H", f"ssh://{made.manager}", *words]
    text = edit(yaml.safe_dump(document))
    return subprocess.run(command, env=env, input=text, text=True, check=False, capture_output=True).returncode


def with_defaults(text: str) -> str:
    """Swarm's own policies: stop the old replica, then start the new one; no draining."""
    document = yaml.safe_load(text)
    for service in document["services"].values():
        for key in ("update_config", "rollback_config"):
            service.get("deploy", {}).pop(key, None)
        service.get("environment", {}).pop("DRAIN_SECONDS", None)
    return yaml.safe_dump(document)


def measured(figures: Figures, made: Swarm, name: str, action: Callable[[], object]) -> None:
    with ExitStack() as stack:
        loads = [stack.enter_context(Load(node.http_port, clients=2, rest=0.03)) for node in made.nodes]
        time.sleep(1)
        began = time.perf_counter()
        outcome = action()
        took = time.perf_counter() - began
        time.sleep(3)
    total, failed = sum(load.total for load in loads), sum(len(load.failures) for load in loads)
    slowest = max(load.slowest for load in loads)
    lost = f"{failed} of {total} requests failed, slowest {slowest:.1f} s"
    figures.note(name, f"{took:.1f} s, exit {outcome}", lost)
    wait_until(lambda: all(made.serves(node) for node in made.nodes), 120, "it serves")


def updates(figures: Figures, made: Swarm) -> None:
    rivals: dict[str, Callable[[], object]] = {
        "swarm-deploy": lambda: made.invoke("swarm-deploy").code,
        "docker stack deploy, our stack file": lambda: plainly(made),
        "docker stack deploy, Swarm's default policies": lambda: plainly(made, with_defaults),
    }
    for kind, prepare in (("update", change), ("broken image", break_it)):
        for name, action in rivals.items():
            prepare(made)
            measured(figures, made, f"{kind}: {name}", action)
            repair(made)
            made.must("swarm-deploy")


def rates(figures: Figures, made: Swarm) -> None:
    """Requests a second of the list page, by replicas of the app, through one node and through all."""
    for number in (1, 2, 4):
        made.must("scale", "--on", "swarm", "--service", "app", "--replicas", str(number))
        time.sleep(3)
        options = ["-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--latency", "--timeout", "30"]
        said = run(Run(["wrk", *options, f"{made.url(made.nodes[0])}/"]), capture=True).stdout
        rate, p99 = re.search(r"Requests/sec:\s+([\d.]+)", said), re.search(r"99%\s+(\S+)", said)
        assert rate
        assert p99
        figures.note(f"list, {number} replicas of app", f"{float(rate[1]):.0f} requests/s", f"p99 {p99[1]}")


def main() -> None:
    """All of it, or the parts named: rates, updates."""
    parts = sys.argv[1:] or ["rates", "updates"]
    figures = Figures("swarm", " ".join([".venvs/test/bin/python -m tests.bench.swarm", *sys.argv[1:]]))
    with tempfile.TemporaryDirectory() as folder, swarm(Path(folder)) as made:
        if "rates" in parts:
            rates(figures, made)
            made.must("scale", "--on", "swarm", "--service", "app", "--replicas", "2")
        if "updates" in parts:
            updates(figures, made)
    figures.save()
    docker("image", "prune", "-f", check=False)


if __name__ == "__main__":
    main()
