"""Ended jobs are counted by triggers: the counts are what counting the rows gives, whoever changed them, and how."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from durablejobs.errors import IllegalActError
from durablejobs.outcomes import Errored, Failure, GaveUp, Outcome, Snoozed, Stopped, Succeeded
from durablejobs.statuses import FINAL, Status
from durablejobs.store import Store

from ..clocks import ManualClock
from ..conftest import Claim, Enqueue, Settle, Sql

QUEUES = ("a", "b", "c")
queues = st.sampled_from(QUEUES)
final_statuses = st.sampled_from(sorted(FINAL))
jobs_by_place = st.integers(0, 20)

OUTCOMES: tuple[Outcome, ...] = (
    Succeeded("1"),
    Errored(Failure("exception", "boom"), 0),
    GaveUp(Failure("fail", "no")),
    Snoozed(0),
    Stopped(Failure("cancel", "moot")),
)
outcomes = st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=4)

ENDED = "INSERT INTO jobs(handler, queue, status, finished_at) VALUES ('mail', ?, ?, '2030-01-01 12:00:00')"
PLAIN_SQL = (
    "UPDATE jobs SET status = 'cancelled', finished_at = '2030-01-01 12:00:00' WHERE status = 'pending'",
    "UPDATE jobs SET status = 'pending', finished_at = NULL WHERE finished_at IS NOT NULL",
    "UPDATE jobs SET status = 'pending', finished_at = NULL, queue = 'c' WHERE finished_at IS NOT NULL",
    "UPDATE jobs SET status = 'failed' WHERE status = 'succeeded'",
    "UPDATE jobs SET status = 'failed', queue = 'b' WHERE status = 'cancelled'",
    "UPDATE jobs SET finished_at = '2030-01-02 12:00:00' WHERE finished_at IS NOT NULL",
    "UPDATE jobs SET queue = 'b' WHERE queue = 'a'",
    "UPDATE jobs SET priority = priority + 1",
    "DELETE FROM jobs WHERE queue = 'a'",
    "DELETE FROM jobs",
)

steps = st.one_of(
    st.tuples(st.just("enqueue"), queues),
    st.tuples(st.just("insert ended"), queues, final_statuses),
    st.tuples(st.just("run"), outcomes),
    st.tuples(st.sampled_from(["cancel", "retry", "delete"]), jobs_by_place),
    st.tuples(st.just("prune"), st.sets(final_statuses)),
    st.tuples(st.just("sql"), st.sampled_from(PLAIN_SQL)),
)


def kept(sql: Sql) -> list[dict[str, Any]]:
    return sql(
        "SELECT queue, status, CAST(sum(number) AS INTEGER) AS number FROM job_counts "
        "GROUP BY 1, 2 HAVING sum(number) <> 0 ORDER BY 1, 2"
    )


def counted(sql: Sql) -> list[dict[str, Any]]:
    return sql(
        "SELECT queue, status, count(*) AS number FROM jobs NOT INDEXED WHERE finished_at IS NOT NULL "
        "GROUP BY 1, 2 ORDER BY 1, 2"
    )


Act = Callable[..., None]


@pytest.fixture
def act(store: Store, clock: ManualClock, sql: Sql, enqueue: Enqueue, claim: Claim, settle: Settle) -> Act:
    """Take one of the steps."""

    def on_job(verb: str, place: int) -> None:
        ids = [row["id"] for row in sql("SELECT id FROM jobs ORDER BY id")]
        if not ids:
            return
        with contextlib.suppress(IllegalActError):
            getattr(store.acts, verb)(ids[place % len(ids)])

    def run(chosen: list[Outcome]) -> None:
        for job, outcome in zip(claim(len(chosen)), chosen, strict=False):
            settle(job, outcome)

    def take(name: str, *values: Any) -> None:
        clock.advance(1)
        match name:
            case "enqueue":
                enqueue(queue=values[0])
            case "insert ended":
                sql(ENDED, *values)
            case "run":
                run(values[0])
            case "prune":
                store.upkeep.prune({Status(status): clock.now() - timedelta(seconds=3) for status in values[0]})
            case "sql":
                sql(values[0])
            case _:
                on_job(name, values[0])

    return take


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(steps, max_size=25))
@example([("insert ended", "a", "succeeded"), ("sql", PLAIN_SQL[3])])
def test_the_counts_are_what_counting_the_rows_gives_after_every_step(
    store: Store, sql: Sql, act: Act, chosen: list[tuple[Any, ...]]
) -> None:
    sql("DELETE FROM jobs")
    assert kept(sql) == []
    for step in chosen:
        act(*step)
        assert kept(sql) == counted(sql)
    told = {
        (each.queue, status.value, number)
        for each in store.reads.statistics(5)
        for status, number in each.counts.items()
    }
    by_hand = sql("SELECT queue, status, count(*) AS number FROM jobs NOT INDEXED GROUP BY 1, 2")
    assert told == {tuple(row.values()) for row in by_hand}


@pytest.mark.parametrize("statement", PLAIN_SQL)
def test_plain_sql_keeps_the_counts_true(store: Store, sql: Sql, enqueue: Enqueue, statement: str) -> None:
    for queue in QUEUES:
        enqueue(queue=queue)
        for status in FINAL:
            sql(ENDED, queue, status)
    sql(statement)
    assert kept(sql) == counted(sql)


def test_what_is_rolled_back_is_not_counted(store: Store, sql: Sql) -> None:
    sql(ENDED, "a", "failed")
    sql("BEGIN")
    sql(ENDED, "a", "failed")
    sql("DELETE FROM jobs WHERE id = 1")
    sql("ROLLBACK")
    assert kept(sql) == [{"queue": "a", "status": "failed", "number": 1}]


def test_live_jobs_are_not_counted_by_triggers(store: Store, sql: Sql, enqueue: Enqueue, claim: Claim) -> None:
    enqueue()
    enqueue(delay=60)
    claim()
    assert kept(sql) == []
    (statistics,) = store.reads.statistics(5)
    assert statistics.counts == {Status.RUNNING: 1, Status.SCHEDULED: 1}
