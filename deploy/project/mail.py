"""Mail: where a site's goes in development, and the settings that a project may have from its environment."""

from __future__ import annotations

from dataclasses import asdict

from deploy.project.config import Project
from deploy.project.detect import Said, detect
from deploy.project.source.modules import Module
from deploy.project.source.values import UNKNOWN, Value, text

_BACKENDS = "django.core.mail.backends."
SMTP, CONSOLE, FILES = (f"{_BACKENDS}{name}.EmailBackend" for name in ("smtp", "console", "filebased"))
#: Back ends that send nothing to anybody.
NOWHERE = (CONSOLE, FILES, f"{_BACKENDS}locmem.EmailBackend")
#: Where the machine itself is meant; in a container, no mail server is there.
HERE = ("", "localhost", "127.0.0.1", "::1")


def backend(settings: Module) -> Value:
    """The back end, as far as reading tells; Django's own where the settings say nothing."""
    found = settings.get("EMAIL_BACKEND")
    return found.value if found else SMTP


def host(settings: Module) -> Value:
    found = settings.get("EMAIL_HOST")
    return found.value if found else ""


def where(project: Project) -> str:
    """A line that says where mail goes in development; empty where only a run could tell."""
    detected = detect(project.root, Said(**asdict(project.declared)))
    settings = detected.module(detected.development)
    if settings is None or backend(settings) is UNKNOWN:
        return ""
    name, server = text(backend(settings)), text(host(settings))
    said = settings.get("EMAIL_BACKEND") is not None
    if name == CONSOLE or (not said and server in HERE and settings.get("EMAIL_PORT") is None):
        return "Mail is printed below, by the process that sends it."
    if name == FILES:
        folder = settings.get("EMAIL_FILE_PATH")
        return f"Mail is written to {text(folder.value) if folder else 'EMAIL_FILE_PATH'}."
    if name == SMTP:
        return f"Mail goes to {server or 'localhost'}, by SMTP."
    return f"Mail goes through {name}." if name else ""
