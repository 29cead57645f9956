"""The demonstration in `site/`, as tests need it: its variables under the kit, and an edit of it."""

from pathlib import Path

#: What every runtime puts on PYTHONPATH of a site; and the variables that say what the demonstration is.
KIT = Path(__file__).resolve().parent.parent / "deploy" / "kit"
SITE = {
    "DJANGO_SETTINGS_MODULE": "portico_site.settings",
    "PORTICO_MODE": "development",
    "PORTICO_SETTINGS": "mysite.settings.development",
    "PORTICO_WSGI": "mysite.wsgi:application",
    "PORTICO_CELERY": "mysite.celery_app:app",
    "PYTHONPATH": str(KIT),
}
#: All that production needs.
GOOD = {
    **SITE,
    "PORTICO_MODE": "production",
    "PORTICO_SETTINGS": "mysite.settings.production",
    "SECRET_KEY": "k7!Pq2zV" * 8,
    "ALLOWED_HOSTS": "polls.example.org",
    "DATABASE_URL": "postgres://portico@127.0.0.1/portico",
    "CELERY_BROKER_URL": "amqp://127.0.0.1",
}
#: Python that asks for an export and sends it at once, as a command ends before an outbox is emptied; it prints the id.
ASK_FOR_EXPORT = "from polls.services import *; pk = ask_for_export('tests').pk; send_export(pk); print(pk)"
#: An edit of `urls.py` that adds an address, /edited.
EDITED = (
    "urlpatterns = [",
    """from django.http import HttpResponse\n\nurlpatterns = [
    path("edited", lambda request: HttpResponse("edited\\n")),""",
)
