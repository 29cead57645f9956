"""Static files in development where DEBUG is off: Django's `runserver` serves them only where it is on."""

from collections.abc import Callable
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.staticfiles.views import serve
from django.http import Http404, HttpRequest, HttpResponseBase


class StaticMiddleware:
    """Serves what the finders find below STATIC_URL."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        self.prefix = urlsplit(settings.STATIC_URL).path

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path.startswith(self.prefix):
            try:
                return serve(request, request.path.removeprefix(self.prefix), insecure=True)
            except Http404:
                pass
        return self.get_response(request)
