"""Layered environments that are really built."""

import functools
import http.server
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.core.shell import Result
from tests import support
from tests.rig.wheels import wheel
from tests.support import invoke, one_line

UV = {"PATH": f"{support.TOOLS}:{os.environ['PATH']}"}
PIP = {"PORTICO_INSTALLER": "pip"}


#: Settings of a user who sends packages elsewhere. They are for other projects, and change nothing here.
ELSEWHERE = {
    **dict.fromkeys(("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_CONSTRAINT", "PIP_SRC"), "/nowhere/of-pip"),
    **dict.fromkeys(("PIP_USER", "PIP_DRY_RUN", "PIP_REQUIRE_VIRTUALENV", "PIP_BREAK_SYSTEM_PACKAGES"), "1"),
    **dict.fromkeys(("UV_SYSTEM_PYTHON", "UV_BREAK_SYSTEM_PACKAGES", "UV_NO_VERIFY_HASHES"), "1"),
    "UV_PROJECT_ENVIRONMENT": "/nowhere/of-uv",
    "UV_PYTHON": "/nowhere/python",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A fresh clone, under a path with a space."""
    return support.copy_project(tmp_path / "a project")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone with dev built, for tests that restore what they change."""
    project = support.copy_project(tmp_path_factory.mktemp("shared") / "a project")
    (project / "uv.toml").write_text('[pip]\ntarget = "/nowhere/of-uv"\nsystem = true\n')
    result = invoke(project, "venv", "--env", "dev", env=ELSEWHERE)
    assert result.code == 0, result.stderr
    (project / "uv.toml").unlink()
    return project


def venv_of(project: Path, name: str) -> Path:
    return project / ".venvs" / name


def check(project: Path, *words: str) -> Result:
    return invoke(project, "venv-check", *words)


def python_says(project: Path, name: str, code: str) -> str:
    python = str(venv_of(project, name) / "bin" / "python")
    return subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True, env=support.environment()
    ).stdout.strip()


def test_an_environment_imports_its_own_packages_and_those_below(shared: Path) -> None:
    code = "import django, psycopg2; print(django.__file__); print(psycopg2.__file__)"
    below, own = python_says(shared, "dev", code).splitlines()
    assert "/base-" in below
    assert "/.venvs/dev/lib/" in own
    assert not list(venv_of(shared, "dev").glob("lib/python*/site-packages/django"))


def test_lower_layers_scripts_run_with_the_upper_python(shared: Path) -> None:
    for words in (["celery", "--version"], ["django-admin", "--version"]):
        script = venv_of(shared, "dev") / "bin" / words[0]
        done = subprocess.run([str(script), words[1]], capture_output=True, text=True, check=True)
        assert re.match(r"\d+\.\d+", done.stdout)
    code = "import shutil, psycopg2; print(shutil.which('celery'))"
    activated = (
        f'. "{venv_of(shared, "dev")}/bin/activate" && python -c "{code}" && celery --version && echo $VIRTUAL_ENV'
    )
    done = subprocess.run(
        ["bash", "-c", activated], capture_output=True, text=True, check=True, env=support.environment()
    )
    where, _, virtual_env = done.stdout.splitlines()
    assert where == f"{venv_of(shared, 'dev')}/bin/celery"
    assert virtual_env == str(venv_of(shared, "dev"))


def test_a_second_time_there_is_nothing_to_do(shared: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (shared / ".venvs" / ".layers").iterdir()}
    result = invoke(shared, "venv", "--env", "dev")
    assert result.stderr == "dev: nothing to do\n"
    assert before == {path: path.stat().st_mtime_ns for path in (shared / ".venvs" / ".layers").iterdir()}


def test_a_dry_run_prints_commands_that_build_the_same(project: Path) -> None:
    """Pasted into a shell, they build an environment without problems."""
    assert invoke(project, "--list").code == 0  # the tools environment, whose uv is in the commands
    result = invoke(project, "venv", "--env", "dev", "--dry-run")
    assert not venv_of(project, "dev").exists()
    subprocess.run(["sh", "-eu", "-c", result.stdout], check=True, capture_output=True, env=support.environment())
    assert check(project, "--env", "dev").code == 0
    assert invoke(project, "venv", "--env", "dev").stderr == "dev: nothing to do\n"


def test_two_at_once_end_with_one_whole_environment(project: Path) -> None:
    assert invoke(project, "--list").code == 0
    command = ["python3", str(project / "tasks.py"), "venv", "--env", "dev"]
    both = [subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("base: installing" in text for text in said) == 1
    assert check(project, "--env", "dev").code == 0


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_killed_at_random_moments_the_next_one_makes_it_whole(project: Path, installer: str) -> None:
    env = {**support.environment(), **(PIP if installer == "pip" else {})}
    assert invoke(project, "--list").code == 0
    seed = random.randrange(10**6)
    print(f"seed: {seed}")  # each run draws other moments
    moments = random.Random(seed)
    command = ["python3", str(project / "tasks.py"), "venv", "--env", "dev"]
    seconds = 1.5 if installer == "uv" else 8
    for _ in range(5):
        with subprocess.Popen(
            command, cwd=project, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        ) as process:
            time.sleep(moments.uniform(0.1, seconds))
            if moments.random() < 0.5:
                os.kill(process.pid, signal.SIGKILL)  # its children live on, and hold the lock until they end
            else:
                os.killpg(process.pid, signal.SIGKILL)
        if moments.random() < 0.3:  # sometimes start again without any environment
            shutil.rmtree(project / ".venvs" / ".layers", ignore_errors=True)
            assert invoke(project, "--list").code == 0
    result = invoke(project, "venv", "--env", "dev", env=PIP if installer == "pip" else {})
    assert result.code == 0, result.stderr
    done = check(project, "--env", "dev")
    assert done.code == 0, done.stderr
    assert not list((project / ".venvs" / ".layers").glob(".building-*"))


def test_with_pip_alone_every_step_works_whatever_the_users_settings_say_about_where(
    project: Path, tmp_path: Path
) -> None:
    settings = tmp_path / "pip.conf"
    settings.write_text("[install]\ntarget = /nowhere/of-pip\n")
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow" / "invoke.py").write_text("raise ImportError('another invoke')")
    settings_and_shadow = {**ELSEWHERE, "PIP_CONFIG_FILE": str(settings), "PYTHONPATH": str(tmp_path / "shadow")}
    path = ":".join(part for part in os.environ["PATH"].split(":") if not (Path(part) / "uv").exists())
    result = invoke(project, "venv", "--env", "dev", env={**settings_and_shadow, **PIP, "PATH": path}, uv=False)
    assert re.search(r"tools: installing \d+ packages with pip", result.stderr)
    assert re.search(r"dev: installing \d+ packages? with pip", result.stderr)
    assert check(project).code == 0
    assert subprocess.run([venv_of(project, "dev") / "bin" / "celery", "--version"], check=True).returncode == 0


def test_without_uv_and_ensurepip_one_line_names_debians_package(project: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['ensurepip'] = None\n")
    path = ":".join(part for part in os.environ["PATH"].split(":") if not (Path(part) / "uv").exists())
    result = invoke(project, "--list", env={"PYTHONPATH": str(tmp_path), "PATH": path}, uv=False)
    assert "sudo apt install python3-venv" in one_line(result)
    assert not list((project / ".venvs" / ".layers").glob("*"))


def test_an_old_python_is_told_so(project: Path) -> None:
    code = "import runpy, sys; sys.version_info = (3, 9, 2); sys.path[:0] = ['.']; runpy.run_path('tasks.py')"
    done = subprocess.run(["python3", "-c", code], cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("This needs Python 3.11 or newer;")


def test_an_invoke_from_elsewhere_ends_up_in_the_tools_environment(project: Path, tmp_path: Path) -> None:
    uv = str(support.TOOLS / "uv")
    subprocess.run([uv, "venv", "--quiet", str(tmp_path / "foreign")], check=True)
    python = str(tmp_path / "foreign" / "bin" / "python")
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "invoke<3"], check=True)
    invoke_elsewhere = str(tmp_path / "foreign" / "bin" / "invoke")
    done = subprocess.run(
        [invoke_elsewhere, "venv-tree"],
        cwd=project / "site",
        capture_output=True,
        text=True,
        check=False,
        env={**support.environment(), **UV},
    )
    assert "tools: installing" in done.stderr
    assert re.search(r"base +\+\d+ packages", done.stdout)


def test_a_tab_key_installs_nothing(project: Path, tmp_path: Path) -> None:
    result = invoke(project, "--complete", "--", "venv")
    assert (result.code, result.stdout, result.stderr) == (0, "", "")
    assert not (project / ".venvs").exists()


# --- problems are found and named ---


def test_the_check_is_content_with_what_was_built(shared: Path) -> None:
    assert check(shared).stderr.endswith(": in order\n")


def test_a_changed_lock_is_named(shared: Path) -> None:
    lock = shared / "requirements" / "base.txt"
    text = lock.read_text()
    try:
        lock.write_text(re.sub(r"six==1\.17\.0", "six==1.16.0", text))
        (shared / "requirements" / "dev.txt").write_text(
            re.sub(r"six==1\.17\.0", "six==1.16.0", (shared / "requirements" / "dev.txt").read_text())
        )
        assert "dev: requirements/base.txt changed since it was built" in one_line(check(shared, "--env", "dev"))
        assert re.search(r"dev +stale", invoke(shared, "venv-list").stdout)
    finally:
        lock.write_text(text)
        shutil.copy2(support.ROOT / "requirements" / "dev.txt", shared / "requirements" / "dev.txt")


def test_a_base_that_is_gone_is_named_and_built_again(shared: Path) -> None:
    base = venv_of(shared, "base").resolve()
    base.rename(base.with_name("elsewhere"))
    line = one_line(check(shared, "--env", "dev"))
    assert line.startswith(f"dev: stands on {base.name}, which is no longer at {base.parent}")
    assert invoke(shared, "venv", "--env", "dev").code == 0
    assert check(shared, "--env", "dev").code == 0


@pytest.mark.parametrize("gone", ["base/lib/python3.*/site-packages/celery-*.dist-info", "base/lib"])
def test_an_empty_or_partial_layer_is_named_and_built_again_by_itself(shared: Path, gone: str) -> None:
    for path in (shared / ".venvs").glob(gone):
        shutil.rmtree(path)
    assert "celery" in check(shared, "--env", "dev").stderr
    assert re.search(r"base +broken", invoke(shared, "venv-list").stdout)
    assert invoke(shared, "venv", "--env", "dev").code == 0
    assert check(shared, "--env", "dev").code == 0


@pytest.mark.parametrize("words", [[], ["-I"], ["-P"]])
def test_an_empty_tools_layer_is_built_again_by_itself(shared: Path, words: list[str]) -> None:
    for path in (shared / ".venvs").glob("tools/lib/python3.*/site-packages/*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    done = subprocess.run(
        ["python3", *words, "tasks.py", "venv-tree"],
        cwd=shared,
        capture_output=True,
        text=True,
        check=False,
        env=support.environment(PATH=f"{support.TOOLS}:{os.environ['PATH']}"),
    )
    assert done.returncode == 0, done.stderr
    assert "tools: installing" in done.stderr


@pytest.mark.parametrize(
    ("streams", "code", "said"),
    [
        (">/dev/full", 1, "the output: No space left on device; fix that and repeat the command\n"),
        (">&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        ("| head -c 1 >/dev/null", 0, ""),
    ],
)
def test_a_closed_or_full_output_is_no_traceback(shared: Path, streams: str, code: int, said: str) -> None:
    """`doctor` starts other programs, which would inherit the closed streams."""
    line = f"python3 {shlex.quote(str(shared / 'tasks.py'))} doctor {streams}"
    done = subprocess.run(["sh", "-c", line], env=support.environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, said)


def test_a_file_of_the_users_that_invoke_cannot_read_is_one_line(shared: Path, tmp_path: Path) -> None:
    (tmp_path / ".invoke.yaml").write_text("a: [\n")
    line = one_line(invoke(shared, "venv-list", env={"HOME": str(tmp_path)}))
    assert f'"{tmp_path}/.invoke.yaml", line 2' in line
    assert line.endswith("--debug shows where")


def test_tools_without_their_invoke_are_built_again(shared: Path) -> None:
    (venv_of(shared, "tools") / "bin" / "invoke").unlink()
    assert "tools: installing" in invoke(shared, "venv-list").stderr
    assert invoke(shared, "venv-list").stderr == ""


def test_another_minor_version_of_python_is_named(shared: Path) -> None:
    record = venv_of(shared, "base").resolve() / "layer.json"
    text = record.read_text()
    try:
        record.write_text(text.replace("cpython-3.11", "cpython-3.12"))
        line = one_line(check(shared, "--env", "dev"))
        assert line.startswith("dev: runs cpython 3.11, but base was built for cpython 3.12")
    finally:
        record.write_text(text)


def test_a_hand_installed_package_and_a_broken_dependency_are_named(shared: Path) -> None:
    uv = str(support.TOOLS / "uv")
    python = str(venv_of(shared, "dev") / "bin" / "python")
    env = support.environment()
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "iniconfig==2.1.0"], check=True, env=env)
    base = str(venv_of(shared, "base") / "bin" / "python")
    subprocess.run([uv, "pip", "uninstall", "--quiet", "--python", base, "sqlparse"], check=True, env=env)
    said = check(shared).stderr
    assert "dev: iniconfig 2.1.0 was installed by hand" in said
    assert re.search(r"base: sqlparse \S+ was removed by hand", said)
    assert re.search(r"dev: django \S+ requires sqlparse, which is not installed", said)
    assert invoke(shared, "venv", "--env", "dev", "--rebuild").code == 0
    assert check(shared, "--env", "dev").code == 0


def test_a_project_that_was_moved_is_rebuilt_where_it_is(project: Path) -> None:
    assert invoke(project, "venv", "--env", "dev").code == 0
    moved = project.rename(project.with_name("moved"))
    assert invoke(moved, "venv", "--env", "dev").code == 0
    assert check(moved, "--env", "dev").code == 0
    assert str(moved) in python_says(moved, "dev", "import django; print(django.__file__)")


def test_what_others_stand_on_is_not_removed(shared: Path) -> None:
    assert one_line(invoke(shared, "venv-remove", "--env", "base")).startswith("environment base is needed by dev")
    assert python_says(shared, "dev", "import django; print('here')") == "here"


def test_an_environment_and_its_layer_are_removed_and_come_back(shared: Path) -> None:
    layer = venv_of(shared, "dev").resolve()
    assert invoke(shared, "venv-remove", "--env", "dev").code == 0
    assert not layer.exists()
    assert venv_of(shared, "base").exists()
    assert invoke(shared, "venv", "--env", "dev").code == 0


@pytest.mark.parametrize("python", ["2.7", "9.99", "true", "/nowhere/python"])
def test_a_python_that_is_none_is_one_line_and_changes_nothing(shared: Path, python: str) -> None:
    before = venv_of(shared, "dev").resolve()
    line = one_line(invoke(shared, "venv", "--env", "dev", "--python", python))
    assert "no such Python" in line or "the layers need Python 3.11 or newer" in line
    assert venv_of(shared, "dev").resolve() == before


def test_an_unwritable_store_is_one_line(project: Path) -> None:
    (project / ".venvs").write_text("a file, where a folder should be")
    assert "cannot be written" in one_line(invoke(project, "--list"))


# --- locks ---


def test_a_conflict_between_dev_and_base_is_refused_naming_both(shared: Path) -> None:
    source = shared / "requirements" / "dev.in"
    text, lock = source.read_text(), (shared / "requirements" / "dev.txt").read_text()
    try:
        source.write_text(text + "django>=6\n")
        line = one_line(invoke(shared, "lock"))
    finally:
        source.write_text(text)
    assert line.startswith("requirements/dev.in conflicts with base.in: ")
    assert "django" in line
    assert (shared / "requirements" / "dev.txt").read_text() == lock


def test_an_in_file_that_its_lock_does_not_follow_fails_the_check(shared: Path) -> None:
    source = shared / "requirements" / "dev.in"
    text = source.read_text()
    try:
        source.write_text(text + "iniconfig\n")
        line = one_line(invoke(shared, "lock", "--check"))
    finally:
        source.write_text(text)
    assert line.startswith("requirements/dev.txt: out of date with the .in files")


def test_the_locks_are_what_the_in_files_ask_for(shared: Path) -> None:
    result = invoke(shared, "lock", "--check")
    assert result.code == 0, result.stderr


def test_a_new_requirement_is_locked_and_installed_alone(project: Path) -> None:
    assert invoke(project, "venv", "--env", "dev").code == 0
    base = venv_of(project, "base").resolve()
    with (project / "requirements" / "dev.in").open("a") as source:
        source.write("iniconfig\n")
    assert invoke(project, "lock").code == 0
    again = invoke(project, "venv", "--env", "dev").stderr
    assert re.search(r"dev: installing \d+ packages", again)
    assert "base: installing" not in again
    assert venv_of(project, "base").resolve() == base
    assert python_says(project, "dev", "import iniconfig; print('here')") == "here"
    assert "1 unused layer\n" in invoke(project, "venv-remove", "--unused").stderr


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """A package index of a team's own with one package, `ours-alone`; yields its URL."""
    files = tmp_path / "index" / "ours-alone"
    name = wheel(files, "ours-alone")
    (files / "index.html").write_text(f'<a href="{name}">{name}</a>')
    handler = functools.partial(QuietHandler, directory=str(files.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_an_index_or_wheels_of_the_teams_own_count_in_lock_and_for_both_installers(shared: Path, index: str) -> None:
    """The line that `lock` refuses names the remedy; applied, it works."""
    source, settings = shared / "requirements" / "dev.in", shared / "pyproject.toml"
    text, lock, before = source.read_text(), (shared / "requirements" / "dev.txt").read_text(), settings.read_text()
    wheels = shared / "requirements" / "wheels"

    def installs() -> None:
        assert invoke(shared, "lock").code == 0
        for env in ({}, PIP):
            shutil.rmtree(venv_of(shared, "dev").resolve())
            result = invoke(shared, "venv", "--env", "dev", env=env)
            assert result.code == 0, result.stderr
            assert python_says(shared, "dev", "import ours_alone; print('here')") == "here"

    number = len(text.splitlines()) + 1
    try:
        source.write_text(f"{text}--extra-index-url {index}\nours-alone\n")
        assert re.match(rf"requirements/dev\.in:{number}: .*\[\[tool\.uv\.index\]\]", one_line(invoke(shared, "lock")))
        source.write_text(f"{text}ours-alone\n")
        assert "there is no package ours-alone" in one_line(invoke(shared, "lock"))
        assert (shared / "requirements" / "dev.txt").read_text() == lock
        settings.write_text(f'{before}\n[[tool.uv.index]]\nurl = "{index}"\n')
        installs()
        settings.write_text(before)
        source.write_text(f"{text}ours-alone @ {index}ours-alone/x.whl\n")
        refused = one_line(invoke(shared, "lock"))
        assert re.match(rf"requirements/dev\.in:{number}: .* `pip wheel --no-deps -w requirements/wheels http", refused)
        wheel(wheels, "ours-alone")
        source.write_text(f"{text}ours-alone==1.0\n")
        installs()
    finally:
        shutil.rmtree(wheels, ignore_errors=True)
        source.write_text(text)
        settings.write_text(before)
        (shared / "requirements" / "dev.txt").write_text(lock)
