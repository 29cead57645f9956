"""Checks a TLS certificate and its key before anything is started with them."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from deploy.core.errors import Failure


def check_certificate(certificate: Path, key: Path, now: datetime | None = None, source: str = ".env") -> None:
    """Raise `Failure` for a pair that nginx or clients would reject, naming the file and the reason.

    ``source`` is the file that configures the pair, for the message.
    """
    for path in (certificate, key):
        if not path.is_file():
            raise Failure(f"{source}: {path}: there is no such file; put it there, or fix the path")
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key, password=lambda: "")
        ends = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).lower().replace("_", " ")
        raise Failure(f"{source}: {certificate} and {key} do not work as a pair: {reason}") from None
    except (OSError, ValueError) as error:
        raise Failure(f"{source}: {certificate}: {error}") from None
    if ends < (now or datetime.now(UTC)):
        raise Failure(f"{source}: {certificate} expired on {ends:%Y-%m-%d}; renew it")
