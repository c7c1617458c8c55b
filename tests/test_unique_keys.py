"""Unique keys: who holds one, for how long, and what becomes of an enqueue that comes second."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from durablejobs import ConfigurationError, DuplicateJobError, DurableJobs, EnqueueOptions, Status
from durablejobs.outcomes import Errored, Failure, Succeeded
from durablejobs.store import Store, unique
from durablejobs.store.tables import KEY_IS_HELD

from .clocks import START, ManualClock
from .conftest import Claim, Settle, Sql

FOREVER = 366 * 24 * 3600


@pytest.fixture
def jobs(timed_jobs: DurableJobs) -> DurableJobs:
    return timed_jobs


def keyed(jobs: DurableJobs, **options: Any) -> Any:
    return jobs.using(unique_key="k", **options)


# What happens to the second


def test_skip_returns_the_job_that_is_there(jobs: DurableJobs, sql: Sql) -> None:
    first = keyed(jobs, on_conflict="skip", unique_for=60).enqueue("mail", 1)
    second = keyed(jobs, on_conflict="skip", unique_for=60).enqueue("mail", 2)
    assert (second.id, second.args, second.is_duplicate) == (first.id, [1], True)
    assert len(sql("SELECT id FROM jobs")) == 1


def test_error_names_the_job_that_is_there(jobs: DurableJobs) -> None:
    first = keyed(jobs).enqueue("mail")
    with pytest.raises(DuplicateJobError, match=f"job {first.id} holds the unique key 'k'") as raised:
        keyed(jobs, on_conflict="error").enqueue("mail")
    assert (raised.value.job_id, raised.value.unique_key) == (first.id, "k")


def test_error_is_no_error_without_a_conflict(jobs: DurableJobs) -> None:
    assert not keyed(jobs, on_conflict="error").enqueue("mail").is_duplicate


def test_replace_gives_a_waiting_job_all_that_is_new(jobs: DurableJobs, clock: ManualClock) -> None:
    first = keyed(jobs, delay=60).enqueue("mail", 1)
    clock.advance(1)
    second = keyed(
        jobs, on_conflict="replace", queue="bulk", priority=3, max_attempts=2, delay=9, timeout=5, meta={"a": 1}
    ).enqueue("other", 2, x=3)
    assert second.is_duplicate
    assert replace(second, is_duplicate=False) == jobs.get(first.id)
    assert (second.id, second.handler, second.queue, second.args, second.kwargs) == (
        first.id,
        "other",
        "bulk",
        [2],
        {"x": 3},
    )
    assert (second.priority, second.max_attempts, second.timeout, second.meta) == (3, 2, 5.0, {"a": 1})
    assert (second.status, second.run_at) == (Status.SCHEDULED, START + timedelta(seconds=10))
    assert second.created_at == START


def test_replace_can_bring_a_job_forward_and_put_it_off(jobs: DurableJobs) -> None:
    later, now = keyed(jobs, on_conflict="replace", delay=60), keyed(jobs, on_conflict="replace")
    statuses = [verb.enqueue("mail").status for verb in (later, now, later)]
    assert statuses == [Status.SCHEDULED, Status.PENDING, Status.SCHEDULED]


def test_a_job_that_runs_is_not_replaced(jobs: DurableJobs, claim: Claim) -> None:
    first = keyed(jobs).enqueue("mail", 1)
    claim()
    second = keyed(jobs, on_conflict="replace").enqueue("mail", 2)
    assert (second.id, second.args, second.status) == (first.id, [1], Status.RUNNING)


def test_debounce_puts_the_job_off_each_time_up_to_the_limit(jobs: DurableJobs, clock: ManualClock) -> None:
    verb = keyed(jobs, on_conflict="debounce", delay=10, debounce_limit=25)
    due = []
    for number in range(3):
        job = verb.enqueue("index", number)
        due.append((job.run_at - START).total_seconds())
        assert (job.args, job.status) == ([number], Status.SCHEDULED)
        clock.advance(9)
    assert due == [10, 19, 25]


def test_a_debounced_job_past_its_limit_is_due(jobs: DurableJobs, clock: ManualClock, claim: Claim) -> None:
    verb = keyed(jobs, on_conflict="debounce", delay=10, debounce_limit=25)
    verb.enqueue("index", 1)
    clock.advance(30)
    assert (verb.enqueue("index", 2).status, verb.enqueue("index", 3).args) == (Status.PENDING, [3])
    assert [job.args for job in claim()] == ["[3]"]


def test_debounce_without_a_limit_puts_off_for_ever(jobs: DurableJobs, clock: ManualClock, claim: Claim) -> None:
    verb = keyed(jobs, on_conflict="debounce", delay=10)
    for _ in range(50):
        job = verb.enqueue("index")
        clock.advance(9)
        assert claim() == []
    assert job.run_at == START + timedelta(seconds=49 * 9 + 10)


# How long a key is held


def test_a_key_is_held_until_its_job_has_ended(jobs: DurableJobs, claim: Claim, settle: Settle) -> None:
    first = keyed(jobs).enqueue("mail")
    (job,) = claim()
    assert keyed(jobs).enqueue("mail").id == first.id
    settle(job, Succeeded())
    assert keyed(jobs).enqueue("mail").id != first.id


def test_a_key_held_while_waiting_is_free_as_soon_as_its_job_runs(jobs: DurableJobs, claim: Claim) -> None:
    verb = keyed(jobs, unique_while="waiting")
    first = verb.enqueue("mail")
    assert verb.enqueue("mail").id == first.id
    claim()
    second = verb.enqueue("mail")
    assert second.id != first.id
    assert verb.enqueue("mail").id == second.id


def test_a_key_that_was_free_once_is_not_taken_back(
    jobs: DurableJobs, store: Any, claim: Claim, settle: Settle
) -> None:
    """Given back, snoozed, retried: two jobs with one key wait then, which is lawful, and no error for the worker."""
    verb = keyed(jobs, unique_while="waiting")
    first = verb.enqueue("mail")
    (job,) = claim()
    second = verb.enqueue("mail")
    store.claims.release([job])
    assert [jobs.get(each.id).status for each in (first, second)] == [Status.PENDING, Status.PENDING]
    assert {claimed.id for claimed in claim(2)} == {first.id, second.id}


def test_a_key_is_held_for_a_time_though_its_job_has_ended(
    jobs: DurableJobs, clock: ManualClock, claim: Claim, settle: Settle
) -> None:
    verb = keyed(jobs, unique_for=3600)
    first = verb.enqueue("digest")
    settle(claim()[0], Succeeded())
    clock.advance(3599)
    assert verb.enqueue("digest").id == first.id
    assert keyed(jobs).enqueue("digest").is_duplicate  # the holder decides how long, not who comes second
    clock.advance(1)
    second = verb.enqueue("digest")
    assert (second.id != first.id, second.is_duplicate) == (True, False)
    assert verb.enqueue("digest").id == second.id


def test_a_key_whose_time_is_over_is_still_held_by_a_live_job(jobs: DurableJobs, clock: ManualClock) -> None:
    first = keyed(jobs, unique_for=60).enqueue("mail")
    clock.advance(3600)
    assert keyed(jobs, unique_for=60).enqueue("mail").id == first.id


def test_a_batch_finds_expired_keys_free(jobs: DurableJobs, clock: ManualClock, claim: Claim, settle: Settle) -> None:
    keyed(jobs, unique_for=60).enqueue("mail")
    settle(claim()[0], Succeeded())
    rows = lambda: [keyed(jobs).new_job("mail", [], {}, clock.now_text())]  # noqa: E731
    assert jobs.client().insert_all(rows()).duplicates == 1
    clock.advance(60)
    assert jobs.client().insert_all(rows()).duplicates == 0


def test_deleting_a_job_frees_its_key(jobs: DurableJobs, claim: Claim, settle: Settle) -> None:
    first = keyed(jobs, unique_for=60).enqueue("mail")
    settle(claim()[0], Succeeded())
    jobs.delete(first.id)
    assert not keyed(jobs).enqueue("mail").is_duplicate


def test_retrying_by_hand_respects_who_holds_the_key_now(jobs: DurableJobs, claim: Claim, settle: Settle) -> None:
    first = keyed(jobs).enqueue("mail")
    jobs.cancel(first.id)
    keyed(jobs, unique_while="waiting").enqueue("mail")
    with pytest.raises(DuplicateJobError):
        jobs.retry(first.id)
    claim()
    assert jobs.retry(first.id).status is Status.PENDING


def test_retrying_by_hand_what_was_unique_while_it_waited(jobs: DurableJobs, claim: Claim, settle: Settle) -> None:
    first = keyed(jobs, unique_while="waiting").enqueue("mail")
    settle(claim()[0], Succeeded())
    keyed(jobs).enqueue("mail")
    assert jobs.retry(first.id).status is Status.PENDING


def test_retrying_by_hand_finds_a_key_free_whose_time_is_over(
    jobs: DurableJobs, clock: ManualClock, claim: Claim, settle: Settle
) -> None:
    first = keyed(jobs).enqueue("mail")
    jobs.cancel(first.id)
    keyed(jobs, unique_for=60).enqueue("mail")
    settle(claim()[0], Succeeded())
    with pytest.raises(DuplicateJobError):
        jobs.retry(first.id)
    clock.advance(61)
    assert jobs.retry(first.id).status is Status.PENDING


def test_a_replaced_job_has_an_attempt_left(jobs: DurableJobs, claim: Claim, settle: Settle, store: Store) -> None:
    """Else it would break the rule that no job spends more than it may, and `doctor` would report us."""
    first = keyed(jobs, max_attempts=5).enqueue("mail")
    for _ in range(3):
        settle(claim()[0], Errored(Failure("exception", "no"), 0.0))
    assert keyed(jobs, on_conflict="replace", max_attempts=1, delay=60).enqueue("mail").id == first.id
    job = first.refresh()
    assert (job.attempt, job.max_attempts) == (3, 4)
    assert keyed(jobs, on_conflict="replace", max_attempts=9, delay=60).enqueue("mail").max_attempts == 9
    assert [rule.promise for rule in store.checks.rules() if rule.broken] == []


# What is refused


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ({"on_conflict": "ignore"}, "on_conflict: must be skip, error, replace or debounce, not 'ignore'"),
        ({"unique_while": "running"}, "unique_while: must be live or waiting, not 'running'"),
        ({"unique_for": -1}, "unique_for: must be a number from 0"),
        ({"unique_for": float("nan")}, "unique_for: must be a number from 0"),
        ({"debounce_limit": "1m"}, "debounce_limit: must be a number from 0"),
    ],
)
def test_nonsense_is_refused_when_it_is_written(options: dict[str, Any], answer: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        EnqueueOptions(**options)
    assert str(raised.value).startswith(answer)


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ({"on_conflict": "replace"}, "unique_key: is needed"),
        ({"unique_for": 60}, "unique_key: is needed"),
        ({"unique_key": "k", "on_conflict": "debounce"}, "'debounce' puts a job off: give a delay or run_at"),
        ({"unique_key": "k", "debounce_limit": 60}, "debounce_limit: is for on_conflict='debounce'"),
    ],
)
def test_options_that_lack_another_are_refused_at_the_enqueue(
    jobs: DurableJobs, options: dict[str, Any], answer: str
) -> None:
    with pytest.raises(ConfigurationError, match=answer):
        jobs.using(**options).enqueue("mail")


# In the user's transaction, and by SQL


@pytest.fixture(params=["sqlite3", "sqlalchemy"])
def connection(request: pytest.FixtureRequest, jobs: DurableJobs, database_path: Path) -> Iterator[Any]:
    jobs.open()
    if request.param == "sqlite3":
        with closing(sqlite3.connect(database_path)) as opened:
            yield opened
    else:
        engine = create_engine(f"sqlite:///{database_path}")
        with engine.connect() as opened:
            yield opened
        engine.dispose()


def test_every_rule_works_in_the_users_transaction(jobs: DurableJobs, connection: Any) -> None:
    ours = keyed(jobs, connection=connection)
    first = ours.using(delay=60).enqueue("mail", 1)
    assert ours.enqueue("mail", 2).id == first.id
    with pytest.raises(DuplicateJobError):
        ours.using(on_conflict="error").enqueue("mail", 3)
    assert ours.using(on_conflict="replace").enqueue("mail", 4).id == first.id
    assert jobs.list_jobs() == []
    connection.commit()
    assert [job.args for job in jobs.list_jobs()] == [[4]]


def test_rows_that_are_stored_together_know_of_no_rule(jobs: DurableJobs, clock: ManualClock) -> None:
    """It would be lost without a word."""
    with pytest.raises(ConfigurationError, match=r"rows that are stored together knows no rule; enqueue singly"):
        keyed(jobs, unique_for=60).new_job("mail", [], {}, clock.now_text())


def test_rows_find_expired_keys_free_in_the_users_transaction_too(
    jobs: DurableJobs, connection: Any, clock: ManualClock, claim: Claim, settle: Settle
) -> None:
    keyed(jobs, unique_for=60).enqueue("mail")
    settle(claim()[0], Succeeded())
    clock.advance(61)
    row = keyed(jobs).new_job("mail", [], {}, clock.now_text())
    assert jobs.using(connection=connection).insert_all([row]).count == 1


def test_sql_inserts_unique_jobs_by_the_same_index(jobs: DurableJobs, sql: Sql) -> None:
    jobs.open()
    insert = "INSERT INTO jobs(handler, args, unique_key) VALUES ('mail', ?, 'k')"
    sql(insert, "[1]")
    with pytest.raises(sqlite3.IntegrityError, match=r"UNIQUE constraint failed: jobs\.unique_key"):
        sql(insert, "[2]")
    sql(f"{insert} ON CONFLICT DO NOTHING", "[3]")
    sql(f"{insert} ON CONFLICT DO UPDATE SET args = excluded.args WHERE status <> 'running'", "[4]")
    assert [job.args for job in jobs.list_jobs()] == [[4]]


def test_sql_cannot_write_a_rule_that_nobody_knows(jobs: DurableJobs, sql: Sql) -> None:
    jobs.open()
    with pytest.raises(sqlite3.IntegrityError, match="unique_while_is_live_or_waiting"):
        sql("INSERT INTO jobs(handler, unique_key, unique_while) VALUES ('mail', 'k', 'running')")


# Races

RACE = """
import sys
from durablejobs import DurableJobs, DuplicateJobError

jobs = DurableJobs(sys.argv[1])
verb = jobs.using(unique_key="k", delay=60, on_conflict=sys.argv[2], unique_while="waiting")
ids = set()
for number in range(50):
    try:
        ids.add(verb.enqueue("mail", number).id)
    except DuplicateJobError as error:
        ids.add(error.job_id)
print(*ids)
"""


@pytest.mark.parametrize("on_conflict", ["skip", "error", "replace", "debounce"])
def test_sixteen_threads_store_one_job(jobs: DurableJobs, on_conflict: str, sql: Sql) -> None:
    verb = keyed(jobs, on_conflict=on_conflict, delay=60)

    def enqueue(number: int) -> int | None:
        try:
            return int(verb.enqueue("mail", number).id)
        except DuplicateJobError as error:
            return error.job_id

    with ThreadPoolExecutor(16) as threads:
        ids = set(threads.map(enqueue, range(200)))
    (stored,) = sql("SELECT id FROM jobs")
    assert ids == {stored["id"]}


@pytest.mark.parametrize("on_conflict", ["skip", "error", "replace", "debounce"])
def test_processes_store_one_job(jobs: DurableJobs, on_conflict: str, database_path: Path) -> None:
    jobs.open()
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(database_path), on_conflict], stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    printed = {racer.communicate(timeout=100)[0].strip() for racer in racers}
    assert [racer.returncode for racer in racers] == [0] * 4
    (job,) = jobs.list_jobs()
    assert printed == {str(job.id)}


def test_an_expired_key_is_given_to_one_of_sixteen(
    jobs: DurableJobs, clock: ManualClock, claim: Claim, settle: Settle
) -> None:
    verb = keyed(jobs, unique_for=60)
    verb.enqueue("mail")
    settle(claim()[0], Succeeded())
    clock.advance(60)
    with ThreadPoolExecutor(16) as threads:
        stored = list(threads.map(lambda number: verb.enqueue("mail", number), range(100)))
    assert sum(not job.is_duplicate for job in stored) == 1
    assert len({job.id for job in stored}) == 1


# What it costs


@pytest.mark.parametrize("statement", [unique.RELEASE_EXPIRED, unique.HOLDER, unique.REPLACE])
def test_the_holder_is_found_by_the_unique_index(jobs: DurableJobs, sql: Sql, statement: Any) -> None:
    jobs.open()
    plan = sql(f"EXPLAIN QUERY PLAN {statement.sql}", *[None] * len(statement.names))
    assert ["USING INDEX ix_jobs_unique_key (unique_key=?)" in step["detail"] for step in plan] == [True]


def test_the_condition_is_written_down_once(jobs: DurableJobs, sql: Sql) -> None:
    jobs.open()
    (index,) = sql("SELECT sql FROM sqlite_master WHERE name = 'ix_jobs_unique_key'")
    assert index["sql"].endswith(f"WHERE {KEY_IS_HELD}")
