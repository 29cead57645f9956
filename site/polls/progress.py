"""How far a background task is, in terms of the page that follows it."""

from dataclasses import asdict, dataclass

from celery import current_app, states


@dataclass(frozen=True)
class Progress:
    """The state of a task: `waiting`, `running`, `done` or `failed`; how much of how much; a sentence."""

    state: str
    done: int
    total: int
    text: str

    @property
    def finished(self) -> bool:
        return self.state in ("done", "failed")

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def of_task(task_id: str) -> Progress:
    """The progress of a task that is known to have been handed over. Never raises for how the task went."""
    # One read for both: the state and the value of `AsyncResult` are two, between which the task may end.
    meta = current_app.backend.get_task_meta(task_id)
    state, info = meta["status"], meta["result"]
    if state == states.SUCCESS:
        return Progress("done", 1, 1, "All votes are counted.")
    if state in states.PROPAGATE_STATES:
        return Progress("failed", 0, 1, "The count failed. It changed nothing; you can start it again.")
    if state == "PROGRESS" and isinstance(info, dict):
        done, total = int(info.get("done", 0)), max(int(info.get("total", 1)), 1)
        return Progress("running", done, total, f"{done} of {total} polls are counted.")
    if state == states.STARTED:
        return Progress("running", 0, 1, "A worker has begun.")
    return Progress("waiting", 0, 1, "Waiting for a worker.")
