"""Identify visitors: a browser by a signed cookie, which lasts until the browser closes, or a signed-in user.

It is not the session cookie: voting needs no row in the session table, and signing in does not give a second vote.
"""

from uuid import UUID, uuid4

from django.conf import settings
from django.http import HttpRequest, HttpResponse

COOKIE = "visitor"
SALT = "polls.visitors"


def known(request: HttpRequest) -> UUID | None:
    """The visitor's id from the browser's cookie, if our signature is valid."""
    value = request.get_signed_cookie(COOKIE, default=None, salt=SALT)
    return UUID(value) if value else None


def mark(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Set the cookie in this response if the browser has none."""
    if known(request) is None:
        remember(response, uuid4())
    return response


def remember(response: HttpResponse, visitor: UUID) -> None:
    """Set the cookie in a response."""
    response.set_signed_cookie(
        COOKIE, str(visitor), salt=SALT, httponly=True, samesite="Lax", secure=settings.SESSION_COOKIE_SECURE
    )


def owner(request: HttpRequest) -> str:
    """The owner of exports from this request; empty for a browser without the cookie."""
    if request.user.is_authenticated:
        return f"user:{request.user.pk}"
    visitor = known(request)
    return f"visitor:{visitor}" if visitor else ""
