"""Who is asking: a browser, by a signed cookie that lasts as long as the browser runs, or a signed-in user.

The cookie is not the session's: voting needs no row in the session table, and signing in does not give a second vote.
"""

from uuid import UUID, uuid4

from django.conf import settings
from django.http import HttpRequest, HttpResponse

COOKIE = "visitor"
SALT = "polls.visitors"


def known(request: HttpRequest) -> UUID | None:
    """The browser's mark, if it has one that we signed."""
    value = request.get_signed_cookie(COOKIE, default=None, salt=SALT)
    return UUID(value) if value else None


def mark(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Give a browser that has no mark one with this response."""
    if known(request) is None:
        remember(response, uuid4())
    return response


def remember(response: HttpResponse, visitor: UUID) -> None:
    """Put the mark into a response."""
    response.set_signed_cookie(
        COOKIE, str(visitor), salt=SALT, httponly=True, samesite="Lax", secure=settings.SESSION_COOKIE_SECURE
    )


def owner(request: HttpRequest) -> str:
    """Under what name exports belong to whoever asks; empty for a browser without a mark."""
    if request.user.is_authenticated:
        return f"user:{request.user.pk}"
    visitor = known(request)
    return f"visitor:{visitor}" if visitor else ""
