"""Events: who listens is told what has happened, and can harm nobody."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from typing import Any

import pytest

from durablejobs import Cancel, ConfigurationError, DurableJobs, Event, Fail, JobTimeout, Retry, Snooze
from durablejobs.line_limit import MOST_PER_SECOND

from .conftest import Sql


class Heard:
    """What the listeners of an app were told, in order."""

    def __init__(self, jobs: DurableJobs, *names: Any) -> None:
        self.events: list[Event] = []
        for name in names:
            jobs.on(name, self.events.append)

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]


ENDINGS = ("started", "succeeded", "failed", "retrying", "snoozed", "cancelled")


@pytest.mark.parametrize(
    ("raised", "name", "error"),
    [
        (None, "succeeded", None),
        (Fail("no use"), "failed", "no use"),
        (Retry("not yet", delay=60), "retrying", "not yet"),
        (ValueError("no"), "retrying", "ValueError: no"),
        (Snooze(60), "snoozed", None),
        (Cancel("not wanted"), "cancelled", "not wanted"),
    ],
)
def test_each_run_tells_that_it_started_and_what_it_came_to(
    jobs: DurableJobs, raised: Exception | None, name: str, error: str | None
) -> None:
    @jobs.handler(queue="mail")
    def mail() -> None:
        if raised is not None:
            raise raised

    heard = Heard(jobs, *ENDINGS)
    job = mail.enqueue()
    jobs.work(burst=True, concurrency=1)
    assert heard.names == ["started", name]
    for event in heard.events:
        assert (event.job_id, event.handler, event.queue, event.attempt) == (job.id, "mail", "mail", 1)
    assert heard.events[1].error == error
    assert heard.events[1].seconds is not None
    assert heard.events[1].at.tzinfo is not None


def test_an_enqueue_tells_of_its_job_after_the_commit(jobs: DurableJobs) -> None:
    seen: list[Any] = []
    jobs.on("enqueued", lambda event: seen.append((event.job_id, jobs.get(event.job_id).status)))
    jobs.enqueue("mail")
    assert seen == [(1, "pending")]


def test_many_at_once_tell_their_number(jobs: DurableJobs) -> None:
    heard = Heard(jobs, "enqueued")
    jobs.enqueue_many("mail", [[1], [2], [3]])
    jobs.enqueue_many("mail", [])
    assert [(event.job_id, event.count) for event in heard.events] == [(None, 3)]


def test_what_was_not_stored_tells_nothing(jobs: DurableJobs) -> None:
    jobs.using(unique_key="a").enqueue("mail")
    heard = Heard(jobs, "enqueued")
    jobs.using(unique_key="a").enqueue("mail")
    assert heard.events == []


def test_a_person_who_cancels_a_waiting_job_is_heard(jobs: DurableJobs) -> None:
    heard = Heard(jobs, "cancelled")
    jobs.cancel(jobs.enqueue("mail").id)
    assert [(event.job_id, event.handler) for event in heard.events] == [(1, "mail")]


def test_a_worker_tells_its_beginning_and_its_end(jobs: DurableJobs) -> None:
    heard = Heard(jobs, "worker_started", "worker_stopped", "started")

    @jobs.handler
    def mail() -> None: ...

    mail.enqueue()
    jobs.work(burst=True, concurrency=1, name="w1")
    assert heard.names == ["worker_started", "started", "worker_stopped"]
    assert [event.worker for event in heard.events] == ["w1", None, "w1"]


def test_a_job_whose_worker_has_vanished_is_told_as_rescued_and_then_as_what_it_came_to(
    jobs: DurableJobs, sql: Sql
) -> None:
    heard = Heard(jobs, "rescued", "started", "succeeded")

    @jobs.handler
    def mail() -> None: ...

    job = mail.enqueue()
    sql(
        "UPDATE jobs SET status = 'running', worker_id = 99, claim_token = 1, attempt = 1, "
        "started_at = '2020-01-01 00:00:00.000000', lease_expires_at = '2020-01-01 00:00:30.000000'"
    )
    jobs.work(burst=True, concurrency=1)
    assert heard.names == ["rescued", "started", "succeeded"]
    rescued = heard.events[0]
    assert (rescued.job_id, rescued.handler, rescued.queue, rescued.attempt) == (job.id, "mail", "default", 1)
    assert rescued.error == "its worker vanished while it ran this job (crash 1)"


def test_a_run_that_goes_on_after_its_timeout_is_told_as_stuck(jobs: DurableJobs) -> None:
    """The handler swallows what is to stop it, until it hears that this was noticed."""
    heard = Heard(jobs, "stuck")
    noticed = threading.Event()
    jobs.on("stuck", lambda _event: noticed.set())

    @jobs.handler(timeout=0.05, max_attempts=1)
    def deaf() -> None:
        until = time.monotonic() + 60
        while not noticed.is_set() and time.monotonic() < until:
            with contextlib.suppress(JobTimeout):
                noticed.wait(0.05)

    job = deaf.enqueue()
    jobs.work(burst=True, concurrency=1)
    [event] = heard.events
    assert (event.name, event.job_id, event.handler, event.attempt) == ("stuck", job.id, "deaf", 1)


def test_on_is_a_decorator_too_and_gives_the_function_back(jobs: DurableJobs) -> None:
    told: list[Event] = []

    @jobs.on("enqueued")
    def tell(event: Event) -> None:
        told.append(event)

    tell(Event("x", None))  # type: ignore[arg-type]
    jobs.enqueue("mail")
    assert [event.name for event in told] == ["x", "enqueued"]


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3)])
def test_a_listener_that_raises_harms_neither_job_nor_worker_nor_the_other_listeners(
    jobs: DurableJobs, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def raises(event: Event) -> None:
        raise error

    for name in ("enqueued", *ENDINGS, "worker_started", "worker_stopped"):
        jobs.on(name, raises)  # type: ignore[call-overload]
    heard = Heard(jobs, "enqueued", "succeeded")

    @jobs.handler
    def mail() -> None: ...

    mail.enqueue()
    assert jobs.work(burst=True, concurrency=1).succeeded == 1
    assert heard.names == ["enqueued", "succeeded"]
    lines = [record.getMessage() for record in caplog.records if record.name == "durablejobs.events"]
    assert len(lines) == 5
    assert lines[0].startswith("a listener to 'enqueued' raised ")


class Odd(BaseException):
    """What nobody expects."""


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit(), Odd("mine")])
@pytest.mark.parametrize("mode", ["thread", "async"])
def test_whatever_a_listener_raises_during_work_harms_neither_job_nor_worker(
    jobs: DurableJobs, error: BaseException, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    def raises(event: Event) -> None:
        raise error

    for name in ENDINGS:
        jobs.on(name, raises)  # type: ignore[call-overload]

    def mail() -> None: ...
    async def mail_async() -> None: ...

    handler = jobs.handler("mail")(mail if mode == "thread" else mail_async)  # type: ignore[type-var]
    handler.enqueue()
    assert jobs.work(burst=True, concurrency=1).succeeded == 1
    lines = [record.getMessage() for record in caplog.records if record.name == "durablejobs.events"]
    assert [line.split(" raised")[0] for line in lines] == [
        "a listener to 'started'",
        "a listener to 'succeeded'",
    ]


def test_ctrl_c_outside_of_a_worker_is_no_error_of_the_listener_that_it_comes_upon(jobs: DurableJobs) -> None:
    jobs.on("enqueued", lambda event: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        jobs.enqueue("mail")
    assert jobs.get(1).status == "pending"


def test_a_timeout_that_comes_upon_a_listener_stops_the_handler_that_enqueues(jobs: DurableJobs) -> None:
    jobs.on("enqueued", lambda event: time.sleep(0.01) if event.handler == "b" else None)

    @jobs.handler(timeout=0.1, max_attempts=1)
    def enqueues() -> None:
        for _ in range(1000):
            jobs.enqueue("b")

    jobs.handler("b")(lambda: None)
    job = enqueues.enqueue()
    jobs.work(concurrency=1, max_jobs=1)
    assert job.refresh().status == "failed"
    assert "timeout" in str(job.refresh().error)


def test_a_listener_that_always_raises_does_not_flood_the_log(
    jobs: DurableJobs, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "durablejobs.events")
    jobs.on("succeeded", lambda event: 1 / 0)

    @jobs.handler
    def mail() -> None: ...

    mail.enqueue_many([[]] * 500)
    jobs.work(burst=True, concurrency=1)
    assert MOST_PER_SECOND <= len(caplog.records) < 400


@pytest.mark.parametrize(
    ("name", "listener", "message"),
    [
        ("faild", print, "event: there is no 'faild'; did you mean 'failed'?"),
        ("x", print, "event: there is no 'x'; there are enqueued, started,"),
        ("failed", 7, "a listener is a plain function of the event, not 7"),
    ],
)
def test_nonsense_is_refused(jobs: DurableJobs, name: Any, listener: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message.replace("?", r"\?")):
        jobs.on(name, listener)


def test_an_async_listener_is_refused_it_would_never_run(jobs: DurableJobs) -> None:
    async def listener(event: Event) -> None: ...

    with pytest.raises(ConfigurationError, match="plain function"):
        jobs.on("failed", listener)


def test_endings_are_told_in_the_workers_own_thread(jobs: DurableJobs) -> None:
    threads: list[int] = []
    jobs.on("succeeded", lambda event: threads.append(threading.get_ident()))

    @jobs.handler
    def mail() -> int:
        return threading.get_ident()

    job = mail.enqueue()
    jobs.work(burst=True, concurrency=1)
    assert threads == [threading.get_ident()]
    assert job.wait() != threads[0]
