"""Keys of `invoke.yaml` that a newer version calls by another name."""

import pytest

from deploy.core.errors import Failure
from deploy.project import config
from deploy.project.upgrade import keys
from tests.support import ROOT

MOVED = {"package": "", "samples": "examples", "settings.dev": "settings.development", "workers.pool": ""}


def test_names_change_and_all_else_stays_as_it_was() -> None:
    text = """\
# The shop.
run: {echo: true}   # Invoke's own
project:
  name: shop
  package: shop   # goes
  # what fills a database
  samples: load_it  # why
  settings: {dev: a.b, prod: c.d}
  workers:
    pool:
      - long
      - list
    mail: {queues: [mail]}
"""
    assert keys.migrated(text, MOVED) == (
        """\
# The shop.
run: {echo: true}   # Invoke's own
project:
  name: shop
  # what fills a database
  examples: load_it  # why
  settings: {development: a.b, prod: c.d}
  workers:
    mail: {queues: [mail]}
""",
        [
            "invoke.yaml:5: project.package is removed: nothing reads it any more",
            "invoke.yaml:6: project.samples becomes examples",
            "invoke.yaml:9: project.workers.pool is removed: nothing reads it any more",
            "invoke.yaml:7: project.settings.dev becomes settings.development",
        ],
    )


@pytest.mark.parametrize("text", ["", "project:\n  name: shop\n", "samples: x\n", "project: [\n", "- a\n"])
def test_a_file_without_such_keys_is_left_as_it_is(text: str) -> None:
    assert keys.migrated(text, MOVED) == (text, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("project:\n  samples: a\n  examples: b\n", "invoke.yaml:2: project.samples is now called examples, which is"),
        ("project: {name: a, package: b}\n", "invoke.yaml:1: project.package is no key any more; remove it"),
        ("project:\n  package: b\n", "invoke.yaml:2: project.package is no key any more; remove it"),
    ],
)
def test_what_a_person_decides_is_one_line(text: str, message: str) -> None:
    with pytest.raises(Failure, match=message):
        keys.migrated(text, MOVED)


def test_an_older_version_can_read_the_table_of_this_one() -> None:
    source = (ROOT / "deploy" / "project" / "upgrade" / "keys.py").read_text()
    assert keys.table(source) == keys.MOVED
    assert keys.table("") == {}


def test_the_table_is_about_keys_that_there_were_and_are() -> None:
    assert set(keys.MOVED) >= set(config.FORMER)
    for old, new in keys.MOVED.items():
        assert old.partition(".")[0] not in config.KEYS or "." in old
        assert not new or (new.partition(".")[0] in config.KEYS and new.rpartition(".")[0] == old.rpartition(".")[0])
