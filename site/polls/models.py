"""Questions, their choices, votes, and exports of all votes."""

import uuid
from pathlib import Path

from django.conf import settings
from django.db import models
from django.db.models import Count, Q
from django.utils import timezone


class Question(models.Model):
    """A question that accepts votes from its publication on."""

    text = models.CharField(max_length=200)
    published_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        ordering = ("-published_at", "-pk")

    def __str__(self) -> str:
        return self.text

    def tally(self) -> "list[tuple[Choice, int]]":
        """The choices in order, each with its number of votes, in one query that the index of choices answers."""
        # A grouped query ignores the model's own ordering. Counting the indexed column reads no row of a vote.
        choices = self.choices.annotate(votes=Count("vote__choice")).order_by("position", "pk")
        return [(choice, choice.votes) for choice in choices]


class Choice(models.Model):
    """One of the answers."""

    question = models.ForeignKey(Question, on_delete=models.CASCADE, related_name="choices")
    text = models.CharField(max_length=200)
    position = models.PositiveSmallIntegerField(default=0)

    class Meta:
        ordering = ("position", "pk")

    def __str__(self) -> str:
        return self.text


class Vote(models.Model):
    """One browser's answer to one question; see `visitors`."""

    question = models.ForeignKey(Question, on_delete=models.CASCADE, related_name="votes")
    choice = models.ForeignKey(Choice, on_delete=models.CASCADE)
    visitor = models.UUIDField()
    cast_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("question", "visitor"), name="one_vote_for_each_visitor"),)

    def __str__(self) -> str:
        return f"{self.choice} ({self.cast_at:%Y-%m-%d %H:%M})"


class Export(models.Model):
    """A CSV file of all votes, requested by its owner and written by a worker. Its id is also the task's."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting for a worker"
        RUNNING = "running", "Being written"
        DONE = "done", "Ready"
        FAILED = "failed", "Failed"
        EXPIRED = "expired", "Expired"

    OPEN = (State.WAITING, State.RUNNING)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    #: `user:ID` or `visitor:UUID`; see `visitors`.
    owner = models.CharField(max_length=64, db_index=True)
    #: Which of the owner's slots it takes while it is open: a constraint on this enforces the limit.
    slot = models.PositiveSmallIntegerField()
    state = models.CharField(max_length=8, choices=State, default=State.WAITING)
    rows_done = models.PositiveBigIntegerField(default=0)
    rows_total = models.PositiveBigIntegerField(default=0)
    size = models.PositiveBigIntegerField(default=0, help_text="bytes")
    reason = models.CharField(max_length=200, blank=True, help_text="why it failed, for its owner to read")
    created_at = models.DateTimeField(default=timezone.now)
    touched_at = models.DateTimeField(default=timezone.now, help_text="the last sign of life of its task")
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-created_at",)
        constraints = (
            models.UniqueConstraint(
                fields=("owner", "slot"),
                condition=Q(state__in=("waiting", "running")),
                name="one_open_export_in_a_slot",
            ),
        )
        indexes = (models.Index(fields=("state", "expires_at")),)

    def __str__(self) -> str:
        return f"{self.name} ({self.get_state_display()})"

    @property
    def path(self) -> Path:
        """The finished file, outside of every folder that is served."""
        return Path(str(settings.PROTECTED_ROOT)) / f"{self.pk}.csv"

    @property
    def name(self) -> str:
        """The file's name in the owner's download."""
        return f"Votes \u2013 all polls, {self.created_at:%Y-%m-%d %H.%M}.csv"

    @property
    def current_state(self) -> str:
        """The state; an export past its time counts as expired even before the clean-up."""
        over = self.state == self.State.DONE and self.expires_at is not None and self.expires_at <= timezone.now()
        return self.State.EXPIRED if over else self.state

    @property
    def open(self) -> bool:
        return self.state in self.OPEN

    @property
    def sentence(self) -> str:
        """The state as a sentence."""
        match self.current_state:
            case self.State.WAITING:
                return "Waiting for a worker."
            case self.State.RUNNING:
                return f"{self.rows_done:,} of {self.rows_total:,} votes are written."
            case self.State.DONE:
                return f"Ready: {self.rows_done:,} votes."
            case self.State.FAILED:
                return f"The export failed: {self.reason or 'the reason is unknown.'} You can start another."
            case _:
                return "This export has expired, and its file was removed. You can start another."
