"""Backups in a repository on another host, restored over a migration; what goes wrong harms neither."""

import json
from collections.abc import Iterator

import pytest

from tests.hosts.release import WEB, one_release, shell
from tests.rig.machines import Fleet, Machine
from tests.support import one_line

POLLS = "from polls.models import Question; print(Question.objects.count())"
FILE = "/srv/portico-test/protected/kept.txt"
TABLE = """from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("polls", "0002_schedule")]
    operations = [migrations.RunSQL("CREATE TABLE note (words text)", "DROP TABLE note")]
"""


@pytest.fixture(scope="module")
def vault(site: Fleet) -> Iterator[Fleet]:
    """The site, with a repository on a host that has no part in it but serving."""
    store, known = site["web2"], ""
    known = f"{store.address} {store.host_key()}\n"
    for name in ("data1", "jobs1"):
        site[name].sh(
            f"umask 077; cat >/root/.ssh/known_hosts <<'END'\n{known}END\n"
            f"cat >/root/.ssh/id_ed25519 <<'END'\n{site.rack.identity.read_text()}END\n"
        )
    secret = site.project / ".secrets/backup"
    secret.parent.mkdir(exist_ok=True)
    secret.write_text("geheim\n")
    secret.chmod(0o600)
    site.configure(backup={"repository": f"sftp:root@{store.address}:/srv/vault", "password": "file:.secrets/backup"})
    site.commit("backups")
    site.must("remote-setup", "--yes")
    site.must("remote-deploy")
    try:
        yield site
    finally:
        del site.more["backup"]
        site.configure()
        site.commit("no backups")
        for name in ("data1", "jobs1"):
            site[name].sh("/usr/local/lib/portico-test/restore finish; rm -rf /srv/portico-test/before")
        site.must("remote-setup", "--yes")
        site["data1"].sh(
            'for each in $(runuser -u postgres -- psql -At -c "SELECT datname FROM pg_database WHERE'
            " datname ~ 'before'\"); do runuser -u postgres -- dropdb $each; done"
        )


def listed(site: Fleet) -> list[str]:
    """The ids of the backups, newest first."""
    return [each["id"] for each in json.loads(site.must("remote-backups", "--json").stdout)["backups"]]


def as_deploy(machine: Machine, words: str) -> str:
    return machine.sh(f"runuser -u deploy -- sh -c '{words}' 2>&1 || true", check=False)


def serving(site: Fleet) -> list[str]:
    """What would differ if the site had been stopped meanwhile."""
    [release] = {one_release(site)}
    return [site[name].sh(f"systemctl show -P InvocationID portico-test-web@{release}") for name in WEB]


def test_a_restore_over_a_migration_brings_data_and_code_back_and_the_next_deploy_works(vault: Fleet) -> None:
    site, data = vault, vault["data1"]
    site["jobs1"].sh(f"echo kept >{FILE}; chown portico-test: {FILE}")
    before, polls = one_release(site), shell(site, POLLS)
    assert int(polls) > 0
    assert "data1: backup " in site.must("remote-backup").stderr
    known = listed(site)
    # Asked for again within minutes, it is the same one.
    site.must("remote-backup")
    assert listed(site) == known
    made = known[0]

    file = site.project / "site/polls/migrations/0003_note.py"
    file.write_text(TABLE)
    site.configure(backup_before_migrate=True)
    site.commit("a table")
    data.sh("runuser -u postgres -- psql -c 'SELECT pg_current_xact_id()'")
    try:
        assert "data1: backup " in site.must("remote-deploy").stderr
        assert one_release(site) != before
        assert listed(site)[1:] == known, "one before the migration, as something was written since"
        shell(site, "from polls.models import Question; Question.objects.all().delete()")
        site["jobs1"].sh(f"rm {FILE}")

        shown = site.must("remote-restore", "--to", made, "--dry-run").stdout
        assert f"then release {before} serves" in shown
        site.must("remote-restore", "--to", made, "--yes")
        assert one_release(site) == before
        assert shell(site, POLLS) == polls
        assert site["jobs1"].sh(f"cat {FILE}; stat -c %U:%G {FILE}").split() == ["kept", "portico-test:www-data"]
        tables = "SELECT count(*) FROM pg_tables WHERE tablename = 'note'"
        assert data.sh(f'runuser -u postgres -- psql -At -d portico_test -c "{tables}"').strip() == "0"
        assert f"portico_test_before_{made}" in data.sh("runuser -u postgres -- psql -At -l")
        said = site.must("remote-releases").stdout
        assert f"restore of {made}" in said
        site.must("remote-deploy")
        assert shell(site, POLLS) == polls
        status = json.loads(site.must("remote-status", "--json").stdout)
        assert status["ok"] is True
    finally:
        file.unlink()
        site.configure(backup_before_migrate=False)
        site.commit("no table")
    site.must("remote-restore", "--to", made, "--yes")
    data.sh(f"/usr/local/lib/portico-test/restore drop {made}")
    assert "before" not in data.sh("runuser -u postgres -- psql -At -l")


def test_the_deploy_key_can_neither_read_nor_remove_a_backup(vault: Fleet) -> None:
    data, helper = vault["data1"], "sudo -n /usr/local/sbin/portico-test-helper"
    known = set(listed(vault))
    for _ in range(5):
        as_deploy(data, f"{helper} snapshot asked; {helper} snapshot migration; {helper} backups")
    assert known <= set(listed(vault))
    for words in ("forget latest", "snapshot forget", "snapshot timer", "backup latest", "backups --prune"):
        assert "helper: " in as_deploy(data, f"{helper} {words}")
    for path in ("/etc/portico-test/backup.env", "/var/backups/portico-test/set", "/root/.ssh/id_ed25519"):
        assert "ermission denied" in as_deploy(data, f"cat {path}"), path
    assert "password" in as_deploy(data, "sudo -n restic snapshots")
    assert "geheim" not in data.sh("cat /proc/*/cmdline 2>/dev/null | tr '\\0' ' '; journalctl -q --no-pager")


def test_a_backup_that_fails_leaves_all_others_and_status_says_it(vault: Fleet) -> None:
    data, unit = vault["data1"], "portico-test-backup@timer.service"
    known = listed(vault)
    data.sh("mount -t tmpfs -o size=20k,mode=700 none /var/backups/portico-test")
    try:
        assert "failed" in data.sh(f"systemctl start {unit} 2>&1 || echo failed", check=False)
    finally:
        data.sh("umount /var/backups/portico-test")
    data.sh("sed -i.good s/geheim/other/ /etc/portico-test/backup.env")
    try:
        assert "failed" in data.sh(f"systemctl start {unit} 2>&1 || echo failed", check=False)
    finally:
        data.sh("mv /etc/portico-test/backup.env.good /etc/portico-test/backup.env")
    assert listed(vault) == known
    status = vault.invoke("remote-status")
    assert status.code == 1
    assert "data1: its last backup failed within the hour" in status.stderr
    data.sh(f"systemctl start {unit}")
    assert listed(vault)[1:] == known
    assert vault.invoke("remote-status").code == 0


def test_a_proof_restores_beside_and_a_damaged_backup_is_refused_before_anything_is_touched(vault: Fleet) -> None:
    site, data, store = vault, vault["data1"], vault["web2"]
    assert "is whole" in site.must("remote-backup", "--verify").stderr
    assert "proved within the hour" in site.must("remote-status").stdout.replace("\n", " ")
    assert data.sh("ls /var/lib/postgresql") == data.sh("ls /var/lib/postgresql | grep -v proof")
    before = serving(site)
    assert "there is no such backup" in one_line(site.invoke("remote-restore", "--to", "00000000", "--yes"))
    # Every pack that may have a dump: those with folders alone are small.
    store.sh(
        "cp -a /srv/vault/data /root/data; find /srv/vault/data -type f -size +8k | while read -r pack; do"
        " chmod u+w $pack; printf spoilt | dd of=$pack bs=1 seek=200 conv=notrunc 2>/dev/null; done"
    )
    data.sh("rm -rf /var/cache/portico-test-backup/*")
    try:
        for words in (("remote-restore", "--to", "latest", "--yes"), ("remote-backup", "--verify")):
            done = site.invoke(*words)
            assert done.code != 0, words
            assert "data1: the repository cannot give backup" in done.stderr
        assert serving(site) == before
        assert "data1: its last backup could not be restored" in site.invoke("remote-status").stderr
        assert "restored" not in data.sh("runuser -u postgres -- psql -At -l")
    finally:
        store.sh("rm -rf /srv/vault/data; mv /root/data /srv/vault/data")
    site.must("remote-backup", "--verify")
    assert site.invoke("remote-status").code == 0
