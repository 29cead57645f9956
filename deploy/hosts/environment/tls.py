"""Where a site's certificate comes from: a pair of files, or an ACME directory such as Let's Encrypt's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, model_validator

from deploy.hosts.environment import values
from deploy.hosts.environment.yaml_lines import Problem, Problems

#: https://letsencrypt.org/docs/acme-protocol-updates/
LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"


class Acme(BaseModel):
    """Who issues certificates (RFC 8555), and how that server is verified."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    #: The address of the account, to which some directories write.
    email: values.Email | None = None
    directory: values.Directory = LETS_ENCRYPT
    #: The authority of the directory's own certificate, a file of this machine; None for those that Debian trusts.
    ca: values.LocalPath | None = None


class Pair(NamedTuple):
    """A certificate with its chain, and its key: files of this machine."""

    certificate: Path
    key: Path


class Tls(BaseModel):
    """A pair of files, or `acme`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    certificate: values.LocalPath | None = None
    key: values.LocalPath | None = None
    acme: Acme | None = None

    @property
    def pair(self) -> Pair | None:
        """The files; None if the hosts order the certificate."""
        return Pair(self.certificate, self.key) if self.certificate and self.key else None

    @model_validator(mode="before")
    @classmethod
    def _acme_alone(cls, value: object) -> object:
        """`tls: acme` and `tls: {acme: }` are short for an `acme` with all its defaults."""
        if value in ("acme", {"acme": ""}):
            return {"acme": {}}
        if isinstance(value, str) and value:
            raise ValueError(f"{value!r} is not known; write acme, or name the files with certificate and key")
        return value

    @model_validator(mode="after")
    def _pair_or_acme(self) -> Self:
        files = {"certificate": self.certificate, "key": self.key}
        if self.acme:
            found = [
                Problem(("tls", key), "is there beside acme; remove one of the two") for key in files if files[key]
            ]
        else:
            what = "is missing; certificate and key are a pair, or write tls: acme"
            found = [Problem(("tls", key), what) for key in files if not files[key]]
        if found:
            raise Problems(found)
        return self


def certified(names: Sequence[str]) -> tuple[str, ...]:
    """The names among a site's that a directory can certify: those that the Internet knows, not addresses."""
    return tuple(name.lower() for name in names if "." in name.strip(".") and not _is_address(name))


def uncertified(said: Mapping[str, object]) -> Iterator[Problem]:
    """The names of a file with `acme` that no order can prove: over HTTP, one name is proved at a time."""
    tls, domain, others = said.get("tls"), said.get("domain"), said.get("allowed_hosts")
    if not isinstance(tls, Tls) or not tls.acme:
        return
    if isinstance(domain, str) and not certified([domain]):
        yield Problem(("domain",), f"tls: acme needs a name that the Internet knows, and {domain} is none")
    for name in others if isinstance(others, tuple) else ():
        if name.startswith("."):
            how = "list the names one by one, or set certificate and key"
            yield Problem(("allowed_hosts",), f"tls: acme cannot prove all names below {name[1:]}: {how}")


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
