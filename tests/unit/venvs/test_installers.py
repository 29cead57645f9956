"""The settings of pip and uv: those about where packages go change nothing, those about where they come from count."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from deploy.core.errors import Failure
from deploy.core.shell import Run
from deploy.project.names import WHEELS
from deploy.venvs import build, installers
from deploy.venvs import locking as lock
from deploy.venvs.installers import Sources, configured
from deploy.venvs.layers import Layer, Pin
from deploy.venvs.store import Python, Store

LAYER = Layer("dev", "cpython-3.11", (Pin("six", "1", "", ("--hash=sha256:00",)),))
INDEX = "https://packages.example.org/simple"
#: What sends packages elsewhere, or changes which are installed: a variable, or a line of one of the files.
WHERE = [
    *[f"PIP_{name}" for name in ("TARGET", "PREFIX", "ROOT", "USER", "PYTHON", "BREAK_SYSTEM_PACKAGES", "DRY_RUN")],
    *[f"PIP_{name}" for name in ("REQUIRE_VIRTUALENV", "CONSTRAINT", "REQUIREMENT", "SRC", "PLATFORM", "NO_DEPS")],
    *[
        f"UV_{name}"
        for name in ("PROJECT_ENVIRONMENT", "SYSTEM_PYTHON", "BREAK_SYSTEM_PACKAGES", "PYTHON", "CONSTRAINT")
    ],
    *[f"UV_{name}" for name in ("OVERRIDE", "NO_VERIFY_HASHES", "WORKING_DIR", "PROJECT", "TARGET", "PREFIX")],
    *[f"PIP_{name}" for name in ("NO_BINARY", "ONLY_BINARY", "PRE", "NO_BUILD_ISOLATION", "REPORT", "LOG", "ABI")],
    *[f"UV_{name}" for name in ("RESOLUTION", "PRERELEASE", "EXCLUDE_NEWER", "NO_BINARY", "NO_BUILD", "TORCH_BACKEND")],
    *["uv.toml [] exclude-newer", "uv.toml [pip] resolution", "pip.conf [global] no-binary", "pip.conf [install] pre"],
    *["PYTHONPATH", "PYTHONHOME"],
    *[f"pip.conf [install] {name}" for name in ("target", "prefix", "root", "user", "break-system-packages")],
    *["pip.conf [global] require-virtualenv", "pip.conf [global] constraint"],
    *[f"uv.toml [pip] {name}" for name in ("target", "prefix", "system", "break-system-packages", "python")],
    *["pyproject.toml [tool.uv.pip] target", "pyproject.toml [tool.uv.pip] prefix"],
]
#: What says where packages come from, the same for both programs: a variable or a line of a file, with its value.
WHENCE = [
    ("PIP_INDEX_URL", INDEX),
    ("pip.conf [global] index-url", INDEX),
    ("pip.conf [install] index_url", INDEX),
    ("UV_DEFAULT_INDEX", INDEX),
    ("UV_INDEX_URL", INDEX),
    ("uv.toml [] index-url", INDEX),
    ("uv.toml [pip] index-url", INDEX),
    ("pyproject.toml [tool.uv] index-url", INDEX),
    ("pyproject.toml [[tool.uv.index]] default=true\nurl", INDEX),
    ("PIP_EXTRA_INDEX_URL", INDEX),
    ("pip.conf [global] extra-index-url", INDEX),
    ("UV_INDEX", INDEX),
    ("UV_EXTRA_INDEX_URL", INDEX),
    ('pyproject.toml [[tool.uv.index]] name="ours"\nurl', INDEX),
    ("PIP_FIND_LINKS", INDEX),
    ("pip.conf [global] find-links", INDEX),
    ("UV_FIND_LINKS", INDEX),
    ("PIP_PROXY", "http://proxy.example.org:3128"),
    ("pip.conf [global] proxy", "http://proxy.example.org:3128"),
    ("PIP_CERT", "/etc/ssl/own.pem"),
    ("pip.conf [global] cert", "/etc/ssl/own.pem"),
    ("SSL_CERT_FILE", "/etc/ssl/own.pem"),
    ("PIP_CLIENT_CERT", "/etc/ssl/me.pem"),
    ("PIP_TRUSTED_HOST", "packages.example.org"),
    ("pip.conf [global] trusted-host", "packages.example.org"),
    ("UV_INSECURE_HOST", "packages.example.org"),
]


def given(home: Path, setting: str, value: str) -> dict[str, str]:
    """The environment of a user who has made this setting; ``home`` is the user's folder and the project's."""
    environ = {"HOME": str(home), "XDG_CONFIG_DIRS": str(home / "none")}
    file, _, line = setting.partition(" ")
    if not line:
        return {**environ, file: value}
    section, _, key = line.partition(" ")
    if file == "pip.conf":
        path = home / ".config" / "pip" / "pip.conf"
        text = f"{section}\n{key} = {value}\n"
    else:
        path = home / ".config" / "uv" / "uv.toml" if file == "uv.toml" else home / file
        text = f'{"" if section == "[]" else section}\n{key} = "{value}"\n'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return environ


def commands(home: Path) -> dict[str, tuple[dict[str, str], list[str]]]:
    """What each command that locks or installs gets: its variables and words."""
    store = Store(home / ".venvs", home / "requirements")
    found = {"lock": lock.compilation("/uv", "base", [], home, sources=configured(home, os.environ))}
    for installer, uv in (("uv", "/uv"), ("pip", None)):
        steps = build.building_steps(store, LAYER, Python("/p", "cpython-3.11"), uv)
        runs = [step for step in steps if isinstance(step, Run)]
        found |= {f"{installer} venv": runs[0], f"{installer} install": runs[1]}
    return {name: (run.environment, list(run.argv)) for name, run in found.items()}


def alone(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> None:
    for name in os.environ:
        if name.startswith(("PIP_", "UV_", "XDG_", "SSL_", "PYTHON")) or name == "HOME":
            monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("setting", WHERE)
def test_a_setting_about_where_reaches_no_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setattr(installers, "SHARED", ())
    alone(monkeypatch, {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path / "none")})
    before = commands(tmp_path)
    alone(monkeypatch, given(tmp_path, setting, "/tmp/elsewhere"))
    assert commands(tmp_path) == before
    for name, (variables, _) in before.items():
        if "venv" not in name:
            assert variables.get("UV_NO_CONFIG") == "1" or variables.get("PIP_CONFIG_FILE") == os.devnull, name


@pytest.mark.parametrize(("setting", "value"), WHENCE)
def test_a_setting_about_where_from_reaches_each_command_that_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, value: str
) -> None:
    monkeypatch.setattr(installers, "SHARED", ())
    alone(monkeypatch, given(tmp_path, setting, value))
    for name, (variables, _) in commands(tmp_path).items():
        if "venv" not in name:
            told = [word for each in variables.values() for word in each.replace(",", " ").split()]
            assert value in told or f"ours={value}" in told, name
    if value.startswith(("https:", "http:")):
        assert value in configured(tmp_path, os.environ).elsewhere, "an image build gets it too"


def test_a_path_is_the_projects_or_its_files_own(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.uv]\nfind-links = ["wheels"]\n')
    sources = configured(tmp_path, {"HOME": "/nowhere", "XDG_CONFIG_DIRS": "/nowhere", "PIP_FIND_LINKS": "more ~/own"})
    assert sources.find_links == (str(tmp_path / "wheels"), str(tmp_path / "more"), str(Path("~/own").expanduser()))
    assert "wheels" not in sources.elsewhere, "another machine has no such folder"


def test_the_projects_own_wheels_count_everywhere_and_other_folders_are_named_as_left_out(tmp_path: Path) -> None:
    environ = {
        "HOME": "/nowhere",
        "XDG_CONFIG_DIRS": "/nowhere",
        "PIP_FIND_LINKS": "/opt/wheels https://example.org/w",
        "PIP_CLIENT_CERT": "/me.pem",
        "UV_INDEX": "ours=http://localhost:1/x",
        "PIP_INDEX_URL": INDEX,
    }
    root = tmp_path / "a folder"
    assert configured(root, environ).find_links == ("/opt/wheels", "https://example.org/w")
    (root / WHEELS).mkdir(parents=True)
    sources = configured(root, environ)
    assert sources.find_links[0] == f"file://{tmp_path}/a%20folder/requirements/wheels", "pip splits paths at spaces"
    assert sources.left_out(root) == ["/opt/wheels", "http://localhost:1/x", "/me.pem"]
    assert configured(root, {"HOME": "/nowhere"}).left_out(root) == []


def test_no_index_is_an_option_of_uv_and_a_variable_of_pip(tmp_path: Path) -> None:
    sources = configured(tmp_path, {"HOME": "/nowhere", "PIP_NO_INDEX": "1"})
    assert sources.uv_options == ["--no-index"]
    assert sources.pip["PIP_NO_INDEX"] == "1"


def test_the_index_of_a_file_that_is_switched_off_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "uv.toml").write_text(f'index-url = "{INDEX}"\n')
    assert configured(tmp_path, {"HOME": "/nowhere"}).index == INDEX
    assert configured(tmp_path, {"HOME": "/nowhere", "UV_NO_CONFIG": "1"}).index == ""


@pytest.mark.parametrize(("name", "text"), [("uv.toml", "a = ["), ("pyproject.toml", "[tool"), ("uv.toml", "\udce9")])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(Failure, match=rf"{name}: .*; (fix it|save it as UTF-8)$"):
        configured(tmp_path, {"HOME": "/nowhere"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("index = [1, 2]", "uv.toml: index must be tables, [[index]] with a url; fix it"),
        ("index = 'x'", "uv.toml: index must be tables, [[index]] with a url; fix it"),
        ("index-url = 3", "uv.toml: index-url must be a text in quotes; fix it"),
        ("find-links = 1", "uv.toml: find-links must be a list of texts; fix it"),
        ("[pip]\nno-index = 'a'", "uv.toml: no-index must be true or false; fix it"),
        ("# \0", "uv.toml: has a zero byte; write the file again"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "uv.toml").write_text(text)
    with pytest.raises(Failure) as refused:
        configured(tmp_path, {"HOME": "/nowhere"})
    assert refused.value.message == f"{tmp_path}/{said}"


def test_a_shell_reads_what_another_machine_gets() -> None:
    secret = "https://me:it's%20$x@example.org/simple"
    text = Sources(index=secret, extra=("ours=https://example.org/b", "file:///opt"), trusted=("a", "b")).elsewhere
    done = subprocess.run(["sh", "-euc", f"{text}env"], capture_output=True, text=True, check=True, env={})
    got = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert got["UV_DEFAULT_INDEX"] == got["PIP_INDEX_URL"] == secret
    assert (got["UV_INDEX"], got["PIP_EXTRA_INDEX_URL"]) == ("ours=https://example.org/b", "https://example.org/b")


def test_a_dry_run_shows_no_password_of_an_index() -> None:
    shown = Run(["uv"], {"UV_DEFAULT_INDEX": "https://me:secret@example.org/x"}, unset=("PIP_TARGET",)).render()
    assert shlex.split(shown) == ["env", "-u", "PIP_TARGET", "UV_DEFAULT_INDEX=https://***@example.org/x", "uv"]
