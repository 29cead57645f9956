from typing import Any

from django import forms
from django.http import QueryDict

from polls.models import Choice, Question

FEWEST, MOST = 2, 20


class VoteForm(forms.Form):
    """One of the choices of one question."""

    choice = forms.ModelChoiceField(
        queryset=Choice.objects.none(),
        widget=forms.RadioSelect,
        empty_label=None,
        error_messages={
            "required": "Choose one of the answers.",
            "invalid_choice": "This is not an answer to this poll.",
        },
    )

    def __init__(self, question: Question, data: QueryDict | dict[str, Any] | None = None) -> None:
        super().__init__(data)
        field = self.fields["choice"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = question.choices.all()
        field.label = "Your answer"


class PollForm(forms.Form):
    """A new poll: a question and its answers, one a line."""

    text = forms.CharField(label="Question", max_length=200, widget=forms.TextInput(attrs={"dir": "auto"}))
    choices = forms.CharField(
        label="Answers, one a line",
        max_length=5000,
        widget=forms.Textarea(attrs={"rows": 6, "autocomplete": "off", "dir": "auto"}),
    )

    def clean_choices(self) -> list[str]:
        lines = [line.strip() for line in self.cleaned_data["choices"].splitlines()]
        choices = list(dict.fromkeys(line for line in lines if line))
        if not FEWEST <= len(choices) <= MOST:
            raise forms.ValidationError(f"Enter {FEWEST} to {MOST} different answers.")
        if any(len(choice) > 200 for choice in choices):
            raise forms.ValidationError("An answer must have at most 200 characters.")
        return choices
