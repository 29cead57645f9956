"""Environment files: their meaning, each error with its line, and secrets that stay secret."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.hosts.environment import file, model, secrets, tls
from deploy.hosts.environment.file import parse
from deploy.hosts.environment.model import EXAMPLE, FOLDER, Environment
from deploy.hosts.environment.values import ROLES, Jump
from deploy.project.sources import Source
from tests.support import ROOT

PROJECT = Path("/project")
FILE = "deploy/environments/x.yaml"
VALID = """\
domain: shop.example
user: shipper
jump: ops@bastion.example:2222
max_memory: {web: 1G, worker: 512M}
secrets:
  SECRET_KEY: env:SHOP_KEY
settings:
  LOG_LEVEL: INFO
hosts:
  web1:
    roles: [web]
  web2:
    address: 10.0.0.2
    roles: [web, worker]
    port: 2200
    jump: []
    max_memory: {web: 2G}
  web3:
    roles: [web]
    user: other
  jobs1:
    roles: [beat]
  data1:
    roles: [database, broker]
"""


def valid(*changes: tuple[str, str], more: str = "") -> str:
    """The valid file with pieces of it replaced, and more at its end."""
    text = VALID
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return text + more


def parsed(*changes: tuple[str, str], more: str = "") -> Environment:
    return parse(valid(*changes, more=more), "x", PROJECT)


def complaints(text: str) -> list[str]:
    with pytest.raises(Failure) as caught:
        parse(text, "x", PROJECT)
    return caught.value.message.splitlines()


# --- What a file means ---


def test_what_a_host_says_holds_for_it_and_else_what_the_environment_says() -> None:
    web1, web2, web3, *_ = parsed().hosts
    bastion = Jump("ops", "bastion.example", 2222)
    assert (web1.address, web1.port, web1.user, web1.admin, web1.jump) == ("web1", 22, "shipper", "root", (bastion,))
    assert (web2.address, web2.port, web2.user, web2.jump) == ("10.0.0.2", 2200, "shipper", ())
    assert web3.user == "other"
    assert (web1.max_memory, web2.max_memory) == ({"web": "1G", "worker": "512M"}, {"web": "2G", "worker": "512M"})


def test_other_hosts_reach_a_host_as_we_do_unless_it_has_an_address_of_its_own_for_them() -> None:
    assert [(host.address, host.private_address) for host in parsed().hosts[:2]] == [("web1",) * 2, ("10.0.0.2",) * 2]
    text = re.sub("    roles", "    private_address: inside\n    roles", VALID)
    assert {host.private_address for host in parse(text, "x", PROJECT).hosts} == {"inside"}


def test_hosts_are_in_one_network_all_or_none() -> None:
    """Otherwise a server would admit another address than its client's. A private address needs no second one."""
    inside = ("    roles: [web]\n", "    private_address: 192.168.0.1\n    roles: [web]\n")
    said = "has no private_address, and web1 has one: set it to the address by which web1 reaches this host"
    assert [line.partition(": ")[2] for line in complaints(valid(inside))] == [
        f"hosts.{name}: {said}" for name in ("web3", "jobs1", "data1")
    ]
    assert complaints(valid(inside, ("10.0.0.2", "198.51.0.2")))[0] == f"{FILE}:13: hosts.web2: {said}"


def test_a_project_without_celery_needs_no_worker_beat_or_broker() -> None:
    text = "domain: a.example\nsecrets: {SECRET_KEY: env:X}\nhosts:\n  one:\n    roles: [web, database]\n"
    assert parse(text, "x", PROJECT, celery=False).domain == "a.example"
    with pytest.raises(Failure, match="no host has the role worker"):
        parse(text, "x", PROJECT)


@pytest.mark.parametrize("role", ["worker", "beat", "broker"])
def test_a_role_of_celerys_in_a_project_without_it_is_named(role: str) -> None:
    text = f"domain: a.example\nsecrets: {{SECRET_KEY: env:X}}\nhosts:\n  one:\n    roles: [web, database, {role}]\n"
    with pytest.raises(
        Failure, match=rf"x.yaml:5: hosts.one.roles: {role} is for Celery, which the project does not use"
    ):
        parse(text, "x", PROJECT, celery=False)


def test_hosts_are_found_by_role_in_the_order_of_the_file() -> None:
    found = {role: [host.name for host in parsed().with_role(role)] for role in ROLES}
    assert found == {
        "web": ["web1", "web2", "web3"],
        "worker": ["web2"],
        "beat": ["jobs1"],
        "database": ["data1"],
        "broker": ["data1"],
        "redis": [],
    }


@pytest.mark.parametrize(
    ("batch", "sizes"), [("", [1, 1, 1]), ("2", [2, 1]), ("9", [3]), ("100%", [3]), ("67%", [2, 1]), ("1%", [1, 1, 1])]
)
def test_web_hosts_change_over_in_batches_and_others_that_run_the_site_with_the_first(
    batch: str, sizes: list[int]
) -> None:
    batches = parsed(more=f"batch: {batch}\n" if batch else "").batches()
    assert [sum("web" in host.roles for host in each) for each in batches] == sizes
    assert [host.name for each in batches for host in each if "web" in host.roles] == ["web1", "web2", "web3"]
    assert "jobs1" in [host.name for host in batches[0]]
    assert "data1" not in [host.name for each in batches for host in each], "it runs nothing of the site"


def test_text_stays_as_it_stands_in_the_file() -> None:
    more = "  DEBUG_SQL: no\n  API_VERSION: 1.10\n  CODE: 007\n  SINCE: 2024-01-01\n  EMPTY:\n"
    assert parsed(("  LOG_LEVEL: INFO\n", more)).settings == {
        "DEBUG_SQL": "no",
        "API_VERSION": "1.10",
        "CODE": "007",
        "SINCE": "2024-01-01",
        "EMPTY": "",
    }


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("env:A_b", "env", ("A_b",)),
        ("file:.secrets/a b", "file", (".secrets/a b",)),
        ("command:pass show 'a b'", "command", ("pass", "show", "a b")),
        ("{command: [pass, show, a b]}", "command", ("pass", "show", "a b")),
        ("{env: A}", "env", ("A",)),
    ],
)
def test_a_secret_comes_from_a_variable_a_file_or_a_command(text: str, kind: str, words: tuple[str, ...]) -> None:
    source = parsed(("env:SHOP_KEY", text)).secrets["SECRET_KEY"]
    assert (source.kind, source.words) == (kind, words)


def test_a_certificate_makes_the_site_secure_unless_it_is_said() -> None:
    tls = "tls: {certificate: certs/c.pem, key: /k.pem}\n"
    proxied = "https_only: on\ntrusted_proxies: [10.0.0.0/8]\n"
    environments = [parsed(more=more) for more in ("", tls, proxied, tls + "https_only: off\n")]
    assert [each.secure for each in environments] == [False, True, True, False]
    pair = environments[1].tls
    assert pair
    assert (pair.certificate, pair.key) == (PROJECT / "certs/c.pem", Path("/k.pem"))


def test_the_site_answers_to_each_name_once() -> None:
    assert parsed(more="allowed_hosts: [.shop.example, shop.example]\n").names == ("shop.example", ".shop.example")


def test_jump_hosts_may_be_several_and_addresses_of_either_kind() -> None:
    jumps = parsed(("ops@bastion.example:2222", "[a@one, 'b@[2001:db8::1]:23']")).hosts[0].jump
    assert jumps == (Jump("a", "one", 22), Jump("b", "2001:db8::1", 23))


def test_services_elsewhere_take_the_place_of_a_host() -> None:
    services = parsed(
        ("  data1:\n    roles: [database, broker]\n", ""),
        more="services: {database: env:DB, broker: amqps://b.example/site}\n",
    ).services
    assert services.database == Source("env", ("DB",))
    assert not isinstance(services.broker, Source)
    assert services.broker
    assert services.broker.get_secret_value() == "amqps://b.example/site"


# --- Errors: the file, the line, the key and what to do ---

KINDS = [
    # old, new, the line, the message
    (
        "[web, worker]",
        "[web, wbe]",
        14,
        "hosts.web2.roles: 'wbe' is not a role; there are: web, worker, beat, database, bro",
    ),
    ("[web, worker]", "\n      - web\n      - wbe", 16, "hosts.web2.roles: 'wbe' is not a role"),
    ("[web, worker]", "[]", 14, "hosts.web2.roles: is empty; name at least one"),
    ("[web, worker]", "web", 14, "hosts.web2.roles: must be a list, such as [a, b]"),
    ("[web, worker]", "[worker, web, worker]", 14, "hosts.web2.roles: worker is listed twice; remove one"),
    (
        "    roles: [web, worker]\n",
        "",
        12,
        "hosts.web2.roles: is missing; deploy/environments/example.yaml explains it",
    ),
    ("    roles: [web]\n", "", 10, "hosts.web1: has no value; give it one, or remove the key"),
    (
        "[web, worker]",
        "[web, worker, beat]",
        22,
        "hosts.jobs1.roles: beat is on web2 already; give it to one host only",
    ),
    ("[web, worker]", "[worker, broker]", 24, "hosts.data1.roles: broker is on web2 already"),
    ("[web, worker]", "[web]", 9, "hosts: no host has the role worker; give it to a host"),
    ("[beat]", "[worker]", 9, "hosts: no host has the role beat; give it to one host"),
    (
        "[database, broker]",
        "[broker]",
        9,
        "hosts: no host has the role database; give it to one host, or set services.dat",
    ),
    (
        "jump: ops",
        "services: {broker: env:B}\njump: ops",
        3,
        "services.broker: data1 has the role broker; remove one",
    ),
    (
        "    port: 2200\n",
        "    port: 22\n  again: {address: 10.0.0.2, roles: [web]}\n  more:\n    roles: [web]\n",
        16,
        "hosts.again: has the same address",
    ),
    (
        "user: shipper",
        "port: 2200\nservices: {database: 'postgres://u:hunter2@h/d'}",
        3,
        "services.database: contains a password, which must not be in this file; name a source: env:NAME, file:PATH",
    ),
    ("  web2:", "  web_2:", 12, "hosts.web_2: 'web_2' is not a host name"),
    (
        "10.0.0.2",
        "'-o ProxyCommand'",
        13,
        "hosts.web2.address: '-o ProxyCommand' is neither a host name nor an address",
    ),
    ("port: 2200", "port: 70000", 15, "hosts.web2.port: must be a whole number from 1 to 65535"),
    ("port: 2200", "prot: 2200", 15, "hosts.web2.prot: is not known; did you mean port?"),
    ("port: 2200", "zzz: 1", 15, "hosts.web2.zzz: is not known; known are: user, admin, port, identity"),
    ("{web: 2G}", "{web: 50M}", 17, "hosts.web2.max_memory.web: must be a size such as 512M or 2G, at least 100M"),
    ("{web: 2G}", "{wbe: 2G}", 17, "hosts.web2.max_memory.wbe: 'wbe' is not a role"),
    ("user: other", "user: Other One", 20, "hosts.web3.user: 'Other One' is not a user name"),
    (
        "ops@bastion.example:2222",
        "bastion.example",
        3,
        "jump: 'bastion.example' is not a jump host; write user@host or",
    ),
    ("domain: shop.example\n", "", 1, "domain: is missing; deploy/environments/example.yaml explains it"),
    ("shop.example", "https://shop.example", 1, "domain: 'https://shop.example' is not a host name"),
    (
        "user: shipper",
        "allowed_hosts: [a.example, '*']",
        2,
        "allowed_hosts: '*' is not a host name; .example.org stands",
    ),
    ("user: shipper", "user:", 2, "user: must be a user name"),
    ("user: shipper", "usr: shipper", 2, "usr: is not known; did you mean user?"),
    ("user: shipper", "keep: 51", 2, "keep: must be a whole number from 1 to 50"),
    ("user: shipper", "batch: 0", 2, "batch: '0' is not a number of hosts or percentage such as 50%"),
    ("user: shipper", "batch: 101%", 2, "batch: '101%' is not a number of hosts"),
    ("user: shipper", "firewall: maybe", 2, "firewall: must be true or false"),
    ("user: shipper", "trusted_proxies: [10.0.0.1/8]", 2, "trusted_proxies: 10.0.0.1/8 has host bits set"),
    (
        "user: shipper",
        "https_only: true",
        2,
        "https_only: redirects to HTTPS, but nothing serves HTTPS: set tls, or trusted_proxies where a load bal",
    ),
    ("port: 2200", "open_ports: [tcp/22, 9100]", 15, "hosts.web2.open_ports: '9100' is not a port"),
    ("user: shipper", "open_ports: [tcp/0]", 2, "open_ports: 'tcp/0' is not a port; write tcp/9100 or udp/51820"),
    ("user: shipper", "open_ports: tcp/9100", 2, "open_ports: must be a list, such as [a, b]"),
    ("user: shipper", "hooks: {before: []}", 2, "hooks.before: must be one command: a line, or the list of its words"),
    ("user: shipper", "tls: {certificate: a}", 2, "tls.key: is missing"),
    ("user: shipper", "identity: ~nobody-here/x", 2, "identity: begins with the ~ of an unknown user; fix the path"),
    ("env:SHOP_KEY", "hunter2", 6, "secrets.SECRET_KEY: must be env:NAME, file:PATH or command:WORDS; a secret itself"),
    ("env:SHOP_KEY", "{env: A, file: b}", 6, "secrets.SECRET_KEY: must be env:NAME, file:PATH or command:WORDS"),
    ("env:SHOP_KEY", "command:pass 'a", 6, "secrets.SECRET_KEY: No closing quotation"),
    ("  SECRET_KEY", "  EMAIL_KEY", 5, "secrets.SECRET_KEY: is missing"),
    (
        "  SECRET_KEY",
        "  DATABASE_PASSWORD: env:A\n  SECRET_KEY",
        6,
        "secrets.DATABASE_PASSWORD: does not go here: the hosts generate",
    ),
    ("  LOG_LEVEL", "  log_level", 8, "settings.log_level: is not the name of a variable; write it in capital letters"),
    ("  LOG_LEVEL", "  DATABASE_URL", 8, "settings.DATABASE_URL: does not go here: set services.database"),
    ("  LOG_LEVEL", "  EMAIL_PASSWORD", 8, "settings.EMAIL_PASSWORD: is a secret by its name; move it to secrets"),
    (
        "  LOG_LEVEL",
        "  SECRET_KEY_FILE",
        8,
        "settings.SECRET_KEY_FILE: is in secrets too; remove one of the two",
    ),
    ("INFO", "redis://u:hunter2@h/1", 8, "settings.LOG_LEVEL: contains a password; move it to secrets"),
    ("  LOG_LEVEL: INFO\n", "", 7, "settings: has no value; give it one, or remove the key"),
    ("user: shipper", "domain: b.example", 2, "domain: is defined twice; remove one"),
    ("user: shipper", "user: &a shipper\nadmin: *a", 3, "admin: an &anchor is not supported"),
    ("user: shipper", "? [a]\n: b", 1, "a key must be a word"),
    ("user: shipper", "user: !!binary c2hpcA==", 2, "user: a !tag is not supported; write the value without it"),
    ("user: shipper", "<<: {user: shipper}", 2, "…: a merge key (<<) is not supported; write the values"),
    ("user: shipper", "user:\tshipper", 2, "column 6: found a tab that cannot start any token"),
    ("10.0.0.2", "10.2", 13, "hosts.web2.address: '10.2' is neither a host name nor an address"),
    ("10.0.0.2", "010.0.0.2", 13, "hosts.web2.address: '010.0.0.2' is neither a host name nor an address"),
    ("user: shipper", "user: a: b", 2, "column 8: mapping values are not allowed here"),
    ("user: shipper", "user: \a", 2, "has a control character; remove it"),
]


@pytest.mark.parametrize(("old", "new", "line", "said"), KINDS, ids=[said for *_, said in KINDS])
def test_an_error_names_the_file_the_line_the_key_and_the_remedy(old: str, new: str, line: int, said: str) -> None:
    found = complaints(valid((old, new)))
    assert len(found) == 1, found
    assert found[0].startswith(f"{FILE}:{line}: {said}"), found
    assert "hunter2" not in found[0]


def test_all_errors_are_said_at_once_in_the_order_of_the_file() -> None:
    changes = [("domain: shop.example", "domain: '-'"), ("port: 2200", "port: x\n    port: y"), ("[beat]", "[best]")]
    assert [re.sub(r": .*", "", line) for line in complaints(valid(*changes))] == [
        *[f"{FILE}:1", f"{FILE}:16", f"{FILE}:23"],
    ]


@pytest.mark.parametrize(
    "text",
    [
        "services: {database: 'mysql://u:hunter2@h/d'}",
        "services: {database: 'postgres://u:hunter2@h/d'}",
        "services: {database: 'postgres://u:hunter2/x@h/d'}",
        "services: {database: 'postgres://[hunter2]/d'}",
        "services: {database:postgres://u:hunter2@h/d}",
        "services: {broker: hunter2}",
        "secrets: {SECRET_KEY:hunter2}",
        "secrets: {SECRET_KEY: *hunter2}",
        "secrets: {SECRET_KEY: !hunter2!x y}",
        "secrets: {SECRET_KEY: [hunter2, hunter2]}",
        "secrets: {SECRET_KEY: 'hunter2}",
        "secrets: [hunter2]",
        "secrets: SECRET_KEY=hunter2",
        "settings: {CACHE: 'redis://:hunter2@h'}",
    ],
)
def test_no_error_repeats_what_may_be_a_secret(text: str) -> None:
    lines = complaints(f"{text}\ndomain: a.example\nhosts: {{}}\n")
    assert lines
    assert "hunter2" not in "".join(lines)


def test_the_same_address_is_another_host_by_its_port_only() -> None:
    again = "  again: {address: 10.0.0.2, roles: [web]}\n"
    assert len(parsed(more=again).hosts) == 6
    [line] = complaints(valid(("user: shipper", "port: 2200"), more=again))
    assert line.startswith(f"{FILE}:25: hosts.again: has the same address and port as web2; ")


def test_an_empty_file_names_what_must_be_in_it() -> None:
    assert complaints("# nothing\n") == [
        f"{FILE}:1: {key}: is missing; {EXAMPLE} explains it" for key in ("domain", "hosts", "secrets")
    ]


# --- Loading ---


def project(tmp_path: Path, text: str = VALID) -> Path:
    (tmp_path / FOLDER).mkdir(parents=True, exist_ok=True)
    (tmp_path / FILE).write_text(text)
    return tmp_path


def failed(root: Path, name: str = "x", *, pair: bool = False) -> str:
    with pytest.raises(Failure) as caught:
        file.load(root, name, pair=pair)
    return caught.value.message


@pytest.mark.parametrize("name", ["prod", "../x", "X", ""])
def test_a_name_without_a_file_is_answered_with_the_names_there_are(tmp_path: Path, name: str) -> None:
    assert failed(tmp_path, name) == f"{name!r} is not an environment in {FOLDER}; there is none yet: copy {EXAMPLE}"
    (project(tmp_path) / EXAMPLE).write_text("")
    (tmp_path / FOLDER / "a.yaml").write_text("")
    assert failed(tmp_path, name) == f"{name!r} is not an environment in {FOLDER}; there are: a, x"


def test_a_file_that_is_no_text_is_named_with_the_line(tmp_path: Path) -> None:
    (project(tmp_path) / FILE).write_bytes(b"domain: a\nuser: \xff\n")
    assert failed(tmp_path) == f"{FILE}:2: is not UTF-8; save it as UTF-8"


def test_local_files_that_are_not_there_are_named_before_anything_connects(tmp_path: Path) -> None:
    text = valid(
        ("    user: other", "    identity: keys/own"), more="identity: keys/id\ntls: {certificate: c, key: k}\n"
    )
    assert failed(project(tmp_path, text), pair=True).splitlines() == [
        f"{FILE}:26: tls: {tmp_path}/c: there is no such file; put it there, or fix the path",
        f"{FILE}:20: hosts.web3.identity: {tmp_path}/keys/own: there is no such file; fix the path",
        f"{FILE}:25: identity: {tmp_path}/keys/id: there is no such file; fix the path",
    ]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="sudo apt install openssl")
def test_a_certificate_is_checked_against_its_key(tmp_path: Path) -> None:
    for name in "ab":
        files = ["-keyout", str(tmp_path / f"{name}.key"), "-out", str(tmp_path / f"{name}.crt")]
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *files, "-days", "1", "-subj", "/CN=x"]
        subprocess.run(command, check=True, capture_output=True)
    tls = "tls: {{certificate: a.crt, key: {}.key}}\n"
    assert file.load(project(tmp_path, valid(more=tls.format("a"))), "x", pair=True).secure
    said = failed(project(tmp_path, VALID + tls.format("b")), pair=True)
    assert re.fullmatch(rf"{FILE}:25: tls: .* do not work as a pair: .*", said)


def test_certificate_and_key_are_needed_only_where_hosts_are_set_up(tmp_path: Path) -> None:
    there = project(tmp_path, valid(more="tls: {certificate: c, key: k}\n"))
    assert file.load(there, "x").secure, "so that colleagues and CI deploy without the key"
    assert "there is no such file" in failed(there, pair=True)


# --- The example ---

EXAMPLE_TEXT = (ROOT / EXAMPLE).read_text()


def test_the_example_is_a_valid_environment() -> None:
    assert file.load(ROOT, "example").domain == "www.example.org"


def test_the_example_says_the_defaults_and_is_valid_with_all_that_is_commented_out() -> None:
    whole = re.sub(r"^#(?=[a-z]|  )", "", EXAMPLE_TEXT, flags=re.MULTILINE)
    instead = re.sub(r"  data1:\n(    .*\n)+|^backup:\n(  .*\n)+", "", whole, flags=re.MULTILINE)
    said, default = parse(instead, "x", PROJECT), file.load(ROOT, "example")
    for key in ("user", "admin", "port", "batch", "keep", "drain", "backup_before_migrate", "firewall"):
        assert getattr(said, key) == getattr(default, key), key
    assert said.unattended_upgrades == default.unattended_upgrades
    assert [re.sub(r".*: (\S+): .*", r"\1", line) for line in complaints(whole)] == [
        *["services.database", "services.broker"],
    ]


def test_each_key_of_each_model_is_explained_in_the_example() -> None:
    for section in (model.EnvironmentFile, model.HostEntry, tls.Tls, tls.Acme, model.Services, model.Backup):
        for name in (*section.model_fields, *model.Hooks.model_fields):
            assert re.search(rf"(^#?|\{{|^#? +|, ){name}: ?", EXAMPLE_TEXT, re.MULTILINE), name


# --- Secrets ---

KEY = "k" * 50
GONE = "no-such-program-here"
MAKE_KEY = "python3 -c 'import secrets; print(secrets.token_urlsafe(50))'"


def run_nothing(command: shell.Run) -> shell.Result:
    raise AssertionError(f"{command.argv} was run")


@pytest.mark.parametrize("source", ["env:TOKEN", "file:token", "command:tell"])
def test_a_secret_keeps_every_byte_but_the_line_break_at_its_end(tmp_path: Path, source: str) -> None:
    value = "a$b$$c{d}#e \"f' "
    (tmp_path / "token").write_text(f"{value}\n")
    (tmp_path / "token").chmod(0o600)
    text = valid(("env:SHOP_KEY", f"env:SHOP_KEY\n  TOKEN: {source}"))
    environ = {"SHOP_KEY": KEY, "TOKEN": value}
    found = secrets.read_secrets(parse(text, "x", tmp_path), environ, lambda _: shell.Result(0, f"{value}\n"))
    assert found["TOKEN"].get_secret_value() == value


def test_secrets_are_fetched_from_where_the_file_says(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    (tmp_path / "token").chmod(0o600)
    environment = parse(
        valid(
            ("env:SHOP_KEY", "env:SHOP_KEY\n  FROM_FILE: file:token\n  FROM_COMMAND: command:tell 'a b'"),
            ("  data1:\n    roles: [database, broker]\n", ""),
            more="services: {database: env:DB, broker: amqp://b}\n",
        ),
        "x",
        tmp_path,
    )
    asked = []

    def run(command: shell.Run) -> shell.Result:
        asked.append((list(command.argv), command.cwd))
        return shell.Result(0, " from-command\n", "a warning")

    found = secrets.read_secrets(environment, {"SHOP_KEY": KEY, "DB": "postgres://u:p@h/d"}, run)
    assert {name: value.get_secret_value() for name, value in found.items()} == {
        "SECRET_KEY": KEY,
        "FROM_FILE": "from-file",
        "FROM_COMMAND": " from-command",
        "DATABASE_URL": "postgres://u:p@h/d",
        "CELERY_BROKER_URL": "amqp://b",
    }
    assert asked == [(["tell", "a b"], tmp_path)]
    assert "from-" not in repr(found)
    assert KEY not in repr(found) + repr(environment)


def test_every_secret_that_cannot_be_had_is_named_with_its_source_and_none_is_shown(tmp_path: Path) -> None:
    for name, mode in (("open", 0o640), ("empty", 0o600)):
        (tmp_path / name).write_text("hunter2" if mode == 0o640 else "\n")
        (tmp_path / name).chmod(mode)
    (tmp_path / "data").write_text("no script")
    (tmp_path / "data").chmod(0o700)
    more = {
        "UNSET": "env:NOT_SET",
        "ABSENT": "file:absent",
        "OPEN": "file:open",
        "EMPTY": "file:empty",
        "FAILS": 'command:sh -c "echo hunter2; echo locked >&2; exit 3"',
        "NOWHERE": f"command:{GONE}",
        "NOBODY": "file:~nobody-here/x",
        "NO_PROGRAM": "command:./data",
        "NO_TEXT": "command:printf '\\377hunter2'",
    }
    lines = "".join(f"\n  {name}: {source}" for name, source in more.items())
    text = valid(("env:SHOP_KEY", f"env:SHOP_KEY{lines}"), ("  data1:\n    roles: [database, broker]\n", ""))
    read = parse(text + "services: {database: env:DB, broker: amqp://b}\n", "x", tmp_path)
    with pytest.raises(Failure) as caught:
        secrets.read_secrets(read, {"SHOP_KEY": "hunter2", "DB": "mysql://hunter2"})
    said = caught.value.message
    assert "hunter2;" in said, "of the command as the file has it"
    assert said.count("hunter2") == 2
    assert [line.removeprefix(f"{FILE}: ") for line in said.splitlines()] == [
        f"secrets.SECRET_KEY: env:SHOP_KEY: is too short or a default; make one with: {MAKE_KEY}",
        "secrets.UNSET: env:NOT_SET: is not set in this shell; export it",
        "secrets.ABSENT: file:absent: No such file or directory; put it there, or fix the path",
        f"secrets.OPEN: file:open: others may read it: chmod 600 {tmp_path}/open",
        "secrets.EMPTY: file:empty: is empty; give it a value",
        "secrets.FAILS: command:sh -c 'echo hunter2; echo locked >&2; exit 3': failed with exit code 3: locked",
        f"secrets.NOWHERE: command:{GONE}: {GONE}: not found on this machine; `invoke doctor` says what to install",
        "secrets.NOBODY: file:'~nobody-here/x': begins with the ~ of an unknown user; fix the path",
        "secrets.NO_PROGRAM: command:./data: ./data: is not a program: a script needs #! in its first line",
        "secrets.NO_TEXT: command:printf '\\377hunter2': its output is not text",
        "services.database: env:DB: is not a URL such as postgres://user@host:port/name",
    ]


def test_reading_a_file_fetches_no_secret() -> None:
    with pytest.raises(AssertionError, match="was run"):
        secrets.read_secrets(parsed(("env:SHOP_KEY", "command:tell")), {}, run_nothing)
    assert parsed(("env:SHOP_KEY", f"command:{GONE}")).secrets


# --- Whatever the file is ---

WORDS = st.sampled_from(
    [
        *model.EnvironmentFile.model_fields,
        *model.HostEntry.model_fields,
        *ROLES,
        "before",
        "database",
        "key",
    ]
)
SCALARS = st.one_of(
    WORDS,
    st.sampled_from(
        ["", "~", "~x", "1", "-1", "50%", "on", "env:A", "file:b", "command:c '", "a@b:1", "postgres://[", "<<"]
    ),
    st.text(max_size=8),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.dates(),
    st.binary(max_size=4),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def places(value: object, place: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """The places of a document where a value can be replaced."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(found for key, inner in below for found in places(inner, (*place, key)))]


def replaced(value: object, place: tuple[object, ...], new: object) -> object:
    if not place:
        return new
    pairs = value.items() if isinstance(value, dict) else enumerate(value)  # type: ignore[arg-type]
    changed = {key: replaced(inner, place[1:], new) if key == place[0] else inner for key, inner in pairs}
    return changed if isinstance(value, dict) else list(changed.values())


@st.composite
def almost_valid(draw: st.DrawFn) -> object:
    """The valid document with a few of its values replaced, and more keys."""
    value: object = yaml.safe_load(VALID)
    for _ in range(draw(st.integers(0, 3))):
        value = replaced(value, draw(st.sampled_from(places(value))), draw(VALUES))
    if isinstance(value, dict):
        value |= draw(st.dictionaries(WORDS, VALUES, max_size=2))
    return value


@settings(max_examples=300, deadline=None)
@given(st.one_of(almost_valid().map(yaml.safe_dump), VALUES.map(yaml.safe_dump), st.text(max_size=60)))
@example(VALID)
@example('domain: "\\0\\ud800"\nidentity: "~\\0"')
@example("a: &x [*x]")
@example("{? {a: b} : c, : d}")
@example("--- a\n--- b")
def test_a_file_is_an_environment_or_lines_that_name_file_and_line(text: str) -> None:
    try:
        result: Environment | str = parse(text, "x", PROJECT)
    except Failure as failure:
        result = failure.message
    if isinstance(result, str):
        for line in result.split("\n"):
            assert re.match(rf"{FILE}:[1-9][0-9]*: \S", line), line
            assert line.isprintable()
            assert int(line.split(":")[1]) <= len(text.splitlines()) + 1


def test_a_host_is_named_by_its_ipv4_address_but_by_no_number_that_resolvers_take_for_another() -> None:
    assert parsed(("jobs1", "10.0.0.9")).with_role("beat")[0].address == "10.0.0.9"
    for name in ("10.9", "010.0.0.9", "0x7f.1", "9"):
        assert f"hosts.{name}: '{name}' is not a host name" in "\n".join(complaints(valid(("jobs1", name))))


def test_lists_that_lie_too_deep_in_each_other_are_one_line() -> None:
    assert complaints("a: " + "[" * 5000) == [
        f"{FILE}: its lists and mappings lie too deep in each other; write them flatter"
    ]
