"""The journal: what running jobs say is written seldom, bounded, and guarded by their claims."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from durablejobs import Clock, DurableJobs, Fail, LogLine, current_job
from durablejobs.clock import SystemClock
from durablejobs.jobs import Notes
from durablejobs.journal import (
    FIRST_LINES,
    LAST_LINES,
    LONGEST_LINE,
    LONGEST_MESSAGE,
    ChildJournal,
    Journal,
    progress_text,
)
from durablejobs.kept_log import kept_log
from durablejobs.outcomes import Succeeded
from durablejobs.store import Store
from durablejobs.store.doors.claims import Claims
from durablejobs.store.effects import JobTransaction

from .conftest import Claim, Enqueue, Settle, Sql
from .test_executor import claimed
from .worker.harness import PATIENCE, wait_until

JOB = claimed()


class Book:
    """A journal, and what it has written."""

    def __init__(self, clock: Clock) -> None:
        self.written: list[Notes] = []
        self.writes = 0
        self.error: Exception | None = None
        self.journal = Journal(self._write, clock)

    def _write(self, notes: Sequence[Notes]) -> None:
        if self.error is not None:
            raise self.error
        self.writes += 1
        self.written += notes

    @property
    def messages(self) -> list[str]:
        return [line.message for notes in self.written for line in notes.lines]


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> Book:
    """A journal without its thread: it is written when the test says so."""
    book = Book(SystemClock())
    monkeypatch.setattr(book.journal, "_thread", threading.current_thread())
    return book


# Bounds


def test_only_the_newest_progress_is_written(book: Book) -> None:
    for done in range(1, 1001):
        book.journal.progress(JOB, done, 1000, "counting")
    book.journal.flush()
    assert [notes.progress for notes in book.written] == ['{"done": 1000, "total": 1000, "message": "counting"}']


def test_a_million_words_are_a_few_writes(jobs: DurableJobs, sql: Sql) -> None:
    seen: list[Any] = []
    write = Claims.write_notes

    def counted(claims: Claims, notes: Sequence[Notes]) -> None:
        seen.append(notes)
        write(claims, notes)

    @jobs.handler
    def count(to: int) -> None:
        for done in range(to + 1):
            current_job().progress(done, to)

    job = count.enqueue(1_000_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Claims, "write_notes", counted)
        since = time.monotonic()
        jobs.work(burst=True, concurrency=1)
        seconds = time.monotonic() - since
    assert 1 <= len(seen) <= 4 * seconds + 2
    assert job.refresh().progress == {"done": 1_000_000, "total": 1_000_000, "message": ""}


@pytest.mark.parametrize(
    ("done", "total", "message", "text"),
    [
        (3, 10, "resizing", '{"done": 3, "total": 10, "message": "resizing"}'),
        (0.5, 1, "", '{"done": 0.5, "total": 1, "message": ""}'),
        (3, None, None, '{"done": 3, "total": null, "message": ""}'),
        (3, 0, "", '{"done": 3, "total": null, "message": ""}'),
        (3, -1, "", '{"done": 3, "total": null, "message": ""}'),
        (12, 10, "", '{"done": 12, "total": 10, "message": ""}'),
        (-2, 10, "", '{"done": -2, "total": 10, "message": ""}'),
        (float("nan"), float("inf"), "", '{"done": null, "total": null, "message": ""}'),
        (10**400, 10**300, "", '{"done": null, "total": 1e+300, "message": ""}'),
        ("3", "x", 7, '{"done": 3, "total": null, "message": "7"}'),
        (None, [], "grün", '{"done": null, "total": null, "message": "grün"}'),
        (1, 2, "\udc80\0", '{"done": 1, "total": 2, "message": "\\\\udc80\\\\x00"}'),
    ],
)
def test_progress_that_makes_no_sense_is_left_out_and_never_raises(
    done: Any, total: Any, message: Any, text: str
) -> None:
    assert progress_text(done, total, message) == text


def test_a_message_of_a_megabyte_is_cut() -> None:
    text = progress_text(1, 2, "x" * 1_000_000)
    assert len(text) < LONGEST_MESSAGE + 150
    assert "999,800 characters left out" in text


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_a_message_that_cannot_be_read_harms_nothing(book: Book) -> None:
    book.journal.progress(JOB, Unspeakable(), 1, Unspeakable())
    book.journal.log(JOB, "info", Unspeakable())
    book.journal.flush()
    assert book.messages == ["(its __str__ raised)"]


def test_a_long_line_is_cut(book: Book) -> None:
    book.journal.log(JOB, "info", "x" * 10_000_000)
    book.journal.flush()
    assert len(book.messages[0]) < LONGEST_LINE + 100
    assert "9,996,000 characters left out" in book.messages[0]


def test_of_a_flood_the_first_and_the_last_lines_are_kept_and_the_rest_is_counted(book: Book) -> None:
    for number in range(100_000):
        book.journal.log(JOB, "info", f"line {number}")
    book.journal.flush()
    assert book.messages == [f"line {number}" for number in range(FIRST_LINES)]
    book.written += book.journal.take([JOB])
    left_out = 100_000 - FIRST_LINES - LAST_LINES
    assert book.messages[FIRST_LINES:] == [
        f"… {left_out:,} lines are left out here …",
        *(f"line {number}" for number in range(100_000 - LAST_LINES, 100_000)),
    ]


def test_lines_that_just_fit_are_all_kept(book: Book) -> None:
    for number in range(FIRST_LINES + LAST_LINES):
        book.journal.log(JOB, "info", str(number))
    book.written += book.journal.take([JOB])
    assert book.messages == [str(number) for number in range(FIRST_LINES + LAST_LINES)]


# Writing


def test_nothing_is_written_twice(book: Book) -> None:
    book.journal.progress(JOB, 1, 2, "")
    book.journal.log(JOB, "info", "one")
    book.journal.flush()
    book.journal.flush()
    assert book.writes == 1
    assert book.journal.take([JOB]) == []


def test_what_comes_while_it_is_written_is_written_next(book: Book) -> None:
    write = book.journal._write

    def write_slowly(notes: Sequence[Notes]) -> None:
        book.journal.progress(JOB, 2, 2, "")
        book.journal.log(JOB, "info", "two")
        write(notes)

    book.journal._write = write_slowly
    book.journal.progress(JOB, 1, 2, "")
    book.journal.log(JOB, "info", "one")
    book.journal.flush()
    [rest] = book.journal.take([JOB])
    assert book.messages == ["one"]
    assert (rest.progress, [line.message for line in rest.lines]) == (progress_text(2, 2, ""), ["two"])


def test_what_could_not_be_written_is_written_later_and_in_order(book: Book, caplog: pytest.LogCaptureFixture) -> None:
    book.error = OSError("disk full")
    book.journal.log(JOB, "info", "one")
    book.journal.progress(JOB, 1, 2, "")
    book.journal.flush()
    book.journal.log(JOB, "info", "two")
    book.error = None
    book.journal.flush()
    assert book.messages == ["one", "two"]
    assert book.written[0].progress == progress_text(1, 2, "")
    assert "progress and logs wait: OSError('disk full')" in caplog.text


def test_what_a_run_that_settles_itself_wants_stays_until_it_is_taken(book: Book) -> None:
    book.journal.log(JOB, "info", "one")
    assert book.journal.peek(JOB) == book.journal.peek(JOB) == book.journal.take([JOB])
    assert book.journal.take([JOB]) == []
    assert book.journal.peek(JOB) == []


def test_a_job_that_runs_here_a_second_time_has_a_page_of_its_own(book: Book) -> None:
    again = claimed(claim_token=2, attempt=2)
    book.journal.log(JOB, "info", "first")
    book.journal.log(again, "info", "second")
    assert [notes.lines[0].message for notes in book.journal.take([again, JOB])] == ["second", "first"]


# In the database


def test_notes_are_written_only_while_the_claim_holds(
    store: Store, enqueue: Enqueue, claim: Claim, settle: Settle, sql: Sql
) -> None:
    enqueue()
    [job] = claim()
    book = Book(SystemClock())
    book.journal.log(job, "info", "ours")
    store.claims.write_notes(book.journal.take([job]))
    for act in ("UPDATE jobs SET claim_token = 9", "UPDATE jobs SET claim_token = 1, status = 'pending'"):
        sql(act)
        book.journal.log(job, "info", "not ours any more")
        book.journal.progress(job, 1, 2, "")
        store.claims.write_notes(book.journal.take([job]))
    book.journal.close()
    assert [line.message for line in store.reads.log_of(1)] == ["ours"]
    assert sql("SELECT progress FROM jobs") == [{"progress": None}]


def test_the_next_run_begins_without_the_progress_of_the_last(
    store: Store, enqueue: Enqueue, claim: Claim, sql: Sql
) -> None:
    enqueue()
    [job] = claim()
    store.claims.write_notes([Notes(job, progress_text(9, 10, ""), [])])
    store.claims.release([job])
    assert sql("SELECT progress FROM jobs")[0]["progress"] is not None
    claim()
    assert sql("SELECT progress FROM jobs") == [{"progress": None}]


def test_the_log_goes_with_its_job(jobs: DurableJobs, sql: Sql) -> None:
    @jobs.handler
    def say() -> None:
        current_job().log("hello")

    job = say.enqueue()
    jobs.work(burst=True, concurrency=1)
    assert sql("SELECT count(*) AS n FROM job_logs") == [{"n": 1}]
    jobs.delete(job.id)
    assert sql("SELECT count(*) AS n FROM job_logs") == [{"n": 0}]


# From handlers


def plain(fails: bool) -> None:
    job = current_job()
    job.progress(1, 2, "half")
    job.log("one")
    job.log("two", level="warning")
    job.progress(2, 2)
    if fails:
        raise Fail("no")


async def on_the_loop(fails: bool) -> None:
    plain(fails)


def in_a_transaction(fails: bool) -> None:
    plain(False)
    with current_job().transaction():
        plain(fails)


async def in_an_async_transaction(fails: bool) -> None:
    plain(False)
    async with current_job().transaction():
        plain(fails)


@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize("handler", [plain, on_the_loop, in_a_transaction, in_an_async_transaction])
def test_all_of_it_is_there_when_the_job_has_ended(jobs: DurableJobs, handler: Callable[..., Any], fails: bool) -> None:
    job = jobs.handler("handler")(handler).enqueue(fails)
    jobs.work(burst=True, concurrency=1)
    lines = [(line.attempt, line.level, line.message) for line in jobs.log_of(job.id)]
    assert lines == [(1, "info", "one"), (1, "warning", "two")] * (2 if "transaction" in handler.__name__ else 1)
    assert job.refresh().progress == {"done": 2, "total": 2, "message": ""}


def test_each_attempt_has_its_own_lines(jobs: DurableJobs) -> None:
    @jobs.handler(max_attempts=2, backoff=lambda attempt: 0)
    def fails() -> None:
        current_job().log(f"attempt {current_job().attempt}")
        raise ValueError

    job = fails.enqueue()
    jobs.work(burst=True, concurrency=1)
    assert [(line.attempt, line.message) for line in jobs.log_of(job.id)] == [(1, "attempt 1"), (2, "attempt 2")]


def test_after_its_run_nobody_listens_any_more(jobs: DurableJobs) -> None:
    left: list[Any] = []

    @jobs.handler
    def leak() -> None:
        left.append(current_job())

    job = leak.enqueue()
    jobs.work(burst=True, concurrency=1)
    left[0].progress(1, 2)
    left[0].log("too late")
    assert job.refresh().progress is None
    assert jobs.log_of(job.id) == []


# The standard logging


@pytest.fixture
def logger() -> logging.Logger:
    return logging.getLogger("app")


def messages(lines: list[LogLine]) -> list[tuple[str, str]]:
    return [(line.level, line.message) for line in lines]


def test_what_a_handler_logs_is_kept_if_it_asks_for_that(
    jobs: DurableJobs, logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    def talk() -> None:
        logger.debug("looking at %s", "it")
        logger.error("not good")

    async def talk_on_the_loop() -> None:
        talk()

    silent = jobs.handler("silent")(talk).enqueue()
    kept = [jobs.handler("plain", keep_log=True)(talk), jobs.handler("async", keep_log=True)(talk_on_the_loop)]
    enqueued = [handler.enqueue() for handler in kept]
    jobs.work(burst=True, concurrency=1)
    assert jobs.log_of(silent.id) == []
    for job in enqueued:
        assert messages(jobs.log_of(job.id)) == [("debug", "looking at it"), ("error", "not good")]


def test_an_exception_is_kept_with_its_traceback(jobs: DurableJobs, logger: logging.Logger) -> None:
    @jobs.handler(keep_log=True)
    def stumble() -> None:
        try:
            raise ValueError("no")
        except ValueError:
            logger.exception("stumbled")

    job = stumble.enqueue()
    jobs.work(burst=True, concurrency=1)
    [line] = jobs.log_of(job.id)
    assert line.message.startswith("stumbled\nTraceback")
    assert line.message.endswith("ValueError: no")


def test_a_record_that_cannot_be_formatted_harms_nothing(
    jobs: DurableJobs, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logger, "propagate", True)

    @jobs.handler(keep_log=True)
    def careless() -> None:
        logging.getLogger().handlers[-1].handle(logging.LogRecord("app", logging.INFO, "f.py", 1, "%d", ("x",), None))

    job = careless.enqueue()
    assert jobs.work(burst=True, concurrency=1).succeeded == 1
    assert messages(jobs.log_of(job.id)) == [("info", "a record that cannot be formatted: '%d'")]


def test_the_worker_leaves_logging_as_it_was(jobs: DurableJobs) -> None:
    jobs.handler("talk", keep_log=True)(lambda: None)
    before = list(logging.getLogger().handlers)
    jobs.work(burst=True, concurrency=1)
    assert logging.getLogger().handlers == before


def test_two_workers_in_one_process_keep_each_line_once(jobs: DurableJobs, logger: logging.Logger) -> None:
    jobs.handler("talk", keep_log=True)(lambda: logger.error("said once"))
    workers = [jobs.worker(concurrency=1) for _ in range(2)]
    threads = [threading.Thread(target=worker.run) for worker in workers]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(jobs.workers()) == 2, "both have come up")
    job = jobs.enqueue("talk")
    job.wait(PATIENCE)
    for worker, thread in zip(workers, threads, strict=True):
        worker.stop()
        thread.join(PATIENCE)
    assert messages(jobs.log_of(job.id)) == [("error", "said once")]


def test_a_job_whose_handler_keeps_no_log_keeps_none_beside_a_worker_whose_handler_of_that_name_does(
    jobs: DurableJobs, logger: logging.Logger
) -> None:
    jobs.handler("talk")(lambda: logger.error("said"))
    job = jobs.enqueue("talk")
    with kept_log(True):
        jobs.work(burst=True, concurrency=1)
    assert jobs.log_of(job.id) == []


def test_the_last_worker_of_a_process_to_end_leaves_logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the first leaves it as the other needs it."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", logging.WARNING)
    first, second = ExitStack(), ExitStack()
    first.enter_context(kept_log(True))
    set_up = list(root.handlers)
    second.enter_context(kept_log(True))
    assert (root.handlers, root.level) == (set_up, logging.INFO)
    first.close()
    assert (root.handlers, root.level) == (set_up, logging.INFO)
    second.close()
    assert (root.handlers, root.level) == ([], logging.WARNING)


# In a child process


def child_journal(told: list[Notes]) -> ChildJournal:
    """Return a child's journal without its thread."""
    journal = ChildJournal(told.append, SystemClock())
    journal._thread = threading.current_thread()
    return journal


async def _settled(transaction: JobTransaction) -> bool:
    return await transaction.settle(Succeeded(), 0)


@pytest.mark.conformance
@pytest.mark.parametrize("worker_was_quick", [True, False])
def test_a_child_that_settles_its_run_writes_all_that_the_worker_has_not(
    store: Store, enqueue: Enqueue, claim: Claim, sql: Sql, worker_was_quick: bool
) -> None:
    enqueue()
    [job] = claim()
    told: list[Notes] = []
    journal = child_journal(told)
    journal.progress(job, 1, 2, "half-way")
    journal.log(job, "info", "told")
    journal.flush()
    journal.log(job, "info", "not yet told")
    if worker_was_quick:
        store.claims.write_notes(told)
    transaction = store.claims.transaction(job, last_notes=journal.peek)
    with transaction:
        pass
    assert asyncio.run(_settled(transaction))
    store.claims.write_notes(told)  # the worker comes late
    assert [line.message for line in store.reads.log_of(1)] == ["told", "not yet told"]
    assert '"half-way"' in sql("SELECT progress FROM jobs")[0]["progress"]


def test_what_a_child_has_told_of_one_run_is_no_part_of_the_next() -> None:
    told: list[Notes] = []
    journal = child_journal(told)
    journal.log(JOB, "info", "first")
    journal.flush()
    journal.end(JOB)
    assert journal.peek(JOB) == [Notes(JOB, None, [], may_be_written=True)]
    assert [line.message for notes in told for line in notes.lines] == ["first"]
