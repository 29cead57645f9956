"""The content of layers, and when it changes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.core.errors import Failure
from deploy.venvs import layers
from deploy.venvs.layers import Layer, Pin

HASH = "--hash=sha256:" + "0" * 64
GRAPH = {"base": (), "tools": (), "dev": ("base",), "prod": ("base",), "test": ("base", "tools")}


def pin(name: str, version: str = "1", marker: str = "") -> Pin:
    return Pin(name, version, marker, (HASH,))


def write_requirements(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.in").write_text(text)
    return folder


def test_the_r_lines_are_the_layer_graph(tmp_path: Path) -> None:
    write_requirements(
        tmp_path, base="django\n", tools="invoke\n", test="-r base.in\n--requirement tools.in # both\npytest\n"
    )
    assert layers.read_graph(tmp_path) == {"base": (), "test": ("base", "tools"), "tools": ()}


def test_an_environment_comes_after_all_that_it_stands_on() -> None:
    assert layers.order(GRAPH, ["test"]) == ["base", "tools", "test"]


def test_a_diamond_is_built_once_and_its_top_last() -> None:
    diamond = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}
    assert layers.order(diamond, ["d"]) == ["a", "b", "c", "d"]


def test_a_cycle_is_refused_and_named() -> None:
    with pytest.raises(Failure, match="a stands on b stands on a"):
        layers.order({"a": ("b",), "b": ("a",)}, ["a"])


def test_an_unknown_environment_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Failure, match="'staging'; there are: base, dev"):
        layers.order(GRAPH, ["staging"])


def test_a_missing_parent_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"dev\.in stands on base\.in, which does not exist"):
        layers.read_graph(write_requirements(tmp_path, dev="-r base.in\n"))


def test_layers_that_meet_below_another_must_agree() -> None:
    assert layers.companions(GRAPH, "base") == ["tools"]  # because of test
    assert layers.companions(GRAPH, "prod") == ["base"]


def test_nothing_that_a_project_pins_changes_the_tools() -> None:
    assert layers.sequence_of(GRAPH)[0] == "tools"
    assert layers.companions(GRAPH, "tools") == []
    apart = {**GRAPH, "test": ("base",)}
    assert layers.companions(apart, "base") == [], "nor the other way round, where no environment stands on both"


def test_a_lock_says_for_which_python_it_is(tmp_path: Path) -> None:
    (tmp_path / "base.txt").write_text(layers.for_python("x\n", (3, 12)))
    (tmp_path / "dev.txt").write_text(layers.for_python("x\n", (3, 11)))
    assert layers.lowest(tmp_path, "base") == (3, 12)
    assert layers.lowest(tmp_path, "dev") == layers.lowest(tmp_path, "none") == (3, 11)
    assert (tmp_path / "dev.txt").read_text() == "x\n"


def test_a_lock_is_read_with_markers_hashes_and_comments() -> None:
    marker = "sys_platform == 'win32'"
    text = f"# made by\nDjango_X[argon2]==5.2.1 ; {marker} \\\n    {HASH} \\\n    {HASH}\n    # via celery\n"
    assert layers.parse_lock(text, "x.txt") == (Pin("django-x", "5.2.1", marker, (HASH, HASH)),)


@pytest.mark.parametrize("line", ["django", "django>=5", "-e .", "django==5.2", "git+https://example.org/x"])
def test_a_line_that_is_no_exact_version_with_hashes_is_refused(line: str) -> None:
    with pytest.raises(Failure, match=r"x\.txt: .* `invoke lock`"):
        layers.parse_lock(line, "x.txt")


def test_a_layer_holds_only_what_is_not_below_it() -> None:
    base = Layer("base", "cpython-3.11", (pin("django"), pin("celery")))
    assert layers.difference("dev", [pin("django"), pin("celery"), pin("ipython")], [base]) == (pin("ipython"),)


def test_another_version_above_is_refused_naming_both() -> None:
    base = Layer("base", "cpython-3.11", (pin("django", "5.2"),))
    with pytest.raises(Failure, match=r"dev\.txt has django 6\.0, base\.txt has 5\.2"):
        layers.difference("dev", [pin("django", "6.0")], [base])


def test_a_package_that_is_below_only_for_some_machines_is_installed_above() -> None:
    base = Layer("base", "cpython-3.11", (pin("colorama", "1", "sys_platform == 'win32'"),))
    assert layers.difference("dev", [pin("colorama")], [base]) == (pin("colorama"),)


def test_the_key_changes_with_python_pins_and_what_is_below() -> None:
    base = Layer("base", "cpython-3.11", (pin("django"),))
    dev = Layer("dev", "cpython-3.11", (pin("ipython"),), (base,))
    others = [
        Layer("dev", "cpython-3.12", (pin("ipython"),), (base,)),
        Layer("dev", "cpython-3.11", (pin("ipython", "2"),), (base,)),
        Layer("dev", "cpython-3.11", (pin("ipython"),), (Layer("base", "cpython-3.11", (pin("django", "2"),)),)),
        Layer("dev", "cpython-3.11", (pin("ipython"),)),
    ]
    assert len({dev.key, *(other.key for other in others)}) == 5


def test_a_comment_in_a_lock_changes_no_layer(tmp_path: Path) -> None:
    write_requirements(tmp_path, base="django\n")
    (tmp_path / "base.txt").write_text(f"django==5.2 {HASH}\n")
    before = layers.resolve(tmp_path, "base", "cpython-3.11")
    (tmp_path / "base.txt").write_text(f"# another comment\ndjango==5.2 \\\n    {HASH}\n    # via me\n")
    assert layers.resolve(tmp_path, "base", "cpython-3.11").key == before.key


def test_the_uppermost_of_two_layers_comes_first_on_the_path(tmp_path: Path) -> None:
    write_requirements(tmp_path, a="x\n", b="-r a.in\n", c="-r a.in\n", d="-r b.in\n-r c.in\n")
    for name in "abcd":
        (tmp_path / f"{name}.txt").write_text(f"{name}==1 {HASH}\n")
    below = [layer.name for layer in layers.resolve(tmp_path, "d", "cpython-3.11").below]
    assert below == ["c", "b", "a"]


NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)


@given(st.dictionaries(NAMES, st.from_regex(r"[0-9]\.[0-9]{1,3}", fullmatch=True), max_size=12), st.data())
def test_no_layer_repeats_what_is_below_and_together_they_are_the_lock(
    lock: dict[str, str], data: st.DataObject
) -> None:
    pins = [pin(name, version) for name, version in lock.items()]
    below = data.draw(st.lists(st.sampled_from(pins), unique=True)) if pins else []
    base = Layer("base", "cpython-3.11", tuple(below))
    own = layers.difference("dev", pins, [base])
    assert not set(own) & set(below)
    assert set(own) | set(below) == set(pins)
