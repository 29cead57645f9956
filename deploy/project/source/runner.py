"""How a project runs its own tests: pytest's configuration, in whichever file and folder it is, or Django's runner."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from configparser import Error as ConfigError

from deploy.project.source import packages
from deploy.project.source.tree import Location, Named, Tree, above


def _configurations(tree: Tree, site: str) -> Iterator[tuple[Location, Mapping[str, object]]]:
    """pytest's configuration, in each file that has one."""
    for folder in above(site):
        for name, section in (
            *(("pytest.ini", "pytest"), ("pyproject.toml", ""), ("setup.cfg", "tool:pytest"), ("tox.ini", "pytest")),
        ):
            path = name if folder == "." else f"{folder}/{name}"
            if path not in tree.files:
                continue
            if not section:
                found = packages.inner(packages.toml(tree, path), "tool", "pytest")
                values = packages.inner(found, "ini_options") or found  # pytest 9 reads the table itself
            else:
                parser = ConfigParser(interpolation=None)
                try:
                    parser.read_string(tree.text(path))
                except ConfigError:
                    continue
                values = dict(parser[section]) if parser.has_section(section) else {}
            if values:
                needle = "[tool.pytest" if not section else f"[{section}]"
                yield packages.where(tree, path, needle), values


def settings(tree: Tree, site: str) -> Named | None:
    """The settings that pytest is told to use."""
    for at, values in _configurations(tree, site):
        lowered = {key.lower(): value for key, value in values.items()}
        options = lowered.get("addopts", "")
        words = (
            options if isinstance(options, str) else " ".join(map(str, options if isinstance(options, list) else []))
        )
        found = re.search(r"--ds[= ](\S+)", words)
        name = found[1] if found else lowered.get("django_settings_module")
        if isinstance(name, str):
            return Named(name, packages.where(tree, at.path, name))
    return None


def runner(tree: Tree, site: str) -> Named | None:
    """pytest where it is configured, Django's own runner where there are tests without it."""
    for at, _ in _configurations(tree, site):
        return Named("pytest", at)
    for path in tree.python(site, tests=True):
        if path.rsplit("/", 1)[-1].startswith("test") and "TestCase" in tree.text(path):
            return Named("manage.py test", Location(path))
    return None
