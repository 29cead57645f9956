from django.urls import path

from polls import views

urlpatterns = [
    path("", views.index, name="index"),
    path("<int:pk>/", views.detail, name="detail"),
    path("<int:pk>/results/", views.results, name="results"),
    path("recount/", views.start_recount, name="start-recount"),
    path("recount/<uuid:task_id>/", views.recount, name="recount"),
    path("recount/<uuid:task_id>/state", views.recount_state, name="recount-state"),
]
