from django.urls import path

from stack import views

urlpatterns = [
    path("", views.page, name="stack"),
    path("now", views.now, name="stack-now"),
]
