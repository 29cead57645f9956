"""The configuration of the project: each key, and the messages for invalid values."""

from __future__ import annotations

import pytest

from deploy.core.errors import Failure
from deploy.project import config
from tests.support import ROOT

VALUES: dict[str, object] = {"name": "portico", "site": "site", "port": 8000, "run": ".run"}
VALUES |= {"samples": "load_samples", "probes": "/readyz", "free_gigabytes": "3"}


def test_the_configuration_becomes_a_value() -> None:
    assert config.load(ROOT, VALUES).manage == ROOT / "site" / "manage.py"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("name", "Portico!", "project.name is 'Portico!'"),
        ("name", "", "project.name is missing"),
        ("nmae", "shop", "did you mean name?"),
        ("package", "mysite", "project.package is no key any more; remove it"),
        ("celery", "mysite", "must be an application, as module:variable, or none"),
        ("settings", {"production": "x"}, "project.settings.production is not a key"),
        ("settings", {"prod": "not a module"}, "project.settings.prod is 'not a module'"),
        ("port", "http", "project.port is 'http', but must be a number"),
        ("port", 80, "1024 to 65535"),
        ("site", "elsewhere", "there is no elsewhere/manage.py"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(key: str, value: object, words: str) -> None:
    with pytest.raises(Failure) as caught:
        config.load(ROOT, {**VALUES, key: value})
    assert words in caught.value.message


@pytest.mark.parametrize("workers", ["0", "-1", "33", "many", ""])
def test_a_number_of_workers_that_is_none_is_refused(workers: str) -> None:
    with pytest.raises(Failure, match=r"--workers is .*, but must be a number from 1 to 32"):
        config.whole_number(workers, "--workers", 1, 32)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"sentry_dsn": "secret"}, "project.env.sentry_dsn is not the name of a variable"),
        ({"SENTRY_DSN": "hidden"}, "project.env.SENTRY_DSN is 'hidden', but must be plain or secret"),
        ({"DATABASE_URL": "secret"}, "every runtime sets this variable; remove the line"),
        ({"PORTICO_X": "plain"}, "every runtime sets this variable; remove the line"),
        ("SENTRY_DSN", "must have keys of its own"),
    ],
)
def test_a_wrong_declaration_of_a_variable_is_named(value: object, words: str) -> None:
    with pytest.raises(Failure) as caught:
        config.load(ROOT, {**VALUES, "env": value})
    assert words in caught.value.message


@pytest.mark.parametrize("value", [3.12, "3.10", "3", "2.7", "three"])
def test_a_python_that_is_no_version_is_refused(value: object) -> None:
    with pytest.raises(Failure, match=r'project.python is .*, but must be a version in quotes, "3.11" or newer'):
        config.load(ROOT, {**VALUES, "python": value})


def test_the_projects_python_is_read() -> None:
    assert config.load(ROOT, {**VALUES, "python": "3.12"}).python == (3, 12)
    assert config.load(ROOT, VALUES).python == (3, 11)


def test_declared_variables_and_a_closed_outside_are_read() -> None:
    project = config.load(ROOT, {**VALUES, "env": {"SENTRY_DSN": "secret"}, "egress": False})
    assert project.env == {"SENTRY_DSN": "secret"}
    assert not project.egress
    with pytest.raises(Failure, match=r"project.egress is 'no', but must be true or false"):
        config.load(ROOT, {**VALUES, "egress": "no"})


@pytest.mark.parametrize("name", ["do-it-now", "LoadAll", "seed2"])
def test_a_management_command_may_be_named_as_its_file_may(name: str) -> None:
    assert config.load(ROOT, {**VALUES, "samples": name}).samples == name
