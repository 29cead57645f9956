"""Passwords, with a limit of wrong ones for each account and each device."""

from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.backends import ModelBackend
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from signin import devices, models


class LimitedBackend(ModelBackend):
    """Django's own backend, after a look at the attempts. Over the limit the answer is that to a wrong password."""

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> Any:
        if username is None or password is None:
            return super().authenticate(request, username, password, **kwargs)
        attempt = models.begin(devices.key(request, username))
        if attempt is None:
            raise PermissionDenied
        user = super().authenticate(request, username, password, **kwargs)
        if user is not None:
            attempt.delete()
        return user

    async def aauthenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> Any:
        return await sync_to_async(self.authenticate)(request, username, password, **kwargs)
