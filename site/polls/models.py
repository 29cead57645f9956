"""Questions, their choices, and who voted for what."""

from django.db import models
from django.db.models import Count
from django.utils import timezone


class Question(models.Model):
    """A question that is open for votes from its publication on."""

    text = models.CharField(max_length=200)
    published_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        ordering = ("-published_at", "-pk")

    def __str__(self) -> str:
        return self.text

    def tally(self) -> "list[tuple[Choice, int]]":
        """Its choices in order, each with its number of votes, in one query."""
        return [(choice, choice.votes) for choice in self.choices.annotate(votes=Count("vote"))]


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
    """One browser session's answer to one question."""

    question = models.ForeignKey(Question, on_delete=models.CASCADE, related_name="votes")
    choice = models.ForeignKey(Choice, on_delete=models.CASCADE)
    session_key = models.CharField(max_length=40)
    cast_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("question", "session_key"), name="one_vote_per_question_and_session"),
        )

    def __str__(self) -> str:
        return f"{self.choice} ({self.cast_at:%Y-%m-%d %H:%M})"


class Summary(models.Model):
    """How much there is in all, as last counted. There is one row."""

    questions = models.PositiveIntegerField()
    votes = models.PositiveIntegerField()
    counted_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "summaries"

    def __str__(self) -> str:
        return f"{self.votes} votes on {self.questions} polls"
