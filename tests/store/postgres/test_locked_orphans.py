"""A hung worker may be stopped in the middle of a transaction that has locked its jobs."""

from __future__ import annotations

import logging

import pytest

from durablejobs.maintenance import Rescuer
from durablejobs.store import Store

from ... import postgres
from ...clocks import ManualClock
from ...conftest import Claim, Enqueue, Register


@pytest.fixture
def dialect() -> str:
    return "postgresql"


def test_jobs_that_a_hung_worker_keeps_locked_are_rescued_when_the_server_has_ended_its_session(
    store: Store,
    clock: ManualClock,
    enqueue: Enqueue,
    claim: Claim,
    register: Register,
    database: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker = register(seat=None)
    enqueue()
    enqueue()
    claim(2, worker=worker, lease=30)
    rescuer = Rescuer(store, worker_id=99, lease=30, max_crashes=5, clock=clock)
    rescuer.run()
    clock.advance(31)
    with caplog.at_level(logging.WARNING, "durablejobs.worker"), postgres.admin(database) as its_session:
        with its_session.transaction():
            its_session.execute("SELECT id FROM jobs WHERE id = 1 FOR UPDATE")
            assert [each.job_id for each in rescuer.run()] == [2]
            assert rescuer.run() == []
        assert [each.job_id for each in rescuer.run()] == [1]
        assert rescuer.run() == []
    assert [message.partition("gone: ")[2] for message in caplog.messages] == [
        "1 of its jobs go on, 1 of them were running"
    ] * 2
