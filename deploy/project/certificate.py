"""Checks a TLS certificate and its key before anything is started with them."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.core.errors import Failure

# cryptography takes a tenth of a second to load, and most commands check no certificate.
if TYPE_CHECKING:
    from cryptography import x509


def check_certificate(
    certificate: Path, key: Path, now: datetime | None = None, source: str = ".env", names: Iterable[str] = ()
) -> None:
    """Raise `Failure` for a pair that nginx or clients would reject, naming the file and the reason.

    ``source`` is the file that configures the pair, for the message. ``names`` are the site's: the certificate must be
    for one of them.
    """
    from cryptography import x509

    for path in (certificate, key):
        if not path.is_file():
            raise Failure(f"{source}: {path}: there is no such file; put it there, or fix the path")
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key, password=lambda: "")
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).lower().replace("_", " ")
        raise Failure(f"{source}: {certificate} and {key} do not work as a pair: {reason}") from None
    except (OSError, ValueError) as error:
        raise Failure(f"{source}: {certificate}: {error}") from None
    today = now or datetime.now(UTC)
    if found.not_valid_after_utc < today:
        raise Failure(f"{source}: {certificate} expired on {found.not_valid_after_utc:%Y-%m-%d}; renew it")
    if found.not_valid_before_utc > today:
        since = f"{found.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        raise Failure(f"{source}: {certificate} is valid from {since}; check this machine's clock, or wait")
    there, wanted = names_of(found), list(names)
    if wanted and there and not any(covers(each, name) for each in there for name in wanted):
        raise Failure(f"{source}: {certificate} is for {', '.join(there)}, but the site is {', '.join(wanted)}")


def names_of(certificate: x509.Certificate) -> list[str]:
    """The names that clients look at; the common name alone is none of them (RFC 9110, section 4.3.4)."""
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return [*names.get_values_for_type(x509.DNSName), *addresses]


def covers(name: str, host: str) -> bool:
    """Whether a name of a certificate is for a host; the host `.example.org` stands for all below it."""
    one, other = name.lower(), host.lower()
    if other.startswith("."):
        return one.removeprefix("*").endswith(other)
    return one == other or (one.startswith("*.") and other.partition(".")[2] == one[2:])
