"""What a removal of a site takes, and what it leaves."""

from dataclasses import replace

import pytest

from deploy.core.errors import Failure
from deploy.hosts.environment.owner import Mark, Owner, Place
from deploy.hosts.layout import OWNER
from deploy.hosts.setup import remove
from deploy.hosts.setup.converge import Seen
from deploy.hosts.setup.diff import Entry, Facts
from deploy.hosts.setup.remove import removal, wanted
from deploy.hosts.setup.servers import admission
from tests.unit.hosts.test_setup import PROJECT, environment, host, site

OURS, THEIRS = Owner("shop", "x").mark(), Mark("blog", "x", "-", 2)
THERE = Entry("file", "root", "root", "644", "0", "")


def seen(name: str, others: dict[str, Mark] | None = None, rules: str = "", owner: str = OURS.text) -> Seen:
    """A host that has everything of the site."""
    here = site()
    asked = wanted(here, host(here, name))
    entries = dict.fromkeys((*asked.absent, *(folder.path for folder in asked.folders)), THERE)
    entries |= {admission(here, ()).path: replace(THERE, text=rules), str(OWNER): replace(THERE, text=owner)}
    return Seen(
        here, Place("shop-x", OURS, others or {}), Facts(entries=entries, units={"nginx.service": (True, True)})
    )


def steps(name: str, *data: str, of: Seen | None = None) -> list[str]:
    found = removal(of or seen(name), host(site(), name), data)
    return [step for change in found for step in change.steps]


def test_data_stays_unless_it_is_asked_for_by_name() -> None:
    kept = steps("data1")
    assert {"nodatabase role", "nobroker user", "seal /var/backups/shop-x"} <= set(kept)
    assert not [step for step in kept if step.startswith(("nodatabase all", "nobroker all", "erase /var/backups"))]
    assert "seal /srv/shop-x/protected" in steps("web1")
    assert "nodatabase all" in steps("data1", "database")
    assert "nobroker user" in steps("data1", "database")
    assert "nobroker all" in steps("data1", "broker")
    assert "erase /srv/shop-x/protected" in steps("web1", "files")
    with pytest.raises(Failure, match="--data everything: is not one of: database, broker, redis, files, all"):
        remove.remove(environment(), PROJECT, "", print, confirmed=True, data=["everything"])


def test_no_data_goes_before_what_uses_it_has_stopped() -> None:
    first, then = remove.in_order(environment().hosts)
    assert ([each.name for each in first], [each.name for each in then]) == (["web1", "web2", "jobs1"], ["data1"])


def test_everything_of_the_site_goes_and_its_mark_goes_last() -> None:
    found = steps("web1")
    assert found[0] == "free /srv/shop-x/state/lock", "not while a deploy runs"
    assert found[-1] == "absent /etc/portico.d/sites/shop-x", "a removal that fails half-way can be repeated"
    for step in (
        "quit shop-x-web@*.service",
        "absent /etc/nginx/sites-enabled/zz-shop-x.conf",
        "absent /etc/nginx/shop-x/tls.key",
        "absent /etc/portico.d/firewall/open-shop-x.nft",
        "absent /etc/systemd/system/shop-x-web@.service",
        "absent /etc/sudoers.d/shop-x",
        "absent /usr/local/sbin/shop-x-helper",
        "erase /srv/shop-x/releases",
        "nousers shop-x deploy",
    ):
        assert step in found
    assert found.index("quit shop-x-web@*.service") < found.index("nousers shop-x deploy")


def test_what_other_sites_use_is_only_reloaded() -> None:
    alone, beside = steps("web1"), steps("web1", of=seen("web1", {"blog-x": THEIRS}))
    assert {"disable nginx.service", "disable portico.firewall.service", f"absent {OWNER}"} <= set(alone)
    assert not [step for step in beside if step.startswith("disable")]
    assert {"reload nginx.service", "reload portico.firewall.service"} <= set(beside)
    assert not {"absent /etc/nginx/site/nginx.conf", "absent /etc/portico.d/firewall/main.nft"} & set(beside)
    assert [step for step in beside if step.startswith(f"file {OWNER} ")], "for checkouts of earlier versions"
    theirs = seen("web1", {"blog-x": THEIRS}, owner=THEIRS.text)
    assert not [step for step in steps("web1", of=theirs) if str(OWNER) in step], "it is another's already"


def test_the_database_s_rules_lose_the_site_s_lines_alone() -> None:
    lines = admission(site(), ["hostssl shop_x shop_x samehost scram-sha-256"]).text
    of = seen("data1", rules=f"# b\nb\n{lines}local all all peer\n")
    [change] = [each for each in removal(of, host(site(), "data1"), ()) if "pg_hba" in each.title]
    assert change.title.endswith("pg_hba.conf: without the lines of shop-x")
    assert change.steps[-1] == "reload postgresql@%PG%.service"
