"""What workers do."""

import time

from celery import Task, shared_task
from django.conf import settings

from polls import services


@shared_task(bind=True)
def recount(self: "Task[[], dict[str, int]]") -> dict[str, int]:
    """Count all votes anew, reporting how far it is."""

    def report(done: int, total: int) -> None:
        self.update_state(state="PROGRESS", meta={"done": done, "total": total})
        time.sleep(settings.POLLS_RECOUNT_PAUSE)

    summary = services.count_all(report)
    return {"questions": summary.questions, "votes": summary.votes}


@shared_task
def refresh_summary() -> None:
    """Keep the sums at the foot of each page fresh; beat calls it every five minutes."""
    services.count_all()
