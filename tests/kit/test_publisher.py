"""A process that may only send tasks declares no queue, and keeps the limits of those that send."""

import json

import pytest

from deploy.core.shell import Run, run
from tests import support
from tests.demonstration import GOOD

LOOK = """
import json
from portico_site.celery import app
from portico_site.publishing import GuardedAMQP
kinds = {name: type(app.amqp.queues[name]).__name__ for name in ("celery", "another")}
print(json.dumps({"guarded": isinstance(app.amqp, GuardedAMQP), **kinds}))
"""


@pytest.mark.parametrize(("rights", "kind"), [("publish", "Known"), ("all", "Queue"), ("declare", "Queue")])
def test_only_a_publisher_asks_for_queues_instead_of_declaring_them(rights: str, kind: str) -> None:
    python = str(support.ROOT / ".venvs" / "test" / "bin" / "python")
    given = {**GOOD, "PORTICO_CELERY": "mysite.celery_app:app", "PORTICO_BROKER": rights}
    said = run(Run([python, "-c", LOOK], given, cwd=support.ROOT / "site"), capture=True)
    assert json.loads(said.stdout) == {"guarded": True, "celery": kind, "another": kind}
