"""What a host's configuration in `~/.ssh/config` means: OpenSSH's own client says it (`ssh -G`), if it is there.

paramiko reads that file too, but knows neither `Include` nor `IdentityAgent` nor all of `Match`.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.shell import Run
from deploy.hosts.environment.values import Jump

#: Seconds for `ssh -G`, which may run the user's own `Match exec`.
SECONDS = 10
#: How many jump hosts may be before a host.
_JUMPS = 5
#: The names of keys that are tried without any configuration.
_DEFAULT = re.compile(r"id_(rsa|dsa|ecdsa|ecdsa_sk|ed25519|ed25519_sk|xmss)")


@dataclass(frozen=True)
class Meaning:
    """What OpenSSH makes of a host."""

    #: The same as a file that paramiko understands: a section for the host, and one for each of its jump hosts.
    text: str
    #: The socket of the agent that holds the keys for the host; `none` for no agent, empty for the usual one.
    agent: str = ""


def meaning(to: Jump) -> Meaning | None:
    """What OpenSSH makes of a host; None where its client is not installed. Raises `Failure` for an invalid file."""
    if shutil.which("ssh") is None:
        return None
    said = _ask(to.user, to.host, to.port)
    sections, waiting, seen = [section(to.host, said)], [*_jumps(said)], {to.host}
    while waiting and len(seen) <= _JUMPS:
        user, host, port = waiting.pop(0)
        if host in seen:
            continue
        seen.add(host)
        sections.append(section(host, _ask(user, host, port), whole=True))
    return Meaning("".join(sections), agent(said))


def _ask(user: str, host: str, port: int | None) -> dict[str, list[str]]:
    login = ["-l", user] if user else []
    words = ["ssh", "-G", *_file(), *login, *(["-p", str(port)] if port else []), "--", host]
    result = shell.run(Run(words, seconds=SECONDS), capture=True, check=False)
    if result.code:
        [said, *_] = result.stderr.strip().splitlines() or ["ssh -G fails"]
        raise Failure(f"~/.ssh/config: {said}; fix it")
    return parse(result.stdout)


def _file() -> list[str]:
    """OpenSSH looks into the home of the account, whatever HOME says; we mean HOME, as everywhere."""
    home = os.environ.get("HOME", "")
    if not home or Path(home) == Path(pwd.getpwuid(os.getuid()).pw_dir):
        return []
    own = Path(home, ".ssh", "config")
    return ["-F", str(own) if own.exists() else "none"]


def parse(text: str) -> dict[str, list[str]]:
    """The values of each key that `ssh -G` prints."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        found.setdefault(key.lower(), []).append(value.strip())
    return found


def section(host: str, said: Mapping[str, list[str]], *, whole: bool = False) -> str:
    """A section of a file for paramiko; with ``whole``, also user and port, which our file names for hosts."""
    lines = [f"HostName {said['hostname'][0]}"] if said.get("hostname") else []
    lines += [f"IdentityFile {path}" for path in _identities(said.get("identityfile", ()))]
    lines += [f"{key} {said[key][0]}" for key in ("proxyjump", "proxycommand") if said.get(key, ["none"])[0] != "none"]
    if whole:
        lines += [f"{key} {said[key][0]}" for key in ("user", "port") if said.get(key)]
    return f"Host {host}\n" + "".join(f"    {line}\n" for line in lines)


def _identities(paths: Iterable[str]) -> list[str]:
    """The keys that are there, other than those with a default name, which are tried anyway."""
    found = [Path(path).expanduser() for path in paths]
    return [str(path) for path in found if not _DEFAULT.fullmatch(path.name) and path.exists()]


def _jumps(said: Mapping[str, list[str]]) -> list[tuple[str, str, int | None]]:
    """User, host and port of the jump hosts of `ProxyJump`."""
    found = []
    for each in ",".join(said.get("proxyjump", [])).split(","):
        match = re.fullmatch(r"(?:ssh://)?(?:([^@]+)@)?(\[[^\]]+\]|[^:]+)(?::(\d+))?", each)
        if match and each != "none":
            found.append((match[1] or "", match[2].strip("[]"), int(match[3]) if match[3] else None))
    return found


def agent(said: Mapping[str, list[str]]) -> str:
    """The socket that `IdentityAgent` names; `none` for no agent, empty for the usual one."""
    [value] = said.get("identityagent", [""])[:1]
    if value in ("", "none", "SSH_AUTH_SOCK"):
        return "none" if value == "none" else ""
    return str(Path(os.path.expandvars(value.replace("%d", str(Path.home())))).expanduser())
