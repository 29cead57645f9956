"""Maintenance: what nginx answers meanwhile, who sees the site all the same, and the record of it. Pure.

The folder `proxy.Front.maintenance_root` has the page, `allow/NAME` for each client that sees the site, and `on` with
the record. nginx looks for `on` at each request, so that nothing has to be reloaded.
"""

from __future__ import annotations

import html
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network, ip_network
from string import Template

from deploy.core.errors import Failure
from deploy.core.running import printable, who

#: What may be held meanwhile: kinds of processes.
HELD = ("workers", "beat")
#: Characters of the message, and clients and networks that may be allowed.
LONGEST, MOST = 300, 50
MESSAGE = "The site is down for maintenance, and will soon be back."
#: The sizes of networks that may be allowed. Each is a file for each address or each network of `_NEAR`.
_SIZES = {4: (16, 32), 6: (56, 64)}
#: The networks that nginx knows by name: $client_network in nginx/site.conf.
_NEAR = {4: 24, 6: 64}
#: It needs no other file. `nginx/site.conf` has a page like this for a site that does not answer.
_PAGE = Template("""\
<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex"><title>Maintenance</title>
<style>body{font:1.1rem/1.5 sans-serif;margin:15vh auto;max-width:32rem;padding:0 1rem;overflow-wrap:break-word}</style>
<h1>Maintenance</h1>
<p>$message</p>
</html>
""")


@dataclass(frozen=True)
class Wanted:
    """A maintenance that is asked for, checked."""

    message: str = MESSAGE
    #: Addresses and networks, as they were written.
    allow: tuple[str, ...] = ()
    #: Of `HELD`.
    hold: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """A maintenance that is on."""

    #: ISO 8601.
    since: str
    by: str
    message: str = MESSAGE
    allow: Sequence[str] = ()
    hold: Sequence[str] = ()
    #: The replicas that held services had, in containers.
    replicas: Mapping[str, int] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The record in one line."""
        return json.dumps(asdict(self))


# --- What is asked for ---


def asked(*, start: bool, stop: bool, message: str, allow: Sequence[str], hold: Sequence[str]) -> Wanted | None:
    """The maintenance that the options of a task ask for; None for its end. Raises `Failure` naming the option."""
    if start == stop:
        raise Failure("say --start, or --stop for its end")
    if stop:
        if message or allow or hold:
            raise Failure("--stop: takes no --message, --allow or --hold: all of that ends")
        return None
    if unknown := [each for each in hold if each not in HELD]:
        raise Failure(f"--hold {','.join(unknown)}: must be workers, beat or workers,beat")
    if len(allow) > MOST:
        raise Failure(
            f"--allow: names {len(allow)} addresses, and at most {MOST} may be allowed: name networks instead"
        )
    for each in allow:
        files_of(each)
    return Wanted(_message(message), tuple(allow), tuple(each for each in HELD if each in hold))


def _message(text: str) -> str:
    if len(text) > LONGEST:
        raise Failure(f"--message: has {len(text)} characters, and at most {LONGEST} are shown: shorten it")
    if any(unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") for each in text):
        raise Failure("--message: has control characters: write it in one line of plain text")
    return " ".join(text.split()) or MESSAGE


def files_of(client: str) -> list[str]:
    """The names of the files that allow a client: an address, or a network. Raises `Failure` for anything else."""
    try:
        network = ip_network(client)
    except ValueError as error:
        raise Failure(
            f"--allow {printable(client)}: {error}: write an address, or a network as 203.0.113.0/24"
        ) from None
    least, most = _SIZES[network.version]
    if network.prefixlen == network.max_prefixlen:
        return [str(network.network_address)]
    if not least <= network.prefixlen <= most:
        raise Failure(
            f"--allow {client}: must be a network of /{least} to /{most}, or one address: name several of those"
        )
    if isinstance(network, IPv6Network):
        return [name for each in network.subnets(new_prefix=_NEAR[6]) for name in _names_of_64(each)]
    return list(_names_of_v4(network))


def _names_of_v4(network: IPv4Network) -> Iterator[str]:
    if network.prefixlen > _NEAR[4]:
        yield from (str(address) for address in network)
    else:
        yield from (str(each.network_address).rpartition(".")[0] for each in network.subnets(new_prefix=_NEAR[4]))


def _names_of_64(network: IPv6Network) -> list[str]:
    """What $site_client of nginx/site.conf may be for an address of a /64 network.

    An address is written with `::` for its first longest run of zeros. That may lie behind the four groups of the
    network, within these, or begin there and end behind.
    """
    groups = [f"{int(each, 16):x}" for each in network.network_address.exploded.split(":")[:4]]
    names = [f"{':'.join(groups)}:"]
    runs = list(_runs(groups))
    for start, end in runs:
        if end == 4:
            names.append(f"{':'.join(groups[:start])}::")
    inner = [(start, end) for start, end in runs if end < 4 and end - start > 1]
    if inner:
        start, end = inner[0]
        names.append(f"{':'.join(groups[:start])}::{':'.join(groups[end:])}")
    return names


def _runs(groups: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where zeros begin and end."""
    start = None
    for place, group in enumerate([*groups, ""]):
        if group == "0" and start is None:
            start = place
        elif group != "0" and start is not None:
            yield start, place
            start = None


# --- What is written ---


def page(message: str) -> str:
    """The page that visitors get."""
    return _PAGE.substitute(message=html.escape(message))


def names(allow: Iterable[str]) -> list[str]:
    """The names of the files in `allow`, each once."""
    return list(dict.fromkeys(name for each in allow for name in files_of(each)))


def record(wanted: Wanted, before: Record | None = None, replicas: Mapping[str, int] | None = None) -> Record:
    """The record of a maintenance that begins now; one that is on already goes on with its time and its author."""
    since = before.since if before else datetime.now(UTC).isoformat(timespec="seconds")
    by = before.by if before else who()
    return Record(since, by, wanted.message, wanted.allow, wanted.hold, replicas or {})


# --- What is said of it ---


def read(text: str) -> Record | None:
    """Parse a record, whoever wrote it; None for what is none."""
    try:
        found = json.loads(text)
        return Record(
            str(found["since"]),
            str(found["by"]),
            str(found["message"]),
            [str(each) for each in found["allow"]],
            [str(each) for each in found["hold"] if each in HELD],
            {str(name): int(number) for name, number in found["replicas"].items()},
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def said(on: Record) -> str:
    """A maintenance that is on, in one line."""
    since = printable(on.since)[:16].replace("T", " ")
    but = f"; {', '.join(map(printable, on.allow))} see the site" if on.allow else ""
    held = f"; {' and '.join(on.hold)} {'is' if list(on.hold) == ['beat'] else 'are'} held" if on.hold else ""
    return f"maintenance since {since} UTC, by {printable(on.by)}: visitors get 503{but}{held}"
