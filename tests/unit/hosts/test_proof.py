"""The last step of setup: what is tried, and what stands in the way, by name and with the remedy."""

from __future__ import annotations

import pytest

from deploy.hosts.environment import file
from deploy.hosts.setup import proof
from tests.support import ROOT

FILE = """\
domain: shop.example
secrets: {SECRET_KEY: env:KEY}
hosts:
  web1: {roles: [web], private_address: 10.0.0.1}
  jobs1: {roles: [worker, beat], private_address: 10.0.0.2}
  data1: {roles: [database, broker], private_address: 10.0.0.3}
"""
ENVIRONMENT = file.parse(FILE, "x", ROOT)
WEB, JOBS, _ = ENVIRONMENT.hosts
FINE = """\
visit 127.0.0.1 ok
database 10.0.0.3 ok
broker 10.0.0.3 ok
sshd maxsessions 10
sshd pubkeyauthentication yes
sshd authenticationmethods any
sshd authorizedkeysfile .ssh/authorized_keys .ssh/authorized_keys2
groups deploy
keys /home/deploy/.ssh/authorized_keys yes
keys /home/deploy/.ssh/authorized_keys2 absent
"""


def no_login(more: str, without: str = "") -> str:
    lines = [line for line in FINE.splitlines() if not without or not line.startswith(without)]
    return proof.no_login(WEB, proof.parse("\n".join([*lines, more])))


def test_a_host_that_gets_what_it_needs_has_nothing_wrong() -> None:
    found = proof.parse(FINE)
    assert list(proof.wrong(ENVIRONMENT, WEB, found)) == []
    assert proof.no_login(WEB, found) == ""


@pytest.mark.parametrize(
    ("line", "without", "said"),
    [
        ("sshd allowusers root\nsshd allowusers ops", "", "AllowUsers there is root ops: add deploy to it"),
        ("sshd allowgroups sshusers", "", "AllowGroups there is sshusers: add deploy to it"),
        ("sshd denyusers dep*", "", "DenyUsers there is dep*: take deploy out of it"),
        ("sshd pubkeyauthentication no", "sshd pubkey", "sshd takes no keys: write `Match User deploy` with"),
        ("sshd authenticationmethods publickey,password", "sshd auth", "wants more than a key (publickey,password)"),
        ("loose /home/deploy", "", "sshd reads no keys there: `chmod go-w /home/deploy`"),
        (
            "sshd authorizedkeysfile /etc/ssh/keys/%u\nkeys /etc/ssh/keys/deploy absent",
            "sshd authorizedkeysfile",
            "sshd reads its keys from",
        ),
        (
            "keys /home/deploy/.ssh/authorized_keys no",
            "keys",
            "/home/deploy/.ssh/authorized_keys has none of the administrator's keys: add the key that deploys",
        ),
    ],
)
def test_what_keeps_the_deploy_user_out_is_named_with_the_remedy(line: str, without: str, said: str) -> None:
    found = no_login(line, without)
    assert found.startswith("deploy cannot log in: ")
    assert said in found


def test_a_pattern_or_a_group_that_lets_it_in_is_none_of_these() -> None:
    for line in ("sshd allowusers root dep*@10.0.0.*", "sshd allowgroups dep*", "sshd denyusers !deploy eve"):
        assert no_login(line) == "", line


def test_what_a_host_does_not_get_from_another_is_named_by_that_host() -> None:
    refused = 'connection to server at "10.0.0.3", port 5432 failed: Connection refused'
    found = proof.parse(f"visit 127.0.0.1 curl: (52) Empty reply\ndatabase 10.0.0.3 {refused}\nclosed ufw 80")
    assert list(proof.wrong(ENVIRONMENT, JOBS, found)) == [
        "ufw lets no visitor in on port 80: `ufw allow 80/tcp`",
        "a visit of shop.example through nginx fails: curl: (52) Empty reply; `journalctl -u nginx` there may say why",
        f"cannot use the database on data1: {refused}",
    ]
    assert len(list(proof.wrong(ENVIRONMENT, JOBS, found, ["data1"]))) == 2, "its own setup has failed, and says why"
    redis = proof.parse("redis 10.0.0.3 no answer within 8 s")
    assert list(proof.wrong(ENVIRONMENT, JOBS, redis)) == ["cannot use Redis on data1: no answer within 8 s"]
