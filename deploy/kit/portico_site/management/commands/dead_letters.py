"""`manage.py dead_letters`: what the dead-letter queue has, and what becomes of it."""

from argparse import ArgumentParser
from typing import Any

from django.core.management import BaseCommand, CommandError


class Command(BaseCommand):
    """Shows, sends again or removes the tasks that were given up."""

    help = "Show the tasks that were given up; --again sends them to their queues, --remove throws them away."

    def add_arguments(self, parser: ArgumentParser) -> None:
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--again", action="store_true", help="send them to their queues again")
        what.add_argument("--remove", action="store_true", help="throw them away")

    def handle(self, *args: Any, **options: Any) -> None:
        """Raises `CommandError` if the broker refuses, or does not answer."""
        from portico_site import dead_letters
        from portico_site.celery import app

        done = "sent again" if options["again"] else "removed" if options["remove"] else "kept"
        count = 0
        try:
            with dead_letters.connect(app) as connection:
                channel = connection.channel()
                for message in dead_letters.each(app, connection):
                    headers = message.headers or {}
                    words = (headers.get("task"), headers.get("id"), headers.get(dead_letters.REASON))
                    self.stdout.write(" ".join(str(word).replace("\n", " ")[:200] for word in words))
                    if options["again"]:
                        dead_letters.again(channel, message)
                    elif options["remove"]:
                        message.ack()
                    count += 1
        except Exception as error:  # its text may contain a password, its type cannot
            raise CommandError(f"the broker: {type(error).__name__}; it may be away, or not allow it here") from None
        self.stdout.write(f"dead letters: {count} {done}")
