"""One id connects a response with the log lines of its request and of the tasks it has sent."""

import io
import json
import logging.config
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings as django_settings
from django.test import Client
from django.urls import reverse
from mysite.celery_app import app

Lines = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def json_log() -> Iterator[Lines]:
    """The site's log from here on, in production's format."""
    stream = io.StringIO()
    handler = {**django_settings.LOGGING["handlers"]["stderr"], "formatter": "json", "stream": stream}
    logging.config.dictConfig({**django_settings.LOGGING, "handlers": {"stderr": handler}})
    yield lambda name: [line for line in map(json.loads, stream.getvalue().splitlines()) if line["logger"] == name]
    logging.config.dictConfig(django_settings.LOGGING)


def test_a_response_and_its_log_lines_have_the_id_that_the_proxy_gave(
    client: Client, db: None, json_log: Lines
) -> None:
    given = uuid4().hex
    response = client.get("/nothing", headers={"X-Request-ID": given})
    assert response["X-Request-ID"] == given
    lines = json_log("django.request")
    assert [line["request_id"] for line in lines] == [given]
    assert lines[0]["level"] == "WARNING"
    assert "timestamp" in lines[0]


@pytest.mark.parametrize("forged", ["x", "a\tb", "1" * 5000, '{"level": "ERROR"}'])
def test_what_is_no_id_is_replaced(client: Client, db: None, forged: str) -> None:
    response = client.get("/nothing", headers={"X-Request-ID": forged})
    assert response["X-Request-ID"] != forged
    assert len(response["X-Request-ID"]) == 32


@pytest.mark.django_db(transaction=True)
def test_the_message_of_a_task_has_the_id_of_its_request(client: Client) -> None:
    given = uuid4().hex
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue("celery")
        queue.clear()
        client.get(reverse("exports"))
        client.post(reverse("exports"), headers={"X-Request-ID": given})
        message = queue.get(timeout=5)
        message.ack()
    assert message.headers["X-Request-ID"] == given
