"""Devices on which somebody has signed in before, by a cookie (OWASP: device cookies).

Who tries an account's passwords from a thousand addresses uses up the account's attempts, not those of its owner's own
device. A stolen cookie has the few attempts of that one device.
"""

import hashlib
import secrets
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth.signals import user_logged_in
from django.core import signing
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse

SALT = "signin.device"
SECONDS = 365 * 24 * 60 * 60


def cookie() -> str:
    """The cookie's name: under HTTPS, one that no other host can set."""
    return "__Host-device" if settings.SESSION_COOKIE_SECURE else "device"


def account(name: str) -> str:
    """What the account of a name is counted by."""
    return hashlib.sha256(f"account {name.strip().casefold()}".encode()).hexdigest()


def key(request: HttpRequest | None, name: str) -> str:
    """What an attempt is counted by: the device, if the account has signed in on it before, else the account."""
    try:
        known = signing.loads(request.COOKIES.get(cookie(), "") if request else "", salt=SALT, max_age=SECONDS)
        if known["account"] == account(name):
            return hashlib.sha256(f"device {known['device']}".encode()).hexdigest()
    except (signing.BadSignature, KeyError, TypeError):
        pass
    return account(name)


@receiver(user_logged_in)
def note(request: HttpRequest, user: Any, **_: object) -> None:
    """Have the answer to this request mark the device."""
    if request is not None:
        request.signed_in_as = user.get_username()  # type: ignore[attr-defined]


class DeviceMiddleware:
    """Sets the cookie when somebody has signed in."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if name := getattr(request, "signed_in_as", ""):
            value = signing.dumps({"account": account(name), "device": secrets.token_hex(16)}, salt=SALT)
            secure = settings.SESSION_COOKIE_SECURE
            response.set_cookie(cookie(), value, max_age=SECONDS, httponly=True, samesite="Lax", secure=secure)
        return response
