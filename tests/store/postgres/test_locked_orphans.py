"""A hung worker may be stopped in the middle of a transaction that has locked its jobs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from durablejobs.maintenance import Rescuer
from durablejobs.statuses import Status
from durablejobs.store import Store

from ... import postgres
from ...clocks import ManualClock
from ...conftest import Claim, Enqueue, Register, Sql, always_steady


@pytest.fixture
def dialect() -> str:
    return "postgresql"


@pytest.fixture
def worker(register: Register, enqueue: Enqueue, claim: Claim) -> int:
    """One with two jobs, of which nobody can say whether they run."""
    worker = register(seat=None)
    enqueue()
    enqueue()
    claim(2, worker=worker, lease=30)
    return worker


@pytest.fixture
def its_session(database: str) -> Iterator[psycopg.Connection[Any]]:
    with postgres.admin(database) as connection:
        yield connection


@pytest.fixture
def rescuer(store: Store, clock: ManualClock, worker: int) -> Rescuer:
    """One that has found the worker hung."""
    rescuer = Rescuer(store, worker_id=99, lease=30, max_crashes=5, clock=clock, steady_since=always_steady)
    rescuer.run()
    clock.advance(31)
    return rescuer


@contextmanager
def locked(its_session: psycopg.Connection[Any]) -> Iterator[None]:
    """Its first job is locked."""
    with its_session.transaction():
        its_session.execute("SELECT id FROM jobs WHERE id = 1 FOR UPDATE")
        yield


def test_jobs_that_a_hung_worker_keeps_locked_are_rescued_when_the_server_has_ended_its_session(
    rescuer: Rescuer, clock: ManualClock, its_session: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "durablejobs.worker"):
        with locked(its_session):
            assert [each.job_id for each in rescuer.run()] == [2]
            clock.advance(31)
            assert rescuer.run() == []
        clock.advance(31)
        assert [each.job_id for each in rescuer.run()] == [1]
        clock.advance(31)
        assert rescuer.run() == []
    assert [message.partition("gone: ")[2] for message in caplog.messages] == [
        "1 of its jobs go on, 1 of them were running"
    ] * 2


def test_a_job_that_was_locked_is_not_taken_for_one_that_ran_alone(
    rescuer: Rescuer, clock: ManualClock, its_session: psycopg.Connection[Any], sql: Sql
) -> None:
    sql("UPDATE jobs SET crashes = 4")
    with locked(its_session):
        assert [(each.job_id, each.status) for each in rescuer.run()] == [(2, Status.PENDING)]
    clock.advance(31)
    assert [(each.job_id, each.status) for each in rescuer.run()] == [(1, Status.PENDING)]


def test_a_worker_that_was_stopped_in_its_heartbeat_is_not_waited_for_and_is_rescued_afterwards(
    rescuer: Rescuer, clock: ManualClock, its_session: psycopg.Connection[Any], worker: int
) -> None:
    with its_session.transaction():
        its_session.execute("SELECT id FROM job_workers WHERE id = %s FOR UPDATE", (worker,))
        assert rescuer.run() == []
    clock.advance(31)
    assert [each.job_id for each in rescuer.run()] == [1, 2]


def test_what_the_worker_claims_afterwards_is_not_waited_for(
    rescuer: Rescuer,
    clock: ManualClock,
    its_session: psycopg.Connection[Any],
    enqueue: Enqueue,
    claim: Claim,
    worker: int,
) -> None:
    with locked(its_session):
        rescuer.run()
    clock.advance(31)
    assert [each.job_id for each in rescuer.run()] == [1]
    enqueue()
    claim(3, worker=worker, lease=30)
    for _ in range(3):
        clock.advance(31)
        assert rescuer.run() == []
