"""The kinds of workers that a project declares: what each runs, and what is refused in one line."""

from __future__ import annotations

import pytest

from deploy.core.errors import Failure
from deploy.project import workers
from deploy.project.workers import Kind, parse


def test_the_default_kind_is_there_whether_it_is_written_or_not() -> None:
    assert parse({}) == workers.ONE
    assert [each.name for each in parse({"mail": {"queues": ["mail"]}})] == ["default", "mail"]
    kinds = parse({"mail": {"queues": "mail"}, "default": {"concurrency": 4}})
    assert kinds == (Kind(concurrency=4), Kind("mail", ("mail",)))


def test_each_kind_has_its_own_name_node_queues_and_options() -> None:
    said = {"queues": ["mail", "post"], "concurrency": "3", "celery": "-P threads --max-tasks-per-child 50 -Ofair"}
    _, mail = parse({"mail": said})
    assert (mail.service, mail.process) == ("celery_worker_mail", "worker_mail")
    assert mail.words() == (
        *("-n", "worker_mail@%h", "-c", "3", "-Q", "mail,post"),
        *("--pool=threads", "--max-tasks-per-child=50", "--optimization=fair", "--loglevel=info"),
    )
    assert Kind().words(process="worker2") == ("-n", "worker2@%h", "-c", "2", "--loglevel=info")
    assert parse({"default": {"celery": ["--loglevel=debug"]}})[0].words()[-2:] == ("2", "--loglevel=debug")


def test_a_worker_that_must_be_alone_runs_one_task_at_a_time_unless_it_says_otherwise() -> None:
    assert parse({"a": {"queues": ["a"], "alone": True}})[1].parallel(8) == 1
    assert parse({"a": {"queues": ["a"], "alone": True, "concurrency": 4}})[1].parallel(8) == 4


@pytest.mark.parametrize(
    ("name", "said", "words"),
    [
        ("Mail", {}, "project.workers.Mail: the name of a kind has small letters"),
        ("my-mail", {}, "project.workers.my-mail: the name of a kind has small letters"),
        ("mail", {}, r"mail.queues is missing: name the queues that this kind takes from, as in \[mail\]"),
        ("mail", "mail", "mail is 'mail', but must have keys of its own"),
        ("mail", {"queues": 3}, "mail.queues is 3, but must be a list"),
        ("mail", {"queues": ["a b"]}, "'a b' is not the name of a queue"),
        ("mail", {"queues": ["mail"], "concurency": 2}, "mail.concurency .* did you mean concurrency"),
        ("mail", {"queues": ["mail"], "concurrency": 0}, "mail.concurrency is 0, but must be a number from 1 to 1000"),
        ("mail", {"queues": ["mail"], "alone": "yes"}, "mail.alone is 'yes', but must be true or false"),
        ("default", {"celery": "--purge"}, "--purge is not an option of a kind; there are: --pool, "),
        ("default", {"celery": "-Q mail"}, "-Q is not an option of a kind; set queues"),
        ("default", {"celery": "-Qmail"}, "-Q=mail is not an option of a kind; set queues"),
        ("default", {"celery": "--pool=solo"}, "--pool=solo is not an option of a kind; set concurrency: 1, because"),
        ("default", {"celery": "--pool"}, "--pool is not an option of a kind; --pool takes prefork"),
        ("default", {"celery": "--max-tasks-per-child $(id)"}, "--max-tasks-per-child takes"),
        ("default", {"celery": "--task-events=1"}, "--task-events takes no value"),
        ("default", {"celery": "--pool 'threads"}, "No closing quotation; quote it as in a shell"),
        ("default", {"celery": {"--pool": "threads"}}, "must be options of `celery worker`"),
        ("default", {"celery": "--autoscale=4,1", "concurrency": 2}, "concurrency and --autoscale exclude each other"),
    ],
)
def test_what_cannot_be_is_one_line_that_names_the_key(name: str, said: object, words: str) -> None:
    with pytest.raises(Failure, match=words):
        parse({name: said})
