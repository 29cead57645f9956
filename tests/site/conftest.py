import pytest
from polls.models import Choice, Question


@pytest.fixture
def question(db: None) -> Question:
    question = Question.objects.create(text="Tabs or spaces?")
    for position, text in enumerate(("Tabs", "Spaces")):
        Choice.objects.create(question=question, text=text, position=position)
    return question
