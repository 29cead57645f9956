from django.urls import path

from polls import views

urlpatterns = [
    path("", views.index, name="index"),
    path("new/", views.create, name="create"),
    path("<int:pk>/", views.detail, name="detail"),
    path("<int:pk>/results/", views.results, name="results"),
    path("<int:pk>/results/state", views.results_state, name="results-state"),
    path("exports/", views.exports, name="exports"),
    path("exports/check/<str:pk>", views.check, name="check"),
    path("exports/<uuid:pk>/", views.export, name="export"),
    path("exports/<uuid:pk>/download", views.download, name="download"),
]
