"""The settings of pip and uv that count when we lock and install: those that say where packages come from.

Users, machines and projects configure both programs by variables and files. Settings about where packages come *from*
(indexes, folders of wheels, proxies, certificates) count here for both programs, whichever has them. All others are
left out: a target, a prefix or another Python would send packages somewhere else, and a constraint would change what is
installed.

Standard library only: the bootstrap and the hosts run this module.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.core.errors import Failure
from deploy.project.names import WHEELS

#: pip's options that count; `-` and `_` are the same in its files.
PIP = frozenset(
    [
        *("index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "cert", "client-cert", "proxy"),
        *("timeout", "default-timeout", "retries", "keyring-provider", "cache-dir", "no-cache-dir", "use-feature"),
    ]
)
#: uv's variables that count (https://docs.astral.sh/uv/reference/environment/), but for those of indexes.
UV = frozenset(
    [
        *("UV_INDEX_STRATEGY", "UV_KEYRING_PROVIDER", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "UV_OFFLINE"),
        *("UV_CACHE_DIR", "UV_NO_CACHE", "UV_LINK_MODE", "UV_HTTP_TIMEOUT", "UV_REQUEST_TIMEOUT", "UV_HTTP_RETRIES"),
        *("UV_CONCURRENT_DOWNLOADS", "UV_CONCURRENT_BUILDS", "UV_CONCURRENT_INSTALLS", "UV_NO_PROGRESS"),
    ]
)
#: The same in uv's files, where its variables have other forms.
UV_KEYS = {
    "index-strategy": "UV_INDEX_STRATEGY",
    "keyring-provider": "UV_KEYRING_PROVIDER",
    "native-tls": "UV_NATIVE_TLS",
    "system-certs": "UV_SYSTEM_CERTS",
    "offline": "UV_OFFLINE",
    "cache-dir": "UV_CACHE_DIR",
    "link-mode": "UV_LINK_MODE",
}
#: Variables of Python's that change what an installer imports.
OF_PYTHON = ("PYTHONHOME", "PYTHONPATH", "PYTHONSAFEPATH", "PYTHONUSERBASE", "PYTHONPLATLIBDIR")
#: The files of the whole machine that no variable moves.
SHARED = ("/etc/pip.conf", "/etc/uv/uv.toml")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")


@dataclass(frozen=True)
class Sources:
    """Where packages come from, for pip and uv alike."""

    #: The index in place of the public one; empty for that.
    index: str = ""
    #: Further indexes, each as `URL` or, for uv's credentials, `NAME=URL`.
    extra: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    trusted: tuple[str, ...] = ()
    certificate: str = ""
    client_certificate: str = ""
    proxy: str = ""
    #: Other variables of either program, under its own names.
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def uv(self) -> dict[str, str]:
        """The variables that say the same to uv, which reads no files."""
        found = {
            "UV_NO_CONFIG": "1",
            "UV_DEFAULT_INDEX": self.index,
            "UV_INDEX": " ".join(self.extra),
            "UV_FIND_LINKS": ",".join(self.find_links),
            "UV_INSECURE_HOST": " ".join(self.trusted),
            "SSL_CERT_FILE": self.certificate,
            "SSL_CLIENT_CERT": self.client_certificate,
            **dict.fromkeys(PROXIES, self.proxy),
        }
        own = {name: value for name, value in self.variables.items() if not name.startswith("PIP_")}
        return {**{name: value for name, value in found.items() if value}, **own}

    @property
    def uv_options(self) -> list[str]:
        """The options that say to uv what no variable says."""
        return ["--no-index"] if self.no_index else []

    @property
    def pip(self) -> dict[str, str]:
        """The variables that say the same to pip, which reads no files."""
        found = {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": self.index,
            "PIP_EXTRA_INDEX_URL": " ".join(each.partition("=")[2] if named(each) else each for each in self.extra),
            "PIP_FIND_LINKS": " ".join(self.find_links),
            "PIP_NO_INDEX": "1" if self.no_index else "",
            "PIP_TRUSTED_HOST": " ".join(self.trusted),
            "PIP_CERT": self.certificate,
            "PIP_CLIENT_CERT": self.client_certificate,
            "PIP_PROXY": self.proxy,
        }
        own = {name: value for name, value in self.variables.items() if name.startswith("PIP_")}
        return {**{name: value for name, value in found.items() if value}, **own}

    @property
    def elsewhere(self) -> str:
        """A file of shell variables for another machine, without the folders and certificates of this one."""
        remote = Sources(
            self.index if remote_url(self.index) else "",
            tuple(each for each in self.extra if remote_url(each.partition("=")[2] if named(each) else each)),
            tuple(each for each in self.find_links if remote_url(each)),
            trusted=self.trusted,
            proxy=self.proxy,
            variables={name: self.variables[name] for name in ("UV_INDEX_STRATEGY",) if name in self.variables},
        )
        found = {**remote.uv, **remote.pip}
        del found["UV_NO_CONFIG"], found["PIP_CONFIG_FILE"]
        return "".join(f"export {name}={quoted(value)}\n" for name, value in sorted(found.items()))

    def left_out(self, root: Path) -> list[str]:
        """What an image build does not get, for it is on this machine only; the project's own wheels it gets."""
        own = wheels(root)
        local = [
            *self.find_links,
            *(each.partition("=")[2] if named(each) else each for each in self.extra),
            self.index,
        ]
        return [each for each in [*local, self.client_certificate] if each and each not in own and not remote_url(each)]


def wheels(root: Path) -> list[str]:
    """The folder of the project's own wheels, if there is one. As a URL: pip splits paths at spaces."""
    folder = root / WHEELS
    return [folder.resolve().as_uri()] if folder.is_dir() else []


def quoted(value: str) -> str:
    """A value for a POSIX shell."""
    return "'" + value.replace("'", "'\\''") + "'"


def named(index: str) -> bool:
    """Whether an index has a name before its URL, as uv has it."""
    return re.match(r"[A-Za-z0-9_.-]+=", index) is not None


def remote_url(text: str) -> bool:
    """Whether another machine can reach this index or folder."""
    from urllib.parse import urlsplit  # imported late, as below: a command that builds nothing does not need it

    parts = urlsplit(text)
    return parts.scheme in ("http", "https") and parts.hostname not in ("localhost", "127.0.0.1", "::1")


def unset(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The variables that an installer must not get."""
    return tuple(sorted(name for name in environ if name.startswith(("PIP_", "UV_")) or name in OF_PYTHON))


# --- what is configured ---------------------------------------------------------------------------------------------


def configured(root: Path, environ: Mapping[str, str]) -> Sources:
    """What this user, this machine and the project at ``root`` say about where packages come from.

    Variables go before files, and uv's settings before pip's. Raises `Failure` for a file that cannot be read.
    """
    pip = {**_pip_files(environ), **_pip_variables(environ)}
    uv = _uv_files(root, environ)
    links = [*wheels(root), *_list(environ.get("UV_FIND_LINKS", ""), ","), *_texts(uv.get("find-links"))]
    links += [_absolute(each, root) for each in _list(pip.get("find-links", ""))]
    default, indexes = _uv_indexes(uv, environ)
    of_pip = _list(pip.get("extra-index-url", ""))
    strategy = {"UV_INDEX_STRATEGY": "unsafe-best-match"} if of_pip else {}  # as pip has it: all indexes are equal
    variables = {variable: str(uv[key]).lower() for key, variable in UV_KEYS.items() if key in uv}
    variables |= {name: value for name, value in environ.items() if name in UV or _credentials(name)}
    variables |= {f"PIP_{key.replace('-', '_').upper()}": pip[key] for key in pip if key in _PASSED}
    return Sources(
        index=default or pip.get("index-url", ""),
        extra=tuple(dict.fromkeys([*indexes, *of_pip])),
        find_links=tuple(dict.fromkeys(links)),
        no_index=_true(pip.get("no-index", "")) or uv.get("no-index") is True or _true(environ.get("UV_NO_INDEX", "")),
        trusted=tuple(
            dict.fromkeys(
                [
                    *_list(environ.get("UV_INSECURE_HOST", "")),
                    *_texts(uv.get("allow-insecure-host")),
                    *_list(pip.get("trusted-host", "")),
                ]
            )
        ),
        certificate=environ.get("SSL_CERT_FILE", "") or pip.get("cert", ""),
        client_certificate=environ.get("SSL_CLIENT_CERT", "") or pip.get("client-cert", ""),
        proxy=str(uv.get("https-proxy") or uv.get("http-proxy") or "") or pip.get("proxy", ""),
        variables={**strategy, **variables},
    )


#: pip's options that only pip has.
_PASSED = (
    "cert",
    "timeout",
    "default-timeout",
    "retries",
    "keyring-provider",
    "cache-dir",
    "no-cache-dir",
    "use-feature",
)


def _credentials(name: str) -> bool:
    return re.fullmatch(r"UV_INDEX_\w+_(USERNAME|PASSWORD)", name) is not None


def _true(text: str) -> bool:
    return text.strip().lower() in ("1", "true", "yes", "on", "y", "t")


def _list(text: str, separator: str | None = None) -> list[str]:
    return [word.strip() for word in text.split(separator) if word.strip()]


def _texts(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else [value] if isinstance(value, str) else []


def _absolute(text: str, folder: Path) -> str:
    """A URL as it is; a path from that folder."""
    return text if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", text) else str(folder / Path(text).expanduser())


def _pip_files(environ: Mapping[str, str]) -> dict[str, str]:
    """pip's options in its files, for `pip install`; the later of two files counts."""
    import configparser

    named_file = environ.get("PIP_CONFIG_FILE", "")
    if named_file == os.devnull:
        return {}
    home, config = _home(environ)
    shared = [Path(each) / "pip" / "pip.conf" for each in _shared(environ)]
    own = [home / ".pip" / "pip.conf", home / "Library/Application Support/pip/pip.conf", config / "pip" / "pip.conf"]
    paths = [
        *shared,
        *(Path(each) for each in SHARED if each.endswith("pip.conf")),
        *([] if named_file and Path(named_file).exists() else own),
    ]
    found: dict[str, str] = {}
    for path in [*paths, *([Path(named_file)] if named_file else [])]:
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(_text(path), str(path))
        except configparser.Error as error:
            raise Failure(f"{path}: {' '.join(str(error).split())}; fix it") from None
        for section in ("global", "install"):
            if parser.has_section(section):
                found |= {key.replace("_", "-"): value for key, value in parser.items(section) if value}
    return {key: value for key, value in found.items() if key in PIP}


def _pip_variables(environ: Mapping[str, str]) -> dict[str, str]:
    given = {name[4:].lower().replace("_", "-"): value for name, value in environ.items() if name.startswith("PIP_")}
    return {key: value for key, value in given.items() if key in PIP and value}


def _uv_files(root: Path, environ: Mapping[str, str]) -> dict[str, object]:
    """uv's settings in its files; the project's go before the user's, and those before the machine's."""
    if _true(environ.get("UV_NO_CONFIG", "")):
        return {}
    _, config = _home(environ)
    if one := environ.get("UV_CONFIG_FILE", ""):
        return dict(_uv_file(Path(one)))
    shared = [Path(each) / "uv" / "uv.toml" for each in _shared(environ)]
    found: dict[str, object] = {}
    machine = [Path(each) for each in SHARED if each.endswith("uv.toml")]
    for path in [*machine, *shared, config / "uv" / "uv.toml", *_of_project(root)]:
        for key, value in _uv_file(path):
            together = key in ("index", "find-links", "extra-index-url") and isinstance(value, list)
            found[key] = [*value, *_items(found.get(key))] if together and isinstance(value, list) else value
    return found


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _of_project(root: Path) -> Iterator[Path]:
    """The file of the project, or of the nearest folder above that has one."""
    for folder in [root.resolve(), *root.resolve().parents]:
        if (folder / "uv.toml").is_file():
            yield folder / "uv.toml"
            return
        if dict(_uv_file(folder / "pyproject.toml")):
            yield folder / "pyproject.toml"
            return


def _uv_file(path: Path) -> Iterator[tuple[str, object]]:
    """The settings of one file; those of its section `pip` go before the others, as uv has it."""
    import tomllib

    try:
        said: object = tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError as error:
        raise Failure(f"{path}: {error}; fix it") from None
    if path.name == "pyproject.toml":
        said = _table(_table(said, "tool"), "uv")
    table = {key: value for key, value in _table(said).items() if key != "pip"} | _table(said, "pip")
    for key, value in table.items():
        if said := _mistyped(key, value):
            raise Failure(f"{path}: {key} {said}; fix it")
        if key == "find-links":
            yield key, [_absolute(each, path.parent) for each in _texts(value)]
        elif key == "index" and isinstance(value, list):
            yield key, [{**each, "url": _absolute(str(each.get("url", "")), path.parent)} for each in value]
        else:
            yield key, value


def _mistyped(key: str, value: object) -> str:
    """What is wrong with the type of a setting that counts, as uv has it."""
    if key == "index" and not (isinstance(value, list) and all(isinstance(each, dict) for each in value)):
        return "must be tables, [[index]] with a url"
    if key == "index-url" and not isinstance(value, str):
        return "must be a text in quotes"
    if key in ("find-links", "extra-index-url", "allow-insecure-host") and not (
        isinstance(value, list) and all(isinstance(each, str) for each in value)
    ):
        return "must be a list of texts"
    return "must be true or false" if key == "no-index" and not isinstance(value, bool) else ""


def _table(value: object, key: str = "") -> dict[str, object]:
    found = value.get(key) if key and isinstance(value, dict) else value
    return found if isinstance(found, dict) else {}


def _uv_indexes(uv: Mapping[str, object], environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """The default index and the others, as uv's variables and files have them."""
    default, others = environ.get("UV_DEFAULT_INDEX", "") or environ.get("UV_INDEX_URL", ""), []
    others += [*_list(environ.get("UV_INDEX", "")), *_list(environ.get("UV_EXTRA_INDEX_URL", ""))]
    for each in map(_table, _items(uv.get("index"))):
        url, name = str(each.get("url", "")), str(each.get("name", ""))
        if each.get("explicit"):
            continue  # for packages that a `[tool.uv.sources]` names, which are never those of an .in file
        if each.get("default"):
            default = default or url
        else:
            others.append(f"{name}={url}" if name else url)
    return default or str(uv.get("index-url") or ""), [*others, *_texts(uv.get("extra-index-url"))]


def _home(environ: Mapping[str, str]) -> tuple[Path, Path]:
    """The user's folder, and that of the user's configuration."""
    home = Path(environ.get("HOME") or "~").expanduser()
    return home, Path(environ.get("XDG_CONFIG_HOME") or home / ".config")


def _shared(environ: Mapping[str, str]) -> Iterable[str]:
    return reversed(_list(environ.get("XDG_CONFIG_DIRS") or "/etc/xdg", ":"))


def _text(path: Path) -> str:
    """The text of a file; empty if there is none. Raises `Failure` if it cannot be read."""
    try:
        found = path.read_text("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ""
    except UnicodeDecodeError:
        raise Failure(f"{path}: is not UTF-8; save it as UTF-8") from None
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}; make it readable") from None
    if "\0" in found:
        raise Failure(f"{path}: has a zero byte; write the file again")
    return found
