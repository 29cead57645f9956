"""The periodic task, stored where the admin can change it; a later release does not change it back."""

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

NAME = "Tend exports"


def add(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
    crontab = apps.get_model("django_celery_beat", "CrontabSchedule")
    task = apps.get_model("django_celery_beat", "PeriodicTask")
    # "5" would be once an hour, five minutes past; "*/5" is every five minutes.
    every_five_minutes, _ = crontab.objects.get_or_create(
        minute="*/5", hour="*", day_of_month="*", month_of_year="*", day_of_week="*", timezone="UTC"
    )
    task.objects.get_or_create(name=NAME, defaults={"task": "polls.tasks.tend_exports", "crontab": every_five_minutes})


def remove(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
    apps.get_model("django_celery_beat", "PeriodicTask").objects.filter(name=NAME).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("polls", "0001_initial"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]
    operations = [migrations.RunPython(add, remove)]
