from typing import Any

from django import forms
from django.http import QueryDict

from polls.models import Choice, Question


class VoteForm(forms.Form):
    """One of the choices of one question."""

    choice = forms.ModelChoiceField(
        queryset=Choice.objects.none(),
        widget=forms.RadioSelect,
        empty_label=None,
        error_messages={"required": "Choose one of the answers.", "invalid_choice": "That is no answer to this poll."},
    )

    def __init__(self, question: Question, data: QueryDict | dict[str, Any] | None = None) -> None:
        super().__init__(data)
        field = self.fields["choice"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = question.choices.all()
        field.label = "Your answer"
