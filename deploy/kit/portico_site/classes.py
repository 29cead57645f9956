"""Settings that are classes, as django-configurations has them: PORTICO_SETTINGS is then `module:Class`.

That package makes a module's settings of a class while the module is imported, for the module that
DJANGO_SETTINGS_MODULE names. Here that is `portico_site.settings`, so it is told the project's own for that moment.
"""

from collections.abc import MutableMapping
from importlib import import_module
from types import ModuleType
from typing import Any

MODULE, CLASS = "DJANGO_SETTINGS_MODULE", "DJANGO_CONFIGURATION"


def load(name: str, environ: MutableMapping[str, str], namespace: MutableMapping[str, Any]) -> ModuleType:
    """The project's settings module; ``namespace`` is that of our own, which the package may look for a class in."""
    module, _, chosen = name.partition(":")
    if not chosen:
        return import_module(module)
    # manage.py may have made the package import our own module in its way already: it finds a class without settings.
    namespace[environ.get(CLASS, chosen)] = _Nothing
    ours, environ[MODULE], environ[CLASS] = environ.get(MODULE, ""), module, chosen
    try:
        importer: Any = import_module("configurations.importer")  # of the project's own environment
        importer.install()
        return import_module(module)
    finally:
        environ[MODULE] = ours
        namespace[chosen] = _Nothing


class _Nothing:
    """A class that adds no setting."""

    @classmethod
    def pre_setup(cls) -> None:
        """Nothing to do, as for the other two."""

    setup = post_setup = pre_setup
