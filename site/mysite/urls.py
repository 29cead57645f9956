"""The site's addresses."""

from django.contrib import admin
from django.urls import include, path

from mysite import health

urlpatterns = [
    path("", include("polls.urls")),
    path("admin/", admin.site.urls),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
]
