"""A look before a claim: in PostgreSQL it may tell that one plain claim is all there is to do."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import bindparam, update

from durablejobs.store import Store
from durablejobs.store.claims import HandlerFilter
from durablejobs.store.doors.claims import ClaimRequest
from durablejobs.store.hot import HotStatement
from durablejobs.store.tables import jobs

from ..clocks import START, ManualClock
from ..conftest import Claim, Enqueue, Sql


@pytest.fixture
def tells(dialect: str) -> bool:
    """Whether a peek tells of an only queue."""
    return dialect == "postgresql"


def only_queue(store: Store) -> str | None:
    return store.claims.peek().only_queue


def test_of_one_queue_with_pending_jobs_it_tells_the_name(store: Store, enqueue: Enqueue, tells: bool) -> None:
    assert only_queue(store) is None
    enqueue(queue="mail")
    enqueue(queue="mail", priority=3)
    assert only_queue(store) == ("mail" if tells else None)


def test_a_job_for_later_in_another_queue_is_no_matter(store: Store, enqueue: Enqueue, tells: bool) -> None:
    enqueue(queue="mail")
    enqueue(queue="later", delay=60)
    assert only_queue(store) == ("mail" if tells else None)


def test_with_two_queues_it_tells_none(store: Store, enqueue: Enqueue) -> None:
    enqueue(queue="mail")
    enqueue(queue="default")
    assert only_queue(store) is None


def test_what_is_due_has_to_be_promoted_first(store: Store, enqueue: Enqueue, clock: ManualClock) -> None:
    enqueue(queue="mail")
    enqueue(queue="mail", delay=60)
    clock.advance(60)
    assert only_queue(store) is None


def test_a_rule_of_any_queue_has_to_be_heeded(store: Store, enqueue: Enqueue) -> None:
    enqueue(queue="mail")
    store.acts.pause("other", None, None)
    assert only_queue(store) is None


def test_a_job_that_waits_for_a_place_has_to_be_heeded(store: Store, enqueue: Enqueue) -> None:
    enqueue(queue="mail")
    enqueue(queue="mail", running_key="customer:7")
    assert only_queue(store) is None


# What follows from it


def test_a_statement_that_is_written_at_once_is_committed(store: Store, enqueue: Enqueue, sql: Sql) -> None:
    enqueue()
    statement = HotStatement(update(jobs).values(priority=bindparam("new")).returning(jobs.c.id))
    assert [tuple(row) for row in store.database.write_at_once(statement, {"new": 7})] == [(1,)]
    assert sql("SELECT priority FROM jobs") == [{"priority": 7}]


def request(most: int = 10, queues: tuple[str, ...] = (), handlers: HandlerFilter | None = None) -> ClaimRequest:
    return ClaimRequest(worker_id=1, queues=queues, most=most, lease=30, handlers=handlers)


def test_the_claim_of_the_only_queue_is_the_same_as_any_other(
    store: Store, enqueue: Enqueue, claim: Claim, sql: Sql, clock: ManualClock
) -> None:
    for priority in (0, 5, 0, 9):
        enqueue(queue="mail", priority=priority)
    clock.advance(1)
    first = store.claims.turn((), request(2), only_queue=only_queue(store))
    second = claim(most=2)
    assert [job.id for job in first.claimed] == [4, 2]
    assert [job.id for job in second] == [1, 3]
    assert not first.settlement.lost
    assert (first.claimed[0].claim_token, first.claimed[0].attempt) == (1, 1)
    columns = "SELECT DISTINCT status, claim_token, attempt, worker_id, started_at, lease_expires_at FROM jobs"
    assert len(sql(columns)) == 1


def test_it_is_not_claimed_by_a_worker_of_other_queues_or_handlers(store: Store, enqueue: Enqueue) -> None:
    enqueue(queue="mail")
    for wanted in (request(queues=("other",)), request(handlers=HandlerFilter(("report",))), request(most=0)):
        assert store.claims.turn((), wanted, only_queue=only_queue(store)).claimed == []
    assert len(store.claims.turn((), request(queues=("other", "mail")), only_queue=only_queue(store)).claimed) == 1


def test_every_lane_gets_what_it_asks_for(store: Store, enqueue: Enqueue) -> None:
    enqueue(queue="mail")
    enqueue(queue="mail")
    lanes = request(1, handlers=HandlerFilter(("report",))), request(1, handlers=HandlerFilter(("mail",)))
    assert [job.id for job in store.claims.turn((), *lanes, only_queue=only_queue(store)).claimed] == [1]


def test_it_runs_at_the_times_of_the_clock(store: Store, enqueue: Enqueue, sql: Sql, clock: ManualClock) -> None:
    enqueue(queue="mail")
    clock.advance(5)
    store.claims.turn((), request(), only_queue=only_queue(store))
    ((started, lease),) = [tuple(row.values()) for row in sql("SELECT started_at, lease_expires_at FROM jobs")]
    assert str(started).startswith(f"{START + timedelta(seconds=5):%Y-%m-%d %H:%M:%S}")
    assert str(lease).startswith(f"{START + timedelta(seconds=35):%Y-%m-%d %H:%M:%S}")
