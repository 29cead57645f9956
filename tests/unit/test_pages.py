"""What the pages say is so: tasks and options exist, links lead somewhere, trees are the tree, errors can be met."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests import figures, pages
from tests.support import ROOT, project_files

NAMES = [str(path.relative_to(ROOT)) for path in pages.pages()]
#: Invoke's own, before a task's name and after it.
INVOKE = ("list", "help", "dry", "print-completion-script", "version")


def page(name: str) -> str:
    return (ROOT / name).read_text()


def calls(text: str) -> Iterator[str]:
    """Each mention of a task in code: the words after `invoke` or `python3 tasks.py`."""
    shell = (
        line for block in pages.blocks(text) if block.language in ("console", "sh") for line in block.body.splitlines()
    )
    spans = re.findall(r"`([^`\n]+)`", pages.prose(text))
    for code in [*shell, *spans]:
        for found in re.finditer(r"(?:\binvoke|tasks\.py) +([^;|&)#]*)", code):
            yield found[1].strip()


@pytest.mark.parametrize("name", NAMES)
def test_each_task_and_option_that_a_page_names_exists(name: str) -> None:
    tasks = pages.tasks()
    for call in calls(page(name)):
        words = call.split(" -- ")[0].split()
        task = next((word for word in words if not word.startswith("-")), "")
        if not re.fullmatch(r"[a-z][a-z-]*", task):  # `invoke X`, `invoke --list`
            assert all(word.split("=")[0].lstrip("-") in INVOKE for word in words if word.startswith("--")), call
            continue
        assert task in tasks, f"{name}: `{call}`"
        known = {*pages.options(tasks[task]), *INVOKE}
        for option in re.findall(r"--([a-z][a-z-]*)", " ".join(words)):
            assert option in known, f"{name}: `{call}` has no --{option}"


@pytest.mark.parametrize("name", NAMES)
def test_each_link_of_a_page_leads_somewhere(name: str) -> None:
    for link in pages.links(page(name)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), f"{name}: {link}"
        if anchor:
            assert anchor in pages.anchors((target / "README.md" if target.is_dir() else target).read_text()), (
                f"{name}: {link}"
            )


def tracked() -> set[str]:
    return set(project_files())


def trees(text: str) -> Iterator[tuple[str, set[str]]]:
    """The trees of a page: a folder, and what is named in it, one level deep."""
    for block in pages.blocks(text):
        first, *rest = block.body.splitlines() or [""]
        if block.language == "text" and re.fullmatch(r"[\w./-]+/", first.split("  ")[0].strip()):
            found = (re.match(r"  (\S+)", line) for line in rest)
            yield first.split("  ")[0].strip(), {match[1].rstrip("/") for match in found if match}


@pytest.mark.parametrize("name", NAMES)
def test_a_tree_in_a_page_is_the_tree(name: str) -> None:
    for folder, named in trees(page(name)):
        inside = {path.removeprefix(folder).split("/")[0] for path in tracked() if path.startswith(folder)}
        assert named <= inside, f"{name}: {folder}: {named - inside} is not there"
        assert inside - named <= {"__init__.py", "README.md"}, f"{name}: {folder} does not name {inside - named}"


def texts() -> Iterator[str]:
    """What the code can say, as patterns: its strings, with anything in the place of a value."""
    for path in [ROOT / "tasks.py", *ROOT.glob("deploy/**/*.py")]:
        tree = ast.parse(path.read_text())
        parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if id(node) in parts:
                continue  # a part alone would match a line of which the rest is wrong
            if isinstance(node, ast.JoinedStr):
                yield "".join(
                    re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".+?" for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.escape(node.value)
    for path in [*ROOT.glob("deploy/**/*.sh")]:
        for found in re.findall(r"['\"]([^'\"\n]{12,})['\"]", path.read_text()):
            yield re.sub(r"\\\$(?:\\\{)?\w+(?:\\\})?|%s", ".+?", re.escape(found))


@cache
def patterns() -> list[re.Pattern[str]]:
    """Those of `texts` that say something: short ones would match any line."""
    return [re.compile(each) for each in set(texts()) if len(re.sub(r"\.\+\?|\\", "", each)) >= 12]


def said_by_the_code(line: str) -> bool:
    """Whether a line is, but for what stands before it and after it, something that the code can say."""
    return any(each.search(line) for each in patterns())


def troubles() -> list[str]:
    text = page("deploy/README.md").partition("## Troubleshooting")[2]
    return re.findall(r"^### `(.+)`$", text, re.MULTILINE)


def test_troubleshooting_is_headed_by_lines_that_the_code_can_say() -> None:
    assert len(troubles()) >= 10
    assert not [line for line in troubles() if not said_by_the_code(line)]


@pytest.mark.parametrize("name", NAMES)
def test_a_table_of_what_goes_wrong_quotes_lines_that_the_code_can_say(name: str) -> None:
    section = page(name).partition("## When something is wrong")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`+)(.+?)\1 \| [^|]+ \|$", section, re.MULTILINE)
    assert not [line for _, line in rows if not said_by_the_code(line)]


def test_a_line_that_the_code_cannot_say_is_found_out() -> None:
    assert said_by_the_code("port 8000 is in use by another program; try --port 41523")
    assert not said_by_the_code("port 8000 was taken by somebody")
    assert not said_by_the_code("port 8000 is in use by another program; choose another port")


def test_a_bench_keeps_what_it_measured_and_a_page_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    made = figures.Figures("start", "python3 -m tests.bench.start")
    made.add("ready", [2.0, 2.5, 3.25], "s", rival="by hand", theirs=[5.0], goal="at most 5")
    made.note("queries", "2")
    made.save()
    text = pages.rendered("# Page\n\n<!-- figures: start -->\nold\n<!-- end figures -->\nend\n")
    assert "| ready | 2.50 s (2 to 3.25) | by hand: 5 s | 0.5 | at most 5 |" in text
    assert "| queries | 2 |  |  |  |" in text
    assert "old" not in text
    assert text.endswith("<!-- end figures -->\nend\n")
    assert pages.rendered(text) == text


def test_each_table_of_figures_has_a_bench_that_writes_it() -> None:
    benches = "".join(path.read_text() for path in (ROOT / "tests" / "bench").glob("*.py"))
    named = {name for path in pages.pages() for name in re.findall(r"<!-- figures: (\w+) -->", path.read_text())}
    assert named
    assert not [name for name in named if name.rpartition("_")[0] not in benches and name not in benches]
