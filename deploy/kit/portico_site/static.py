"""Files in development that Django does not serve by itself: static ones without DEBUG, uploads without a URL."""

from collections.abc import Callable
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.staticfiles.views import serve
from django.http import Http404, HttpRequest, HttpResponseBase
from django.views.static import serve as serve_file


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


class UploadsMiddleware:
    """Serves what is below MEDIA_ROOT where the project's own URLs do not: in production, nginx does."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        self.prefix = urlsplit(settings.MEDIA_URL).path

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if response.status_code == 404 and self.prefix.strip("/") and request.path.startswith(self.prefix):
            try:
                return serve_file(request, request.path.removeprefix(self.prefix), document_root=settings.MEDIA_ROOT)
            except Http404:
                pass
        return response
