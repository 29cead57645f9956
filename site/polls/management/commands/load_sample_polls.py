"""Sample polls for an empty database."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from polls import services
from polls.models import Question

SAMPLES: dict[str, tuple[str, ...]] = {
    "How do you deploy on a Friday?": ("With tests and a smile", "With a rollback ready", "I do not"),
    "Tabs or spaces?": ("Spaces", "Tabs", "Whatever the formatter says"),
    "Which database would you take to a desert island?": ("PostgreSQL", "SQLite", "A notebook and a pencil"),
    "What woke you up at two in the morning?": (
        "A full disk",
        "A certificate",
        "A cat",
        "Nothing: it rolled back",
    ),
    "Where does the time go?": ("Meetings", "Waiting for the build", "Naming things"),
    "How many workers are enough?": ("One", "One more than now", "As many as there are cores"),
}


class Command(BaseCommand):
    help = "Loads a few sample polls, unless there are polls already."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--again", action="store_true", help="load them even if there are polls already")

    @transaction.atomic
    def handle(self, *args: Any, again: bool = False, **options: Any) -> None:
        if Question.objects.exists() and not again:
            self.stdout.write("There are polls already; nothing loaded.")
            return
        for text, choices in SAMPLES.items():
            services.create_poll(text, choices)
        self.stdout.write(f"Loaded {len(SAMPLES)} sample polls.")
