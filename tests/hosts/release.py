"""A site on the test machines: deploys, load, and the units that its hosts run."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from tests.rig.load import Load
from tests.rig.machines import Fleet, Machine
from tests.rig.visitor import ADMIN
from tests.support import TOOLS, environment, wait_until

WEB = ("web1", "web2")
SITE = (*WEB, "jobs1")
#: What is appended to the site so that it has a task and a page that go on until a file is there: however slow the
#: machine is, they go on while a test wants them to. None waits longer than a proxy, or a person who looks on, does.
NAP = '''

@shared_task
def nap(file: str, mark: str) -> None:
    """Sleep until a file exists, then write a mark with the release that ran the task."""
    import os
    import time

    from polls.services import create_poll

    for _ in range(3000):
        if os.path.exists(file):
            break
        time.sleep(0.1)
    create_poll(f"{mark} {os.environ['STATIC_ROOT']}", ["yes", "no"])
'''
SLOW = """

def slow(request, file):
    import os
    import time

    from django.http import HttpResponse

    for _ in range(590):
        if os.path.exists(f"/opt/{file}"):
            return HttpResponse("slow")
        time.sleep(0.1)
    return HttpResponse("too slow")


urlpatterns += [path("slow/<file>", slow)]
"""
#: One that fails, for a file after the site's own migrations.
MIGRATION = """from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("polls", "0002_schedule")]
    operations = [migrations.RunSQL("SELECT nothing FROM nowhere")]
"""


def append(site: Fleet, path: str, text: str) -> None:
    file = site.project / path
    file.write_text(file.read_text() + text)


def one_release(site: Fleet, names: Sequence[str] = SITE) -> str:
    """The release that all of these hosts serve."""
    [found] = {site.current(site[name]) for name in names}
    assert found
    return found


def units(machine: Machine) -> dict[tuple[str, str], str]:
    """The states of the units that are not inactive, by kind and release."""
    said = machine.sh("/usr/local/sbin/portico-test-helper units").splitlines()
    return {(kind, release): state for kind, release, state in map(str.split, said)}


def ledger(site: Fleet, name: str) -> str:
    """The ledger of a host."""
    return site[name].sh("cat /srv/portico-test/state/ledger.jsonl")


def settled(site: Fleet) -> bool:
    """Whether each host runs the units of its release, and no others."""
    roles = {"web1": {"web"}, "web2": {"web"}, "jobs1": {"worker", "beat"}}
    for name, kinds in roles.items():
        release = site.current(site[name])
        if units(site[name]) != {(kind, release): "active" for kind in kinds}:
            return False
    return True


#: Seconds after which no old unit may run: those that `first_release` gives to what is under way, and some to stop.
SETTLED_SECONDS = 330


def wait_settled(site: Fleet, seconds: float = SETTLED_SECONDS) -> None:
    """Wait until each host runs only the units of its release; otherwise fail the test with the units it runs."""
    try:
        wait_until(lambda: settled(site), seconds, "only the units of the release run")
    except AssertionError as error:
        runs = {name: (site.current(site[name]), units(site[name])) for name in SITE}
        raise AssertionError(f"{error}: {runs}") from None


@contextmanager
def load(site: Fleet, seconds: float = 900, rest: float = 0.5, maintenance: str = "") -> Iterator[list[Load]]:
    """A steady load on both web hosts, half of it POST. Fails the test if a request failed.

    ``rest`` is the seconds that each client waits after a request; ``maintenance`` is on a page that is no failure.
    """
    ports = [site[name].http_port for name in WEB]
    loads = [Load(each, clients=4, rest=rest, most_seconds=seconds, maintenance=maintenance) for each in ports]
    with ExitStack() as stack:
        for each in loads:
            stack.enter_context(each)
        yield loads
    for each in loads:
        print(each.report())
        assert not each.failures, each.failures[:10]
        assert each.total > 0


def change(site: Fleet, number: int) -> None:
    """A commit that changes a page and a static file."""
    append(site, "site/polls/static/polls/style.css", f"\n.change-{number} {{ color: #{number:06d}; }}\n")
    site.commit(f"change {number}")


def start(site: Fleet, task: str = "remote-deploy", *more: str) -> "subprocess.Popen[str]":
    """A deploy, or another task, that runs in the background."""
    words = ["python3", str(site.project / "tasks.py"), task, "--env", "test", *more]
    path = f"{TOOLS}:{os.environ['PATH']}"
    env = {**environment(**site.environment()), "PATH": path}
    return subprocess.Popen(
        words, env=env, cwd=site.project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def whole(site: Fleet, name: str) -> bool:
    """Whether the current release has everything it needs, and its unit."""
    machine = site[name]
    release = site.current(machine)
    files = "test -s env -a -s release.json -a -x venv/bin/python -a -d static && echo whole"
    kinds = {"web1": "web", "web2": "web", "jobs1": "worker"}
    said = machine.sh(f"cd /srv/portico-test/releases/{release} && {files}", check=False)
    return said.strip() == "whole" and (kinds[name], release) in units(machine)


def peek(child: "subprocess.Popen[str]") -> str:
    assert child.stdout is not None
    return child.stdout.readline()


def shell(site: Fleet, python: str) -> str:
    return site.must("remote-manage", "--", "shell", "-v0", "-c", python).stdout.strip()


def first_release(fleet: Fleet) -> None:
    """Set the fleet up, with a first release, sample polls and an administrator."""
    # A task must outlive two deploys, even on a slow machine.
    fleet.configure(drain=300)
    fleet.must("remote-setup", "--yes")
    append(fleet, "site/polls/tasks.py", NAP)
    append(fleet, "site/mysite/urls.py", SLOW)
    fleet.commit("a task and a page that take their time")
    fleet.must("remote-deploy")
    name, password = ADMIN.split(":")
    python = (
        "from django.contrib.auth import get_user_model as users; "
        f"users().objects.create_superuser({name!r}, 'a@example.org', {password!r})"
    )
    fleet.must("remote-manage", "--", "load_sample_polls")
    fleet.must("remote-manage", "--", "shell", "-c", python)
