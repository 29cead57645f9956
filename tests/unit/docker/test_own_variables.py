"""Variables that a project declares itself reach its containers: plain ones as they are, secret ones as files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.core.errors import Failure
from deploy.docker import dotenv, images
from deploy.docker import env as server_env
from deploy.docker import stack as stacks
from deploy.docker.stack import Stack
from tests.support import ROOT
from tests.unit.stacks import PROJECT, VALUES

KINDS = {"EMAIL_HOST": "plain", "SENTRY_DSN": "secret"}
NASTY = "a$b$$c{d}#e \"f' "
QUOTED = "'" + NASTY.replace("'", "\\'") + "'"
TEXT = "".join(f"{name}={value}\n" for name, value in VALUES.items())


def stack(text: str, root: Path = Path("/p"), kinds: dict[str, str] = KINDS) -> Stack:
    return Stack(replace(PROJECT, root=root, env=kinds), "prod", server_env.read(text, ".env", kinds))


def test_the_same_bytes_arrive(tmp_path: Path) -> None:
    made = stack(f"{TEXT}EMAIL_HOST={QUOTED}\nSENTRY_DSN={QUOTED}\n", tmp_path)
    document = json.loads(stacks.own_text(made))
    # Compose makes one $ of two.
    assert document["services"]["app"]["environment"]["EMAIL_HOST"].replace("$$", "$") == NASTY
    assert made.env.secret_files()["own.SENTRY_DSN"] == NASTY


def test_a_secret_is_a_file_and_nowhere_else() -> None:
    made = stack(f"{TEXT}SENTRY_DSN=https://hunter2@sentry.example\n")
    text = stacks.own_text(made)
    assert "hunter2" not in text
    assert "hunter2" not in made.compose("up").render()
    assert "hunter2" not in repr(made)
    document = json.loads(text)
    for name in ("release", "app", "celery_worker", "celery_beat"):
        assert document["services"][name] == {
            "environment": {"SENTRY_DSN_FILE": "/run/secrets/SENTRY_DSN"},
            "secrets": ["SENTRY_DSN"],
        }
    assert document["secrets"]["SENTRY_DSN"]["file"] == "/p/.secrets/own.SENTRY_DSN"


def test_compose_reads_the_file_only_if_there_are_variables() -> None:
    assert not any("own-" in word for word in stack(TEXT).compose("ps").argv)
    words = list(stack(f"{TEXT}EMAIL_HOST=mail\n").compose("ps").argv)
    assert words[words.index("ps") - 1].startswith("/p/.secrets/own-")


def test_releases_with_other_values_have_other_files() -> None:
    first, second = (stacks.own_file(stack(f"{TEXT}EMAIL_HOST={host}\n")) for host in ("a", "b"))
    assert first != second


def test_a_variable_that_is_not_declared_names_the_remedy() -> None:
    with pytest.raises(Failure, match=r"SENTRY_DSN is not a known key; declare .* under project.env in invoke.yaml"):
        stack(f"{TEXT}SENTRY_DSN=hunter2\n", kinds={})


def test_a_key_of_env_cannot_be_a_variable_of_the_projects_own() -> None:
    with pytest.raises(Failure, match=r"project.env.PORT is a key of .env"):
        stack(TEXT, kinds={"PORT": "plain"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SENTRY_DSN", "https://build@build.invalid/1"),
        ("REDIS_URL", "redis://build@build.invalid/1"),
        ("CACHE_URL", "redis://build@build.invalid/1"),
        ("EMAIL_URL", "smtp://build@build.invalid/1"),
        ("EMAIL_PORT", "1"),
    ],
)
def test_a_build_gets_a_stand_in_for_each(name: str, value: str) -> None:
    command = images.build(replace(PROJECT, env={name: "plain"}), "app", ["x"], None)
    assert f"OWN={name}={value}" in command.argv


@pytest.mark.parametrize(("egress", "closed"), [(True, "false"), (False, "true")])
def test_the_outside_is_open_unless_it_is_closed(egress: bool, closed: str) -> None:
    made = Stack(replace(PROJECT, egress=egress), "prod", server_env.read(TEXT, ".env"))
    assert made.compose("ps").env["CLOSED"] == closed
    assert replace(made, kind="dev").compose("ps").env["CLOSED"] == "false"


# --- Secrets from elsewhere ---


def test_a_secret_may_be_fetched_when_containers_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text(f"{NASTY}\n")
    (tmp_path / "token").chmod(0o600)
    kinds = dict.fromkeys(("FROM_ENV", "FROM_FILE", "FROM_COMMAND"), "secret")
    lines = "FROM_ENV=env:SHOP_TOKEN\nFROM_FILE=file:token\nFROM_COMMAND=\"command:printf '%s' 'a b'\"\n"
    made = stack(f"{TEXT}{lines}", tmp_path, kinds)
    monkeypatch.setenv("SHOP_TOKEN", NASTY)
    texts = stacks.secret_texts(made)
    assert {name: texts[f"own.{name}"] for name in kinds} == {
        "FROM_ENV": NASTY,
        "FROM_FILE": NASTY,
        "FROM_COMMAND": "a b",
    }
    monkeypatch.delenv("SHOP_TOKEN")
    assert "FROM_ENV_FILE" in stacks.own_text(made), "nothing is fetched for what only looks"
    with pytest.raises(Failure, match=r"\.env: FROM_ENV: env:SHOP_TOKEN: is not set in this shell; export it"):
        stacks.secret_texts(made)


def test_a_source_that_is_none_is_named() -> None:
    with pytest.raises(Failure, match=r"\.env: SENTRY_DSN: must be env:NAME, file:PATH or command:WORDS"):
        stack(f"{TEXT}SENTRY_DSN=env:not-a-name\n")


# --- A .env of the project's own ---


def test_a_project_that_has_an_env_file_gets_our_keys_added_to_it(tmp_path: Path) -> None:
    project = replace(PROJECT, root=tmp_path, env={"EMAIL_HOST": "plain"})
    (tmp_path / ".env.example").write_text((ROOT / ".env.example").read_text())
    theirs = f"EMAIL_HOST={QUOTED}\nSECRET_KEY={'k' * 60}"
    (tmp_path / ".env").write_text(theirs)
    (tmp_path / ".env").chmod(0o600)
    said: list[str] = []
    assert dotenv.prepare(project, "prod", dry_run=True, notify=said.append).env.stack == "shop"
    assert (tmp_path / ".env").read_text() == theirs, "a dry run changes nothing"
    made = dotenv.prepare(project, "prod", dry_run=False, notify=said.append)
    assert "would add the keys of .env.example" in said[0]
    assert "added the keys of .env.example" in said[1]
    assert (tmp_path / ".env").read_text().startswith(f"{theirs}\n\n# Portico")
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    assert made.env.secret_key.get_secret_value() == "k" * 60, "theirs is kept"
    assert made.env.own_plain == {"EMAIL_HOST": NASTY}
    again = dotenv.prepare(project, "prod", dry_run=False, notify=said.append)
    assert again.env == made.env
    assert len(said) == 2
