"""The project's own additions: what is read, what is refused, and the examples of their page."""

from __future__ import annotations

import io
import re
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.core.errors import Failure
from deploy.docker import context, images
from deploy.docker import env as server_env
from deploy.docker.stack import Stack
from deploy.hosts.environment.values import ROLES
from deploy.hosts.setup import additions
from deploy.hosts.setup.desired import desired
from deploy.hosts.setup.diff import Desired, Idle, Unit
from deploy.hosts.setup.site import Learned, Own
from deploy.project import check, config, local, proxy
from tests import pages
from tests.support import ROOT
from tests.unit.hosts.test_setup import ACCESS, PROJECT, files, host, site
from tests.unit.project.test_config import VALUES
from tests.unit.stacks import VALUES as ENV

EXAMPLES = {
    block.remark: block.body
    for block in pages.blocks((ROOT / local.FOLDER / "README.md").read_text())
    if block.remark.startswith(local.FOLDER)
}


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"Dockerfile": (ROOT / "Dockerfile").read_text(), **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def wanted(root: Path, name: str) -> Desired:
    own = Own(local.nginx(root), local.drop_ins(root), local.services(root))
    here = replace(site(), own=own)
    assert additions.problems(here) == []
    return desired(here, host(here, name), Learned(access=ACCESS))  # type: ignore[arg-type]


def test_the_page_has_an_example_for_each_kind_and_none_is_shipped() -> None:
    assert {Path(name).suffix or Path(name).name for name in EXAMPLES} == {".yaml", ".conf", "Dockerfile", ".service"}
    assert [path.name for path in (ROOT / local.FOLDER).iterdir()] == ["README.md"]


# --- Containers ---


def test_the_projects_compose_files_are_the_last_of_every_stack(tmp_path: Path) -> None:
    write(tmp_path, {"deploy/local/compose.yaml": "", "deploy/local/compose.swarm.yaml": ""})
    env = server_env.parse(ENV, ".env")
    for kind, last in (("dev", local.COMPOSE), ("prod", local.COMPOSE), ("swarm", "deploy/local/compose.swarm.yaml")):
        words = list(Stack(replace(PROJECT, root=tmp_path), kind, env).compose("ps").argv)
        assert words[words.index("ps") - 2 : words.index("ps")] == ["-f", last]


def test_the_projects_lines_of_the_image_are_in_both(tmp_path: Path) -> None:
    project = replace(PROJECT, root=write(tmp_path, EXAMPLES), packages=("ffmpeg", "libmagic1"))
    assert re.search(rf"WORKDIR /app\n{local.MARK}\nENV TZ=Europe/Paris\nRUN .*\n\n# ---", local.dockerfile(tmp_path))
    assert "PACKAGES=ffmpeg libmagic1" in images.build(project, "app", ["x"], None).argv
    dev = list(images.build(project, "dev", ["x"], None).argv)
    assert dev[dev.index("--file") + 1] == str(tmp_path / ".secrets" / "Dockerfile")
    assert "--file" not in images.build(replace(project, root=ROOT), "dev", ["x"], None).argv


def test_the_archive_of_an_image_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, EXAMPLES)
    monkeypatch.setattr(context, "known", lambda root: ["Dockerfile"])
    output = io.BytesIO()
    context.write(tmp_path, ".", output)
    output.seek(0)
    with tarfile.open(fileobj=output) as archive:
        found = archive.extractfile("Dockerfile")
        assert found
        assert found.read().decode() == local.dockerfile(tmp_path)


@pytest.mark.parametrize("line", ["FROM scratch", "COPY a b", "user root", "ADD a b"])
def test_a_line_that_no_fragment_can_have_is_named(tmp_path: Path, line: str) -> None:
    write(tmp_path, {"deploy/local/Dockerfile": f"ENV A=b\n{line}\n"})
    with pytest.raises(Failure, match=r"^deploy/local/Dockerfile:2: \w+ is not possible here"):
        local.dockerfile(tmp_path)


@pytest.mark.parametrize("value", ["a b;c", ["-y"], ["Curl"], [1], 3])
def test_a_package_that_is_none_is_named(value: object) -> None:
    with pytest.raises(Failure, match=r"project\.packages: .* is not the name of a Debian package"):
        config.load(ROOT, {**VALUES, "packages": value})


def test_packages_are_a_list_or_words() -> None:
    for value in (["ffmpeg", "libmagic1"], "ffmpeg libmagic1"):
        assert config.load(ROOT, {**VALUES, "packages": value}).packages == ("ffmpeg", "libmagic1")


# --- nginx ---


def test_nginx_has_the_projects_lines_on_every_runtime(tmp_path: Path) -> None:
    write(tmp_path, EXAMPLES)
    text = EXAMPLES[local.NGINX]
    front = Stack(replace(PROJECT, root=tmp_path), "prod", server_env.parse(ENV, ".env")).front()
    assert proxy.runtime_files(front, proxy.ALL)["local.conf"] == text
    assert files(wanted(tmp_path, "web1"))["/etc/nginx/shop-x/local.conf"].text == text
    assert local.nginx(ROOT) == local.NOTHING, "no file: a line that says where it would be"
    site_conf = (ROOT / "nginx/site.conf").read_text()
    assert "include /etc/nginx/site/local.conf;" in site_conf[site_conf.index("location / {") :]


def test_an_error_names_the_projects_file() -> None:
    said = 'nginx: [emerg] unknown directive "nonsense" in /etc/nginx/site/local.conf:3\nnginx: test failed'
    assert proxy.complaint(said) == 'unknown directive "nonsense" in deploy/local/nginx.conf:3'


# --- Hosts ---


def test_units_have_the_projects_lines_where_they_run(tmp_path: Path) -> None:
    write(tmp_path, EXAMPLES)
    path = "/etc/systemd/system/shop-x-worker@.service.d/shop-x-local.conf"
    assert files(wanted(tmp_path, "jobs1"))[path].text == EXAMPLES["deploy/local/units/worker.conf"]
    assert path in wanted(tmp_path, "web1").absent
    assert path in wanted(write(tmp_path / "none", {}), "jobs1").absent, "a line that is gone here goes there"


def test_a_unit_of_the_projects_own_runs_on_hosts_with_its_roles_and_goes_when_it_is_empty(tmp_path: Path) -> None:
    write(tmp_path, EXAMPLES)
    path = "/etc/systemd/system/shop-x-heartbeat.service"
    unit = Unit("shop-x-heartbeat.service", restart_for=(path,))
    assert path in files(made := wanted(tmp_path, "web1"))
    assert unit in made.units
    for name in ("jobs1", "data1"):
        other = wanted(tmp_path, name)
        assert path in other.absent
        assert Idle(unit.name, path) in other.idle
    (tmp_path / local.UNITS / "heartbeat.service").write_text("")
    assert path in wanted(tmp_path, "web1").absent


@pytest.mark.parametrize(
    "name",
    [
        "app.conf",
        "web.service",
        "firewall.service",
        "redis.service",
        "certificate.service",
        "Bad Name.service",
        "a.timer",
    ],
)
def test_a_unit_that_would_not_be_read_is_named(tmp_path: Path, name: str) -> None:
    write(tmp_path, {f"{local.UNITS}/{name}": "x"})
    with pytest.raises(Failure, match=f"^{local.UNITS}/{re.escape(name)}: must be web.conf"):
        local.services(tmp_path)


def test_a_role_that_there_is_not_is_named() -> None:
    wrong = replace(site(), own=Own(services={"x": "[Unit]\nX-Roles=web wrker\n"}))
    assert additions.problems(wrong) == [
        f"deploy/local/units/x.service: X-Roles: 'wrker' is not a role; there are: {', '.join(ROLES)}"
    ]


def test_packages_are_on_hosts_that_run_the_site() -> None:
    here = replace(site(), project=replace(PROJECT, packages=("ffmpeg",)))
    for name, there in (("web1", True), ("jobs1", True), ("data1", False)):
        made = desired(here, host(here, name), Learned(access=ACCESS))  # type: ignore[arg-type]
        assert ("ffmpeg" in made.packages) is there


# --- check ---


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("docker-compose.yml", "compose.yaml"),
        ("compose.prod.yml", "compose.prod.yaml"),
        ("dockerfile", "Dockerfile"),
        ("prometheus.yml", ""),
        ("compose.swarm.yaml", ""),
    ],
)
def test_check_finds_a_file_that_nothing_reads(tmp_path: Path, name: str, right: str) -> None:
    write(tmp_path, {f"deploy/local/{name}": "", "invoke.yaml": "project: {name: x}\n"})
    found = [each for each in check.findings(check.known(tmp_path, {}, "", {})) if "nothing reads" in each.what]
    moves = [f"git mv deploy/local/{name} deploy/local/{right}"] if right else []
    assert [each.command for each in found] == moves
