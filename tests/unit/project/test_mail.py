"""Where mail goes in development, as `dev` says it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.project import mail
from deploy.project.names import Names
from tests.unit.examples import PROJECT


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("", "Mail is printed below, by the process that sends it."),
        ("EMAIL_HOST = 'localhost'", "Mail is printed below, by the process that sends it."),
        ("EMAIL_BACKEND = 'django.core.mail.backends.console.EmailBackend'", "Mail is printed below, by the process"),
        ("EMAIL_PORT = 1025", "Mail goes to localhost, by SMTP."),
        ("EMAIL_HOST = 'mail.example.org'", "Mail goes to mail.example.org, by SMTP."),
        (
            "EMAIL_BACKEND = 'django.core.mail.backends.filebased.EmailBackend'\nEMAIL_FILE_PATH = '/tmp/mail'",
            "Mail is written to /tmp/mail.",
        ),
        ("EMAIL_BACKEND = 'anymail.backends.mailgun.EmailBackend'", "Mail goes through anymail.backends.mailgun."),
        ("EMAIL_BACKEND = find()", ""),
    ],
)
def test_where_mail_goes(tmp_path: Path, setting: str, line: str) -> None:
    (tmp_path / "shop").mkdir()
    text = "import django\nimport os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n"
    (tmp_path / "manage.py").write_text(text)
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "settings.py").write_text(f"INSTALLED_APPS = []\nROOT_URLCONF = 'x'\n{setting}\n")
    said = mail.where(replace(PROJECT, root=tmp_path, declared=Names()))
    assert said.startswith(line)
    assert bool(said) is bool(line)
