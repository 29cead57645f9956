"""The attempts that count against a limit."""

from datetime import timedelta

from django.conf import settings
from django.db import models
from django.utils import timezone

#: For how long a wrong password counts.
WINDOW = timedelta(hours=1)


class Attempt(models.Model):
    """A sign-in that failed, or that is under way."""

    #: A hash: of the account's name, which may be a password typed in the wrong field, or of a device.
    key = models.CharField(max_length=64)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [models.Index(fields=["key", "at"], name="signin_attempt_key_at")]

    def __str__(self) -> str:
        return f"{self.key[:8]} at {self.at}"


def begin(key: str) -> Attempt | None:
    """Count an attempt; None if the limit is reached, before a password is compared: that takes half a second.

    The attempt counts before its end is known, so many at the same time are no way around the limit.
    """
    since = timezone.now() - WINDOW
    attempt = Attempt.objects.create(key=key)
    if attempt.pk % 100 == 0:
        Attempt.objects.filter(at__lte=since).delete()
    if Attempt.objects.filter(key=key, at__gt=since).count() <= settings.SIGN_IN_FAILURES:
        return attempt
    attempt.delete()
    return None
