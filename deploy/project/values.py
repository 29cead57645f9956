"""What a site can do with a value: the same checks for `.env`, environment files, and secrets wherever they come from.

Each function says what is wrong, without the value, which may be secret; empty for a value that is right.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

#: The schemes of a service's URL.
SCHEMES = {
    "database": ("postgres", "postgresql"),
    "broker": ("amqp", "amqps", "redis", "rediss"),
    "redis": ("redis", "rediss"),
}
#: The variables from which the site reads the URLs of its services.
SERVICE_VARIABLES = {"database": "DATABASE_URL", "broker": "CELERY_BROKER_URL", "redis": "REDIS_URL"}
#: Characters; the site's production settings refuse a shorter SECRET_KEY.
SECRET_KEY_LENGTH = 50
#: How to make a SECRET_KEY.
MAKE_KEY = "make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(50))'"


def url_problem(url: str, schemes: tuple[str, ...]) -> str:
    """What is wrong with a service's URL."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in schemes and parts.hostname and parts.port != 0 and not re.search(r"\s", url)
    except ValueError:
        fits = False
    return "" if fits and url.isprintable() else f"is not a URL such as {schemes[0]}://user@host:port/name"


def key_problem(value: str) -> str:
    """What is wrong with a SECRET_KEY."""
    if len(value) < SECRET_KEY_LENGTH or value.startswith(("insecure-", "django-insecure-")):
        return f"is too short or a default; {MAKE_KEY}"
    if value.startswith("$"):  # as one in fifty of Django's own generator does
        return f"begins with $, which django-environ takes as the name of another variable; {MAKE_KEY}"
    return "" if value.isprintable() else f"contains a line break or another control character; {MAKE_KEY}"


def problem(name: str, value: str) -> str:
    """What is wrong with the value of one of the variables that every site has."""
    if not value.strip():
        return "is empty; give it a value"
    if name == "SECRET_KEY":
        return key_problem(value)
    kind = next((kind for kind, variable in SERVICE_VARIABLES.items() if name == variable), "")
    return url_problem(value, SCHEMES[kind]) if kind else ""
