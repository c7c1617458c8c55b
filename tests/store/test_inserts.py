"""Putting jobs in: all or nothing, once per unique key, and acknowledged only when it is on disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from durablejobs import DuplicateJobError
from durablejobs.jobs import NewJob
from durablejobs.outcomes import Errored, Failure, GaveUp, Snoozed, Stopped, Succeeded
from durablejobs.store import Store
from durablejobs.store.sqlite import inserts
from durablejobs.store.sqlite.inserts import ROWS_PER_STATEMENT

from ..clocks import ManualClock
from ..conftest import Claim, Enqueue, Settle, Sql, new_job

FAILURE = Failure("exception", "boom")


def test_ids_grow_and_are_never_used_again(store: Store, enqueue: Enqueue) -> None:
    assert [enqueue() for _ in range(3)] == [1, 2, 3]
    store.acts.delete(3)
    store.acts.delete(2)
    assert enqueue() == 4


def test_the_fields_of_a_new_job_are_the_parameters_of_its_insert() -> None:
    assert inserts.INSERT.names == inserts.INSERT_UNLESS_DUPLICATE.names == NewJob._fields


@pytest.mark.parametrize("count", [2, 16, ROWS_PER_STATEMENT, ROWS_PER_STATEMENT + 1])
def test_each_of_a_group_is_told_its_own_id_also_where_triggers_write_rows(
    store: Store, clock: ManualClock, sql: Sql, count: int
) -> None:
    """A job whose time has not come is made scheduled by a trigger; one that has ended is counted by another."""
    group = [new_job(clock, args=f"[{number}]", run_at="2100-01-01 00:00:00") for number in range(count)]
    store.new_jobs.insert(new_job(clock))
    told = store.database.insert_group(group)
    assert all(is_new for _, is_new in told)
    assert {row["id"]: row["args"] for row in sql("SELECT id, args FROM jobs WHERE status = 'scheduled'")} == {
        job_id: job.args for (job_id, _), job in zip(told, group, strict=True)
    }


def test_a_group_with_unique_keys_is_stored_too(store: Store, clock: ManualClock) -> None:
    group = [new_job(clock, unique_key=key) for key in (None, "a", "a", None)]
    stored = store.database.insert_group(group)
    assert [is_new for _, is_new in stored] == [True, True, False, True]
    assert stored[1][0] == stored[2][0]
    assert len({job_id for job_id, _ in stored}) == 3


def test_a_job_is_there_for_others_as_soon_as_its_insert_has_returned(store: Store, enqueue: Enqueue, sql: Sql) -> None:
    for expected in range(1, 6):
        enqueue()
        assert sql("SELECT count(*) AS n FROM jobs") == [{"n": expected}]


def test_the_second_insert_of_a_live_unique_key_stores_nothing_and_returns_the_first(
    store: Store, clock: ManualClock, sql: Sql
) -> None:
    assert store.new_jobs.insert(new_job(clock, unique_key="k", args="[1]")) == (1, True)
    assert store.new_jobs.insert(new_job(clock, unique_key="k", args="[2]", queue="other")) == (1, False)
    assert store.new_jobs.insert(new_job(clock, unique_key="l"))[1] is True
    assert sql("SELECT id, args FROM jobs WHERE unique_key = 'k'") == [{"id": 1, "args": "[1]"}]


@pytest.mark.parametrize("state", ["scheduled", "pending", "running", "retrying", "snoozed"])
def test_a_unique_key_is_taken_as_long_as_its_job_lives(
    enqueue: Enqueue, claim: Claim, settle: Settle, store: Store, clock: ManualClock, state: str
) -> None:
    enqueue(unique_key="k", delay=60 if state == "scheduled" else 0)
    if state not in ("scheduled", "pending"):
        (job,) = claim()
        if state == "retrying":
            settle(job, Errored(FAILURE, 60))
        elif state == "snoozed":
            settle(job, Snoozed(60))
    assert store.new_jobs.insert(new_job(clock, unique_key="k")) == (1, False)


@pytest.mark.parametrize("outcome", [Succeeded("1"), GaveUp(FAILURE), Stopped(FAILURE), None])
def test_a_unique_key_is_free_again_when_its_job_has_ended(
    enqueue: Enqueue, claim: Claim, settle: Settle, store: Store, clock: ManualClock, outcome: Succeeded | None
) -> None:
    enqueue(unique_key="k")
    if outcome is None:
        store.acts.cancel(1)
    else:
        settle(claim()[0], outcome)
    assert store.new_jobs.insert(new_job(clock, unique_key="k")) == (2, True)


def test_sixteen_threads_that_enqueue_one_unique_key_at_once_store_one_row(
    store: Store, clock: ManualClock, sql: Sql
) -> None:
    for number in range(10):
        barrier = threading.Barrier(16)
        results: list[tuple[int, bool]] = []

        def insert(key: str, barrier: threading.Barrier, results: list[tuple[int, bool]]) -> None:
            barrier.wait()
            results.append(store.new_jobs.insert(new_job(clock, unique_key=key)))

        threads = [threading.Thread(target=insert, args=(f"k{number}", barrier, results)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(stored for _, stored in results) == [False] * 15 + [True]
        assert len({job_id for job_id, _ in results}) == 1
    assert sql("SELECT count(*) AS n, count(DISTINCT unique_key) AS keys FROM jobs") == [{"n": 10, "keys": 10}]


def test_threads_that_share_a_commit_each_get_their_own_id(store: Store, clock: ManualClock, sql: Sql) -> None:
    barrier = threading.Barrier(8)
    found: dict[str, int] = {}

    def insert(name: int) -> None:
        barrier.wait()
        for number in range(25):
            args = f"[{name}, {number}]"
            found[args] = store.new_jobs.insert(new_job(clock, args=args))[0]

    threads = [threading.Thread(target=insert, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {row["args"]: row["id"] for row in sql("SELECT id, args FROM jobs")} == found
    assert len(found) == 200


def test_one_bad_row_among_those_that_share_a_commit_spoils_only_itself(
    store: Store, clock: ManualClock, sql: Sql
) -> None:
    """The line forms while another transaction holds the lock; then all of it is stored together."""
    errors: list[BaseException] = []

    def insert(job: NewJob) -> None:
        try:
            store.new_jobs.insert(job)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
            errors.append(error)

    rows = [new_job(clock, args=f"[{number}]", queue="no name" if number == 3 else "q") for number in range(8)]
    threads = [threading.Thread(target=insert, args=(row,)) for row in rows]
    with store.database.write():
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join()
    assert sorted(row["args"] for row in sql("SELECT args FROM jobs")) == [f"[{n}]" for n in range(8) if n != 3]
    assert len(errors) == 1
    assert "queue_is_a_name" in str(errors[0])


# Many


def rows_of(clock: ManualClock, keys: list[str | None]) -> Iterator[NewJob]:
    return (new_job(clock, unique_key=key) for key in keys)


def test_a_batch_counts_what_is_stored_and_what_is_left_out(store: Store, clock: ManualClock, sql: Sql) -> None:
    store.new_jobs.insert(new_job(clock, unique_key="a"))
    batch = store.new_jobs.insert_many(rows_of(clock, ["a", "b", None, "b", None, "c"]))
    assert (batch.count, batch.duplicates) == (4, 2)
    assert [row["unique_key"] for row in sql("SELECT unique_key FROM jobs ORDER BY id")] == ["a", "b", None, None, "c"]


@pytest.mark.parametrize("size", [99, 100, 101, 700])
def test_duplicates_within_a_large_batch_are_left_out_too(store: Store, clock: ManualClock, size: int) -> None:
    keys: list[str | None] = [f"k{number % 50}" for number in range(size)]
    batch = store.new_jobs.insert_many(rows_of(clock, keys))
    assert (batch.count, batch.duplicates) == (50, size - 50)


@pytest.mark.parametrize("bad", [0, 150, 501, 1199])
def test_a_row_that_the_database_refuses_takes_its_whole_batch_with_it(
    store: Store, clock: ManualClock, sql: Sql, bad: int
) -> None:
    rows = (new_job(clock, max_attempts=0 if number == bad else 1) for number in range(1200))
    with pytest.raises(Exception, match="max_attempts_is_1_to_1000000"):
        store.new_jobs.insert_many(rows)
    assert sql("SELECT count(*) AS n FROM jobs") == [{"n": 0}]
    assert store.new_jobs.insert(new_job(clock))[1] is True


def test_a_batch_is_seen_whole_or_not_at_all(store: Store, clock: ManualClock, sql: Sql) -> None:
    seen = []

    def rows() -> Iterator[NewJob]:
        for number in range(1500):
            if number % 500 == 0:
                seen.append(sql("SELECT count(*) AS n FROM jobs")[0]["n"])
            yield new_job(clock)

    assert store.new_jobs.insert_many(rows()).count == 1500
    assert seen == [0, 0, 0]
    assert sql("SELECT count(*) AS n FROM jobs") == [{"n": 1500}]


# On a connection of the user's


def test_a_duplicate_whose_job_ends_meanwhile_is_never_stored_twice(store: Store, database_path: Path) -> None:
    """Outside of a transaction the first job may end between the two looks: then the answer is an error, not a twin."""
    error = DuplicateJobError("k")
    assert str(error) == "another job holds the unique key 'k'"
    assert str(DuplicateJobError("k", 7)) == "job 7 holds the unique key 'k'"


def test_what_the_database_refuses_on_the_users_connection_is_his_drivers_error(
    store: Store, clock: ManualClock
) -> None:
    """Not translated into a database in trouble: the row is at fault."""
    with pytest.raises(IntegrityError, match="handler_is_a_name"), store.database.write() as connection:
        store.new_jobs.insert_in(connection, new_job(clock, handler="no name"))
