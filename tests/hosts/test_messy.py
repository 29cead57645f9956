"""Setup on a server as people have them: with sites, databases, queues, users and units of others."""

from collections.abc import Iterator

import pytest

from tests.rig.machines import Fleet, Machine, bare_fleet
from tests.support import one_line

ROLES = ("web", "worker", "beat", "database", "broker")
#: What others run on the machine before anybody thinks of us, each in use.
OTHERS = r"""
export DEBIAN_FRONTEND=noninteractive
apt-get -q update >/dev/null
apt-get -q -y --no-install-recommends install nginx postgresql rabbitmq-server curl iproute2 ufw >/dev/null 2>&1
ufw allow 22 >/dev/null && ufw --force enable >/dev/null
echo 'server { listen 80; server_name crm.example.org; return 200 "crm\n"; }' >/etc/nginx/sites-enabled/crm
systemctl restart nginx
runuser -u postgres -- psql -q -c "CREATE ROLE crm LOGIN PASSWORD 'secret'" -c "CREATE DATABASE crm OWNER crm"
rabbitmqctl -q add_vhost crm
rabbitmqctl -q add_user crm secret
rabbitmqctl -q set_permissions -p crm crm '.*' '.*' '.*'
queue='{resource, <<"crm">>, queue, <<"orders">>}'
rabbitmqctl -q eval "rabbit_amqqueue:declare($queue, true, false, [], none, <<\"x\">>)." >/dev/null
"""
#: Names that setup would use.
NAMES = """
useradd --create-home --uid 1500 portico-test
groupadd deploy
mkdir -p /srv/portico-test && echo mine >/srv/portico-test/notes
printf '[Service]\\nExecStart=/bin/sleep infinity\\n' >/etc/systemd/system/portico-test-web@.service
systemctl daemon-reload
cat >/root/other.pl <<'END'
use IO::Socket::INET;
$s = IO::Socket::INET->new(LocalPort => 8082, Listen => 5);
close $c while $c = $s->accept;
END
systemd-run -q --unit other perl /root/other.pl
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with bare_fleet(tmp_path_factory.mktemp("messy"), {"solo": 12}, {"solo": ROLES}) as fleet:
        fleet["solo"].sh(OTHERS)
        fleet["solo"].sh(NAMES)
        yield fleet


def served(machine: Machine) -> list[str]:
    """What the others get: of the site, the database and the broker."""
    return [
        machine.sh("curl -s http://127.0.0.1/ -H 'Host: crm.example.org'").strip(),
        machine.sh("psql -A -t postgres://crm:secret@127.0.0.1/crm -c 'SELECT 42'").strip(),
        machine.sh("rabbitmqctl -q authenticate_user crm secret; rabbitmqctl -q list_vhosts | sort").strip(),
        machine.sh(
            "getent passwd portico-test; cat /srv/portico-test/notes; "
            "md5sum /etc/systemd/system/portico-test-web@.service"
        ),
    ]


def test_what_is_there_already_is_named_and_nothing_of_it_is_touched(bare: Fleet) -> None:
    machine = bare["solo"]
    before = served(machine)
    assert before[:2] == ["crm", "42"]
    refused = bare.invoke("remote-setup", "--yes")
    assert refused.code != 0
    for said in (
        "solo: portico-test-web@.service is there already, and is not of remote-setup",
        "solo: /srv/portico-test is there already, and not of remote-setup",
        "--take-over files",
        "solo: the user portico-test is there already, perhaps a person's",
        "solo: the group deploy is there without a user of that name: `groupdel deploy`",
        "solo: perl listens on port 8082, which nginx needs",
        "solo: ufw is active, and closes what setup's own firewall opens: `ufw disable`; or set firewall: false",
    ):
        assert said in refused.stderr, refused.stderr
    assert "Traceback" not in refused.stderr
    assert served(machine) == before
    assert machine.sh("ls -d /etc/portico-test /etc/portico.d /etc/portico-owner 2>/dev/null", check=False) == "", (
        "nothing is begun"
    )
    assert "deploy" not in machine.sh("cat /etc/passwd")


def test_sites_a_database_and_queues_of_others_stay_in_use_beside_ours(bare: Fleet) -> None:
    """What can be worked with is kept; the remedies of the refusal, applied, work."""
    machine = bare["solo"]
    machine.sh(
        "userdel -r portico-test; groupdel deploy; mv /srv/portico-test /srv/jan; systemctl stop other", check=False
    )
    machine.sh("rm /etc/systemd/system/portico-test-web@.service; systemctl daemon-reload")
    bare.configure(firewall=False)
    rules = machine.sh("cat /etc/postgresql/15/main/pg_hba.conf")
    shown = bare.must("remote-setup", "--dry-run").stdout
    assert "! PostgreSQL has other databases (crm), which stay; it restarts" in shown
    assert "! nginx has other sites (/etc/nginx/sites-enabled/crm), which it serves on" in shown
    assert "+ /etc/postgresql/%PG%/pg_hba.conf.before-portico: a copy" in shown
    closed = one_line(bare.invoke("remote-setup", "--yes"))
    assert closed == "solo: ufw lets no visitor in on port 80: `ufw allow 80/tcp`"
    machine.sh("ufw allow 80/tcp")
    assert "solo: ready" in bare.must("remote-setup", "--yes").stderr.splitlines()
    assert machine.sh("psql -A -t postgres://crm:secret@127.0.0.1/crm -c 'SELECT 42'").strip() == "42"
    assert machine.sh("curl -s http://127.0.0.1/ -H 'Host: crm.example.org'").strip() == "crm"
    assert machine.sh("rabbitmqctl -q list_queues -p crm name").split()[-1:] == ["orders"]
    assert "Success" in machine.sh("rabbitmqctl -q authenticate_user crm secret")
    assert "@" in machine.sh(
        "grep '^CELERY_BROKER_URL=amqps://portico-test:.*:5671/portico-test$' /etc/portico-test/services.env"
    )
    assert "Welcome to nginx" in machine.sh("curl -s http://127.0.0.1/ -H 'Host: nobody.example.org'"), "their default"
    assert machine.sh("cat /etc/postgresql/15/main/pg_hba.conf.before-portico") == rules
    assert machine.sh("cat /etc/postgresql/15/main/pg_hba.conf").endswith(rules)
    assert machine.sh("cat /etc/portico.d/sites/portico-test").splitlines()[-1].startswith("portico test ")
    asked = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1/ -H 'Host: portico.test'"
    assert machine.sh(asked) == "502", "the site's nginx, which has no release yet"
    url = machine.sh("sed -n 's/^DATABASE_URL=//p' /etc/portico-test/services.env").strip()
    assert machine.ssh("psql", "-A", "-t", url, "-c", "SELECT current_user").strip() == "portico_test"
    assert bare.must("remote-setup").stdout.splitlines() == ["solo: no change"]


#: What keeps the deploy user out, and the message that names it.
BARRED = {
    "echo 'AllowUsers root ops' >/etc/ssh/sshd_config.d/x.conf": "AllowUsers there is root ops: add deploy to it",
    "echo 'AuthorizedKeysFile /etc/ssh/keys/%u' >/etc/ssh/sshd_config.d/x.conf; mkdir -p /etc/ssh/keys; "
    "cp /root/.ssh/authorized_keys /etc/ssh/keys/root": "sshd reads its keys from /etc/ssh/keys/deploy",
}


def test_what_keeps_the_deploy_user_out_is_named_and_the_remedies_let_it_in(bare: Fleet) -> None:
    """And a host that allows two sessions in a connection is called ready, with a line."""
    machine = bare["solo"]
    for made, said in BARRED.items():
        machine.sh(f"{made}; systemctl reload ssh")
        wrong = one_line(bare.invoke("remote-setup"))
        assert wrong.startswith("solo: deploy cannot log in: "), wrong
        assert said in wrong
        machine.sh("rm -f /etc/ssh/sshd_config.d/x.conf; systemctl reload ssh")
    machine.sh("echo 'MaxSessions 2' >/etc/ssh/sshd_config.d/x.conf; systemctl reload ssh")
    machine.sh("echo 'Defaults requiretty' >/etc/sudoers.d/tty")
    few = bare.must("remote-setup").stderr.splitlines()
    assert "solo: ready" in few
    assert any("sshd allows 2 sessions in a connection (MaxSessions)" in line for line in few), few
    machine.sh("rm /etc/ssh/sshd_config.d/x.conf /etc/sudoers.d/tty; systemctl reload ssh")
