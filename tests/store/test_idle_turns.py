"""A turn with nothing to settle: in PostgreSQL the look claims as well, where one plain claim is all there is to do."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import bindparam, update

from durablejobs.running_limits import RunningLimit
from durablejobs.store import Store
from durablejobs.store.claims import HandlerFilter
from durablejobs.store.doors.claims import ClaimRequest, Turn
from durablejobs.store.hot import HotStatement
from durablejobs.store.peeking import Peek
from durablejobs.store.tables import jobs

from ..clocks import START, ManualClock
from ..conftest import Enqueue, Sql


def wanted(most: int = 10, queues: tuple[str, ...] = (), handlers: HandlerFilter | None = None) -> ClaimRequest:
    return ClaimRequest(worker_id=1, queues=queues, most=most, lease=30, handlers=handlers)


ANY = wanted()


@pytest.fixture
def whole_turns(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[Turn]:
    """The turns that were taken after a look."""
    taken: list[Turn] = []
    take = store.claims.turn

    def noted(*args: Any, **options: Any) -> Turn:
        taken.append(take(*args, **options))
        return taken[-1]

    monkeypatch.setattr(store.claims, "turn", noted)
    return taken


@pytest.fixture
def claimed(store: Store) -> Callable[..., list[int]]:
    """The ids of the jobs that such a turn claims."""

    def claim(*requests: ClaimRequest, **options: Any) -> list[int]:
        return [job.id for job in store.claims.idle_turn(*requests, **options).claimed]

    return claim


Claimed = Callable[..., list[int]]


# What it claims


def test_the_best_jobs_are_claimed_as_by_any_turn(
    store: Store, enqueue: Enqueue, claimed: Claimed, sql: Sql, clock: ManualClock
) -> None:
    for priority in (0, 5, 0, 9):
        enqueue(queue="mail", priority=priority)
    clock.advance(1)
    first = store.claims.idle_turn(wanted(2))
    assert [job.id for job in first.claimed] == [4, 2]
    assert (first.claimed[0].claim_token, first.claimed[0].attempt) == (1, 1)
    assert [job.id for job in store.claims.turn((), ANY).claimed] == [1, 3]
    columns = "SELECT DISTINCT status, claim_token, attempt, worker_id, started_at, lease_expires_at FROM jobs"
    assert len(sql(columns)) == 1
    assert claimed(ANY) == []


def test_times_are_those_of_the_clock(enqueue: Enqueue, claimed: Claimed, sql: Sql, clock: ManualClock) -> None:
    enqueue(queue="mail")
    clock.advance(5)
    claimed(ANY)
    ((started, lease),) = [tuple(row.values()) for row in sql("SELECT started_at, lease_expires_at FROM jobs")]
    assert str(started).startswith(f"{START + timedelta(seconds=5):%Y-%m-%d %H:%M:%S}")
    assert str(lease).startswith(f"{START + timedelta(seconds=35):%Y-%m-%d %H:%M:%S}")


def test_it_tells_what_was_there(store: Store, enqueue: Enqueue) -> None:
    assert store.claims.idle_turn(ANY) == (Peek(has_work=False, next_due=None), [])
    enqueue(delay=60)
    assert store.claims.idle_turn(ANY) == ((False, START + timedelta(seconds=60)), [])
    enqueue()
    turn = store.claims.idle_turn(ANY)
    assert turn.peek == (True, START + timedelta(seconds=60))
    assert [job.id for job in turn.claimed] == [2]


def test_who_has_no_room_claims_nothing(enqueue: Enqueue, claimed: Claimed) -> None:
    enqueue()
    assert claimed(wanted(most=0)) == []


def test_nothing_is_claimed_by_a_worker_of_other_queues_or_handlers(enqueue: Enqueue, claimed: Claimed) -> None:
    enqueue(queue="mail")
    assert claimed(wanted(queues=("other",))) == []
    assert claimed(wanted(handlers=HandlerFilter(("report",)))) == []
    assert claimed(wanted(queues=("other", "mail"))) == [1]


def test_every_lane_gets_what_it_asks_for(enqueue: Enqueue, claimed: Claimed) -> None:
    enqueue(queue="mail")
    enqueue(queue="mail")
    lanes = wanted(1, handlers=HandlerFilter(("report",))), wanted(1, handlers=HandlerFilter(("mail",)))
    assert claimed(*lanes) == [1]
    assert claimed(wanted(0, handlers=HandlerFilter(("report",))), wanted(1, handlers=HandlerFilter(("mail",)))) == [2]


# When the look is all it takes


def test_nothing_there_takes_a_look_alone(enqueue: Enqueue, claimed: Claimed, whole_turns: list[Turn]) -> None:
    enqueue(delay=60)
    assert claimed(ANY) == []
    assert not whole_turns


def test_of_one_queue_the_look_claims(
    enqueue: Enqueue, claimed: Claimed, whole_turns: list[Turn], dialect: str
) -> None:
    enqueue(queue="mail")
    enqueue(queue="mail", priority=3)
    enqueue(queue="later", delay=60)  # no matter
    assert claimed(ANY) == [2, 1]
    assert len(whole_turns) == (dialect == "sqlite")


@pytest.fixture
def with_two_queues(enqueue: Enqueue) -> list[int]:
    enqueue(queue="mail")
    enqueue(queue="default")
    return [1, 2]


@pytest.fixture
def with_a_job_that_is_due(enqueue: Enqueue, clock: ManualClock) -> list[int]:
    enqueue(queue="mail")
    enqueue(queue="mail", delay=60)
    clock.advance(60)
    return [1, 2]


@pytest.fixture
def with_only_what_is_due(enqueue: Enqueue, clock: ManualClock) -> list[int]:
    enqueue(queue="mail", delay=60)
    clock.advance(60)
    return [1]


@pytest.fixture
def with_a_rule_of_the_queue(store: Store, enqueue: Enqueue) -> list[int]:
    store.acts.limit("mail", 1)
    enqueue(queue="mail")
    enqueue(queue="mail")
    return [1]


@pytest.fixture
def with_a_rule_of_another_queue(store: Store, enqueue: Enqueue) -> list[int]:
    store.acts.pause("other", None, None)
    enqueue(queue="mail")
    return [1]


@pytest.fixture
def with_the_queue_paused(store: Store, enqueue: Enqueue) -> list[int]:
    store.acts.pause("mail", None, None)
    enqueue(queue="mail")
    return []


@pytest.fixture
def with_a_job_that_shares_places(enqueue: Enqueue) -> list[int]:
    enqueue(queue="mail")
    enqueue(queue="mail", running_key="customer:7")
    return [1, 2]


@pytest.mark.parametrize(
    "state",
    [
        "two_queues",
        "a_job_that_is_due",
        "only_what_is_due",
        "a_rule_of_the_queue",
        "a_rule_of_another_queue",
        "the_queue_paused",
        "a_job_that_shares_places",
    ],
)
def test_where_more_is_to_be_heeded_a_whole_turn_follows(
    claimed: Claimed, whole_turns: list[Turn], state: str, request: pytest.FixtureRequest
) -> None:
    expected = request.getfixturevalue(f"with_{state}")
    assert claimed(ANY) == expected
    assert len(whole_turns) == 1


def test_limits_of_the_handlers_are_heeded(enqueue: Enqueue, claimed: Claimed, whole_turns: list[Turn]) -> None:
    for _ in range(3):
        enqueue(handler="mail", running_key="mail")
    assert claimed(ANY, limits={"mail": RunningLimit.of("mail", 1, None, None)}) == [1]
    assert len(whole_turns) == 1


def test_behind_a_pooler_it_is_the_same(
    store: Store, enqueue: Enqueue, claimed: Claimed, dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if dialect == "postgresql":
        monkeypatch.setattr(store.database._connections, "has_own_sessions", False)  # type: ignore[attr-defined]
    enqueue(queue="mail")
    enqueue(queue="mail")
    assert claimed(wanted(1)) == [1]
    assert claimed(ANY) == [2]


# Beside others


def test_workers_that_look_at_once_never_get_the_same_job(store: Store, enqueue: Enqueue) -> None:
    for _ in range(200):
        enqueue(queue="mail")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(all_claimed, [store] * 4))
    assert sorted(job_id for each in found for job_id in each) == list(range(1, 201))


def all_claimed(store: Store) -> list[int]:
    """Claim until nothing is left."""
    found: list[int] = []
    while new := [job.id for job in store.claims.idle_turn(wanted(3)).claimed]:
        found += new
    return found


# What it is made of


def test_a_statement_that_is_written_at_once_is_committed(store: Store, enqueue: Enqueue, sql: Sql) -> None:
    enqueue()
    statement = HotStatement(update(jobs).values(priority=bindparam("new")).returning(jobs.c.id))
    assert [tuple(row) for row in store.database.write_at_once(statement, {"new": 7})] == [(1,)]
    assert sql("SELECT priority FROM jobs") == [{"priority": 7}]
