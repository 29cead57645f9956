"""The site's addresses."""

from django.contrib import admin
from django.templatetags.static import static
from django.urls import include, path
from django.utils.functional import lazy
from django.views.generic import RedirectView

urlpatterns = [
    path("", include("polls.urls")),
    path("polls/", RedirectView.as_view(pattern_name="index")),  # the address in Django's tutorial
    path("stack/", include("stack.urls")),
    path("admin/", admin.site.urls),
    path("favicon.ico", RedirectView.as_view(url=lazy(static, str)("polls/icon.svg"))),  # the admin names none
]
