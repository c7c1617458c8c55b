"""What people are shown is what a plain look at all rows would show."""

from __future__ import annotations

import sqlite3
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from durablejobs import Job, JobFilter, QueueStatistics
from durablejobs.clock import from_text, to_text
from durablejobs.statuses import FINAL, Status
from durablejobs.store import Store
from durablejobs.store.hot import driver_of

from ..clocks import START, ManualClock
from ..conftest import Claim, Enqueue, Settle, Sql, new_job

HANDLERS = ("mail", "thumbnail")
QUEUES = ("a", "b", "c")
STATUSES = [status for status in Status if status is not Status.BLOCKED]

rows = st.lists(
    st.tuples(st.sampled_from(HANDLERS), st.sampled_from(QUEUES), st.sampled_from(STATUSES), st.integers(0, 600)),
    max_size=25,
)
filters = st.builds(
    JobFilter,
    statuses=st.lists(st.sampled_from(STATUSES), max_size=4, unique=True).map(tuple),
    handler=st.none() | st.sampled_from(HANDLERS),
    queue=st.none() | st.sampled_from(QUEUES),
)
fresh = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def fill(clock: ManualClock, sql: Sql, given_rows: list[tuple[str, str, Status, int]]) -> None:
    """Store exactly these rows; the last number is how many seconds ago the job was enqueued or ended."""
    sql("DELETE FROM jobs")
    values: list[str | None] = []
    for handler, queue, status, seconds in given_rows:
        moment = ManualClock(clock.now())
        text = to_text(moment.advance(-seconds))
        ended = text if status in FINAL else None
        values += [handler, queue, status, text, text, ended, to_text(START) if status is Status.RUNNING else None]
    if values:  # in one statement: there are thousands of rows in a test
        rows = ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * len(given_rows))
        columns = "handler, queue, status, run_at, created_at, finished_at, lease_expires_at"
        sql(f"INSERT INTO jobs({columns}) VALUES {rows}", *values)


def all_jobs(store: Store, sql: Sql) -> list[Job]:
    """Every job, newest first, read one by one."""
    found = [store.reads.get(row["id"]) for row in sql("SELECT id FROM jobs NOT INDEXED ORDER BY id DESC")]
    return [job for job in found if job is not None]


# Lists


@fresh
@given(rows, filters, st.integers(1, 30), st.none() | st.integers(0, 60))
def test_a_list_is_what_a_plain_filter_of_all_jobs_gives(
    store: Store,
    clock: ManualClock,
    sql: Sql,
    given_rows: list[tuple[str, str, Status, int]],
    wanted: JobFilter,
    limit: int,
    before: int | None,
) -> None:
    fill(clock, sql, given_rows)
    jobs = all_jobs(store, sql)
    if before is not None and jobs:
        before += jobs[-1].id
    expected = [
        job
        for job in jobs
        if (not wanted.statuses or job.status in wanted.statuses)
        and wanted.handler in (None, job.handler)
        and wanted.queue in (None, job.queue)
        and (before is None or job.id < before)
    ][:limit]
    assert store.reads.list_jobs(wanted, limit, before) == expected


@fresh
@given(rows, filters)
def test_the_count_of_an_act_is_the_number_of_jobs_it_would_change(
    store: Store, clock: ManualClock, sql: Sql, given_rows: list[tuple[str, str, Status, int]], wanted: JobFilter
) -> None:
    for act in ("cancel", "retry", "delete"):
        fill(clock, sql, given_rows)
        counted = store.acts.count(act, wanted)
        assert counted == sum(store.acts.on_batches(act, wanted))


def test_pages_follow_each_other_without_a_gap_or_a_repetition(store: Store, clock: ManualClock) -> None:
    store.new_jobs.insert_many(new_job(clock, handler=HANDLERS[number % 2]) for number in range(101))
    for wanted in (JobFilter(), JobFilter(statuses=(Status.PENDING, Status.FAILED)), JobFilter(handler="mail")):
        pages: list[int] = []
        before = None
        while page := store.reads.list_jobs(wanted, 10, before):
            pages += [job.id for job in page]
            before = page[-1].id
        assert pages == sorted((job.id for job in store.reads.list_jobs(wanted, 1000)), reverse=True)


def test_a_filter_says_what_it_means() -> None:
    assert str(JobFilter()) == "all"
    assert str(JobFilter((Status.FAILED, Status.CANCELLED), "mail", "a")) == (
        "status failed, cancelled and handler mail and queue a"
    )


@pytest.mark.sqlite("the limit is SQLite's")
def test_a_list_of_more_jobs_than_a_statement_takes_parameters_is_complete(store: Store, clock: ManualClock) -> None:
    """Many builds of SQLite take 32,766 parameters; older ones took 999."""
    store.new_jobs.insert_many(new_job(clock) for _ in range(1500))
    with store.database.read() as connection:
        driver_of(connection).setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)
    found = store.reads.list_jobs(JobFilter(statuses=(Status.PENDING,)), 10_000)
    assert [job.id for job in found] == list(range(1500, 0, -1))


# One job


def test_a_job_is_read_with_all_its_columns_in_their_python_types(
    store: Store, enqueue: Enqueue, claim: Claim, sql: Sql
) -> None:
    enqueue(args='[1, "ü"]', kwargs='{"a": null}', meta='{"m": [1]}', unique_key="k", queue="q", priority=-1)
    claim(worker=3, lease=30)
    sql("UPDATE jobs SET timeout = 1.5, progress = '{\"done\": 0.5}', error = 'boom'")
    assert store.reads.get(1) == Job(
        id=1,
        handler="mail",
        queue="q",
        args=[1, "ü"],
        kwargs={"a": None},
        status=Status.RUNNING,
        priority=-1,
        run_at=START,
        attempt=1,
        max_attempts=20,
        crashes=0,
        worker_id=3,
        lease_expires_at=START + timedelta(seconds=30),
        cancel_requested_at=None,
        unique_key="k",
        running_key=None,
        timeout=1.5,
        result=None,
        error="boom",
        progress={"done": 0.5},
        meta={"m": [1]},
        created_at=START,
        started_at=START,
        finished_at=None,
    )


def test_a_job_that_is_not_there_is_none(store: Store) -> None:
    assert store.reads.get(1) is None
    assert store.reads.get_with_errors(1) == (None, [])


@pytest.mark.sqlite("PostgreSQL's type json lets nothing else in")
def test_json_that_was_forced_in_broken_is_shown_as_the_text_it_is(store: Store, enqueue: Enqueue, sql: Sql) -> None:
    enqueue()
    enqueue()
    sql("PRAGMA ignore_check_constraints = ON")
    sql("UPDATE jobs SET args = '[1', result = '{', progress = 'half', meta = 'x' WHERE id = 1")
    job = store.reads.get(1)
    assert job is not None
    assert (job.args, job.result, job.progress, job.meta) == ("[1", "{", "half", "x")
    assert len(store.reads.list_jobs(JobFilter(), 10)) == 2


@pytest.mark.sqlite("PostgreSQL's timestamps are times")
@pytest.mark.parametrize("forced", ["0", "yesterday", "2030-02-31 00:00:00", b"\xff", 7])
def test_a_time_that_python_cannot_read_is_none_and_spoils_no_list(
    store: Store, enqueue: Enqueue, sql: Sql, forced: object
) -> None:
    job_id = enqueue()
    sql("PRAGMA ignore_check_constraints = ON")
    sql("UPDATE jobs SET lease_expires_at = ?, started_at = ?, cancel_requested_at = ?", *[forced] * 3)
    [job] = store.reads.list_jobs(JobFilter(), 10)
    assert (job.id, job.lease_expires_at, job.started_at, job.cancel_requested_at) == (job_id, None, None, None)


@pytest.mark.parametrize("text", ["2030-01-01 12:00", "2030-01-01 12:00:00", "2030-01-01 12:00:00.000"])
def test_times_are_read_in_the_shorter_forms_that_sql_writes(
    store: Store, enqueue: Enqueue, sql: Sql, text: str
) -> None:
    enqueue()
    sql("UPDATE jobs SET run_at = ?", text)
    job = store.reads.get(1)
    assert job is not None
    assert job.run_at == START


# Statistics


def brute_force(jobs: list[Job], now: Any, minutes: float) -> list[QueueStatistics]:
    found = []
    for queue in sorted({job.queue for job in jobs}):
        mine = [job for job in jobs if job.queue == queue]
        waiting = [job for job in mine if job.status is Status.PENDING]
        recent = Counter(
            job.status for job in mine if job.finished_at and job.finished_at >= now - timedelta(minutes=minutes)
        )
        found.append(
            QueueStatistics(
                queue,
                dict(Counter(job.status for job in mine)),
                min(waiting, key=lambda job: job.id).run_at if waiting else None,
                {status: number / minutes for status, number in recent.items()},
            )
        )
    return found


@fresh
@given(rows, st.sampled_from([0.5, 1, 5, 60]))
def test_statistics_are_what_counting_all_jobs_gives(
    store: Store, clock: ManualClock, sql: Sql, given_rows: list[tuple[str, str, Status, int]], minutes: float
) -> None:
    fill(clock, sql, given_rows)
    assert store.reads.statistics(minutes) == brute_force(all_jobs(store, sql), clock.now(), minutes)


def kept_counts(sql: Sql) -> list[dict[str, Any]]:
    return sql(
        "SELECT queue, status, CAST(sum(number) AS INTEGER) AS number FROM job_counts "
        "GROUP BY 1, 2 HAVING sum(number) <> 0 ORDER BY 1, 2"
    )


def scanned_counts(sql: Sql) -> list[dict[str, Any]]:
    return sql(
        "SELECT queue, status, count(*) AS number FROM jobs NOT INDEXED WHERE finished_at IS NOT NULL "
        "GROUP BY 1, 2 ORDER BY 1, 2"
    )


ENDED = "INSERT INTO jobs(handler, queue, status, finished_at) VALUES ('mail', ?, ?, '2030-01-01 12:00:00')"


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM jobs WHERE status = 'failed'",
        "DELETE FROM jobs",
        "UPDATE jobs SET status = 'pending', finished_at = NULL WHERE queue = 'a'",
        "UPDATE jobs SET status = 'pending', finished_at = NULL, queue = 'c' WHERE queue = 'a'",
        "UPDATE jobs SET finished_at = '2031-01-01 12:00:00' WHERE finished_at IS NOT NULL",
        "UPDATE jobs SET queue = 'b' WHERE queue = 'a'",
        "UPDATE jobs SET queue = 'new'",
        "UPDATE jobs SET status = 'cancelled', finished_at = '2031-01-01 12:00:00' WHERE status = 'pending'",
        "UPDATE jobs SET priority = 3",
    ],
)
def test_the_counts_of_ended_jobs_stay_true_whatever_sql_does_to_the_table(
    store: Store, sql: Sql, statement: str
) -> None:
    for queue, status in (("a", "failed"), ("a", "succeeded"), ("a", "succeeded"), ("b", "failed")):
        sql(ENDED, queue, status)
    sql("INSERT INTO jobs(handler, queue) VALUES ('mail', 'a')")
    assert kept_counts(sql) == scanned_counts(sql)
    sql(statement)
    assert kept_counts(sql) == scanned_counts(sql)


def test_the_view_for_people_shows_each_job(
    store: Store, enqueue: Enqueue, claim: Claim, settle: Settle, sql: Sql
) -> None:
    from durablejobs.outcomes import Errored, Failure, Succeeded

    for _ in range(3):
        enqueue(args='["a@b.c"]')
    for job, outcome in zip(claim(2), (Succeeded("1"), Errored(Failure("exception", "boom"), 60)), strict=True):
        settle(job, outcome)
    shown = sql("SELECT id, handler, queue, status, tries, args, error FROM jobs_overview")
    common = {"handler": "mail", "queue": "default", "args": '["a@b.c"]'}
    assert shown == [
        {"id": 3, "status": "pending", "tries": "0/20", "error": None} | common,
        {"id": 2, "status": "retrying", "tries": "1/20", "error": "boom"} | common,
        {"id": 1, "status": "succeeded", "tries": "1/20", "error": None} | common,
    ]


def test_times_are_text_that_sorts_as_it_reads() -> None:
    moments = [START + timedelta(microseconds=number) for number in (0, 1, 10, 999_999, 1_000_000, 86_400_000_000)]
    texts = [to_text(moment) for moment in moments]
    assert texts == sorted(texts)
    assert [from_text(text) for text in texts] == moments
    assert {len(text) for text in texts} == {26}
