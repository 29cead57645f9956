"""The page, and the part of it that changes, which its script asks for."""

import os
import socket
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from stack import servers


def _seen() -> dict[str, Any]:
    database, broker = servers.database.latest(), servers.broker.latest()
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "release": settings.RELEASE,
        "at": timezone.now(),
        "database": database,
        "broker": broker,
    }


@require_safe
@never_cache
def page(request: HttpRequest) -> HttpResponse:
    """What runs now. It shows no account and no session, so it is there while the database is away."""
    return render(request, "stack/page.html", _seen())


@require_safe
@never_cache
def now(request: HttpRequest) -> HttpResponse:
    """The part that changes."""
    return render(request, "stack/now.html", _seen())
