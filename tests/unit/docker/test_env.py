"""The values of `.env`."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from deploy.core.errors import Failure
from deploy.docker import env as server_env
from deploy.docker.stack import check
from tests.support import ROOT
from tests.unit.stacks import stack

# --- .env ---


@pytest.mark.parametrize("development", [True, False])
def test_the_example_with_random_secrets_is_a_valid_env(tmp_path: Path, development: bool) -> None:
    texts = [
        server_env.fresh((ROOT / ".env.example").read_text(), stack="shop", development=development) for _ in range(2)
    ]
    assert texts[0] != texts[1], "random"
    path = tmp_path / ".env"
    path.write_text(texts[0])
    path.chmod(0o600)
    env = server_env.load(path)
    assert (env.stack, env.allowed_hosts) == ("shop", ["localhost", "127.0.0.1"])
    assert re.search(r"^COMPOSE_FILE=\S+/(dev|prod)\.yaml$", texts[0], re.MULTILINE)[1] == (  # type: ignore[index]
        "dev" if development else "prod"
    )


def test_each_key_of_env_is_explained_in_the_example() -> None:
    text = (ROOT / ".env.example").read_text()
    for name in (each for each in server_env.ServerEnv.model_fields if not each.startswith("own_")):
        assert re.search(rf"^#?{name.upper()}=", text, re.MULTILINE), name


def test_the_secrets_are_in_files_and_never_in_what_compose_is_told() -> None:
    env = stack().env
    told = json.dumps(env.interpolated()) + repr(env)
    files = env.secret_files()
    for value in ("k" * 50, "p" * 20, "r" * 20):
        assert value not in told
        assert any(value in text for text in files.values())
    assert files["database_owner_url"] == f"postgres://site:{'p' * 20}@postgres:5432/site"
    assert files["database_url"].startswith("postgres://site_data:")
    assert "p" * 20 not in files["database_url"], "web and workers cannot sign in as the owner of the tables"
    assert env.secret_files(least=False)["database_url"] == files["database_owner_url"]


def test_each_service_has_an_account_of_the_broker_and_none_is_administrator() -> None:
    env = stack().env
    files = env.secret_files()
    accounts = {name: urlsplit(files[name]).username for name in server_env.BROKER_URLS}
    assert accounts == {
        "broker_url": "site_publisher",
        "worker_broker_url": "site_worker",
        "owner_broker_url": "site",
    }
    assert len({urlsplit(files[name]).password for name in server_env.BROKER_URLS}) == 3
    said = json.loads(files["rabbitmq_definitions.json"])
    assert [user["tags"] for user in said["users"]] == [[]] * 3
    publisher = next(each for each in said["permissions"] if each["user"] == "site_publisher")
    assert (publisher["configure"], publisher["read"]) == ("^$", "^$"), "it declares, deletes and takes nothing"
    for exchange, allowed in {
        **dict.fromkeys(("celery", "amq.default", "celery_delayed_27", "mail"), True),
        **dict.fromkeys(("celery.pidbox", "reply.celery.pidbox", "celeryev"), False),
    }.items():
        assert bool(re.match(publisher["write"], exchange)) == allowed, exchange
    assert not any(str(urlsplit(files[name]).password) in files["rabbitmq_definitions.json"] for name in accounts)
    one = env.secret_files(least=False)
    assert len({one[name] for name in server_env.BROKER_URLS}) == 1
    assert "default_user = site" in files["rabbitmq.conf"]


def test_https_only_follows_the_certificate_unless_it_is_said() -> None:
    tls = {"TLS_CERTIFICATE": "/c", "TLS_KEY": "/k"}
    assert [stack(**values).env.secure for values in ({}, tls, {"HTTPS_ONLY": "1"}, {**tls, "HTTPS_ONLY": "0"})] == [
        *[False, True, True, False]
    ]


@pytest.mark.parametrize("image", ["shop", "shop/web", "registry.example.org/shop", "localhost:5000/a_b/c.d-e"])
def test_an_image_is_named_without_its_tag(image: str) -> None:
    assert stack(IMAGE=image).image == f"{image}:latest"


@pytest.mark.parametrize("image", ["portico:1.0", "portico/", "/portico", "Shop", "a//b", "shop@sha256:1", "a:b/c"])
def test_an_image_that_docker_would_not_take_is_refused_with_an_example(image: str) -> None:
    with pytest.raises(Failure, match=r"IMAGE .*must be an image's name in lower case without a tag, such as registry"):
        stack(IMAGE=image)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DATABASE_URL", "garbage", "DATABASE_URL is not a URL such as postgres://user@host:port/name"),
        ("CELERY_BROKER_URL", "mqtt://h", "CELERY_BROKER_URL is not a URL such as amqp://user@host:port/name"),
        ("SECRET_KEY", "$" + "k" * 60, "SECRET_KEY begins with $, which django-environ takes"),
        ("SECRET_KEY", "short", "SECRET_KEY is too short or a default"),
        (
            "BUILD_CA_FILE",
            "~nobody-here/ca.pem",
            "BUILD_CA_FILE is '~nobody-here/ca.pem': begins with the ~ of an unknown",
        ),
    ],
)
def test_values_are_checked_as_for_hosts(name: str, value: str, said: str) -> None:
    with pytest.raises(Failure) as refused:
        stack(**{name: value})
    assert refused.value.message.startswith(f".env: {said}")


def test_a_path_may_begin_with_the_users_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    env = stack(TLS_CERTIFICATE="~/c.pem", TLS_KEY="~/k.pem").env
    assert (env.tls_certificate, env.tls_key) == (Path("/home/ann/c.pem"), Path("/home/ann/k.pem"))


def test_a_line_that_is_not_understood_is_refused_with_its_number() -> None:
    with pytest.raises(Failure, match=r"^\.env:2: HTTPS_ONLY: is followed by a colon"):
        server_env.read("STACK=shop\nHTTPS_ONLY: 1\n", ".env")


def test_sqlite_in_a_projects_own_env_is_for_its_developers_only() -> None:
    given = stack("swarm", DATABASE_URL="sqlite:///db.sqlite3")
    with pytest.raises(Failure, match="DATABASE_URL is not a URL such as postgres"):
        check(given)


GOOD = f"STACK=shop\nIMAGE=shop\nALLOWED_HOSTS=a.org\nSECRET_KEY={'k' * 50}\n" + "".join(
    f"{name}_PASSWORD={'p' * 20}\n" for name in ("POSTGRES", "RABBITMQ")
)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        *((f"HTTP_PORT={each}", f"HTTP_PORT is {each!r}: must be a whole number") for each in ("8_0", "80.0", "+80")),
        ("HTTP_PORT=0", "HTTP_PORT is '0': must be at least 1"),
        ("APP_REPLICAS=65", "APP_REPLICAS is '65': must be at most 64"),
        ("HTTP_PORT=443", "HTTP_PORT and HTTPS_PORT are both 443; give each a port of its own"),
        ("HTTPS_ONLY=maybe", "HTTPS_ONLY is 'maybe': must be 1 or 0"),
        (
            "TRUSTED_PROXIES=10.0.0.1/8",
            "TRUSTED_PROXIES is '10.0.0.1/8': must be an address, or a network such as 10.0.0.0/8",
        ),
        ("STACK=-a", "STACK is '-a': may contain only lower-case letters, digits, _ and -, and no _ or - first"),
        (f"STACK={'s' * 41}", f"STACK is '{'s' * 41}': is too long: at most 40 characters"),
    ],
)
def test_a_value_of_another_kind_is_one_line_with_what_it_must_be(line: str, said: str) -> None:
    with pytest.raises(Failure) as refused:
        server_env.read(f"{GOOD}{line}\n", ".env")
    assert refused.value.message == f".env: {said}"


def test_a_link_whose_file_is_gone_is_no_reason_for_new_passwords(tmp_path: Path) -> None:
    assert not server_env.exists(tmp_path / ".env")
    (tmp_path / ".env").symlink_to("/nowhere/env")
    with pytest.raises(Failure, match=r"\.env: is a link to /nowhere/env, which is not there: put it back, or remove"):
        server_env.exists(tmp_path / ".env")


def test_a_folder_in_its_place_is_not_told_to_be_readable_by_others(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    with pytest.raises(Failure, match=r"^\.env: is a folder, but must be a file"):
        server_env.text_of(tmp_path / ".env")


def test_a_certificate_authority_that_is_not_there_is_named_before_anything_is_built(tmp_path: Path) -> None:
    ours = stack()
    absent = replace(ours, env=ours.env.model_copy(update={"build_ca_file": tmp_path / "ca.pem"}))
    with pytest.raises(Failure, match=r"ca\.pem: the certificate authority for builds is not there: fix BUILD_CA_FILE"):
        check(absent)
