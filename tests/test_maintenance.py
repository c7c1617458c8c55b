"""What workers do for each other and for the file: find the dead and the hung, prune what is old."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from durablejobs import FOREVER, Retention
from durablejobs.clock import to_text
from durablejobs.heartbeat import Rhythm
from durablejobs.maintenance import Pruner, Rescuer, finished_before
from durablejobs.outcomes import Succeeded
from durablejobs.statuses import Status
from durablejobs.store import Store
from durablejobs.store.doors.upkeep import Upkeep
from durablejobs.store.rescues import Rescued
from durablejobs.store.workers import Registration

from .clocks import START, ManualClock
from .conftest import Claim, Enqueue, Register, Settle, always_steady, new_job

# Retention


def test_each_status_has_its_own_moment_and_for_ever_has_none() -> None:
    assert finished_before(Retention(succeeded=0, cancelled=60, failed=FOREVER), START) == {
        Status.SUCCEEDED: START,
        Status.CANCELLED: START - timedelta(seconds=60),
    }


def test_a_retention_longer_than_the_calendar_prunes_nothing_and_does_not_overflow() -> None:
    moments = finished_before(Retention(succeeded=1e15, cancelled=1e300, failed=math.inf), START)
    assert moments == dict.fromkeys((Status.SUCCEEDED, Status.CANCELLED), datetime.min.replace(tzinfo=UTC))
    assert to_text(moments[Status.SUCCEEDED]) == "0001-01-01 00:00:00.000000"


# Pruner


@pytest.fixture
def ended(enqueue: Enqueue, claim: Claim, settle: Settle) -> None:
    enqueue()
    settle(claim()[0], Succeeded(None))


def test_old_jobs_are_pruned_when_their_time_has_come_and_at_the_interval(
    store: Store, clock: ManualClock, ended: None
) -> None:
    pruner = Pruner(store, Retention(succeeded=100), interval=60, clock=clock)
    assert pruner.run() == 0
    clock.advance(101)
    assert pruner.run() == 1
    assert pruner.run() == 0
    assert store.reads.get(1) is None


def test_between_two_intervals_nothing_is_looked_for(store: Store, clock: ManualClock, ended: None) -> None:
    pruner = Pruner(store, Retention(succeeded=0), interval=60, clock=clock)
    assert pruner.run() == 0  # it has ended just now, not before now
    clock.advance(59)
    assert pruner.run() == 0
    clock.advance(1)
    assert pruner.run() == 1


def test_what_is_more_than_a_batch_is_pruned_without_waiting(store: Store, clock: ManualClock, claim: Claim) -> None:
    store.new_jobs.insert_many(new_job(clock) for _ in range(1200))
    with store.database.write() as connection:
        connection.exec_driver_sql(f"UPDATE jobs SET status = 'failed', finished_at = '{to_text(START)}'")
    clock.advance(1)
    pruner = Pruner(store, Retention(failed=0), interval=60, clock=clock)
    assert [pruner.run() for _ in range(4)] == [500, 500, 200, 0]


# Rescuer: the dead


SIT = """
import sys
from durablejobs.store import Store
from durablejobs.store.doors.claims import ClaimRequest
from durablejobs.store.workers import Registration

store = Store(sys.argv[1])
def describe(seat, now):
    return Registration("other", "host", 1, seat, "all", 1, "0", now, now)
worker, seat = store.workers.register(describe)
claimed = store.claims.turn([], ClaimRequest(worker, (), 2, 3600)).claimed
seat.mark(0, claimed[0].id)
print(worker, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(store: Store, enqueue: Enqueue, database_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A worker's process that has claimed two jobs and runs the first of them."""
    enqueue()
    enqueue()
    process = subprocess.Popen(
        [sys.executable, "-c", SIT, database_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    yield process
    process.kill()
    process.communicate()


def test_a_living_worker_is_left_alone_and_a_killed_one_is_rescued_at_once(
    store: Store, clock: ManualClock, other: subprocess.Popen[str], caplog: pytest.LogCaptureFixture
) -> None:
    rescuer = Rescuer(store, worker_id=99, lease=30, max_crashes=5, clock=clock, steady_since=always_steady)
    assert rescuer.run() == []
    other.kill()
    other.wait()
    with caplog.at_level(logging.WARNING, "durablejobs.worker"):
        rescued = rescuer.run()
    assert [(each.job_id, each.status, each.crashed) for each in rescued] == [
        (1, Status.PENDING, True),
        (2, Status.PENDING, False),
    ]
    assert store.workers.vitals() == []
    assert caplog.messages == ["worker other (pid 1 on host) is gone: 2 of its jobs go on, 1 of them were running"]
    assert rescuer.run() == []


def test_a_rescuer_never_takes_itself_for_dead(store: Store, clock: ManualClock, register: Register) -> None:
    own = register(seat=None)
    rescuer = Rescuer(store, worker_id=own, lease=30, max_crashes=5, clock=clock, steady_since=always_steady)
    rescuer.run()
    clock.advance(3600)
    assert rescuer.run() == []
    assert [vital.id for vital in store.workers.vitals()] == [own]


# Rescuer: the hung, whose heartbeat has not changed for a lease by the observer's own clock


@pytest.fixture
def hung(store: Store, enqueue: Enqueue, claim: Claim) -> int:
    """A worker without a seat, as on a platform without locks, that has claimed a job."""

    def describe(_seat: int | None, now: str) -> Registration:
        return Registration("hung", "host", 1, None, "all", 1, "0", now, now)

    worker, seat = store.workers.register(describe)
    if seat is not None:
        seat.leave()
    enqueue()
    claim(worker=worker, lease=30)
    return worker


def test_a_worker_without_a_sign_of_life_for_a_lease_is_hung(store: Store, clock: ManualClock, hung: int) -> None:
    rescuer = Rescuer(store, worker_id=99, lease=30, max_crashes=5, clock=clock, steady_since=always_steady)
    assert rescuer.run() == []
    clock.advance(30)
    assert rescuer.run() == []
    clock.advance(0.1)
    (rescued,) = rescuer.run()
    assert (rescued.job_id, rescued.status) == (1, Status.PENDING)
    job = store.reads.get(1)
    assert job is not None
    assert job.error == "its worker gave no sign of life for 30 s while it ran this job (crash 1)"


def test_a_hung_worker_is_rescued_once_and_again_only_after_it_has_beaten_again(
    store: Store, clock: ManualClock, hung: int, claim: Claim
) -> None:
    rescuer = Rescuer(store, worker_id=99, lease=30, max_crashes=5, clock=clock, steady_since=always_steady)
    rescuer.run()
    clock.advance(31)
    assert len(rescuer.run()) == 1
    claim(worker=hung)
    for _ in range(3):
        clock.advance(31)
        assert rescuer.run() == []
    store.workers.heartbeat(hung, lease=30)
    assert rescuer.run() == []
    clock.advance(31)
    assert len(rescuer.run()) == 1


def test_a_beating_worker_is_never_hung(store: Store, clock: ManualClock, hung: int) -> None:
    rescuer = Rescuer(store, worker_id=99, lease=30, max_crashes=5, clock=clock, steady_since=always_steady)
    for _ in range(20):
        assert rescuer.run() == []
        clock.advance(20)
        store.workers.heartbeat(hung, lease=30)


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(hours=-2), timedelta(days=3650)])
def test_a_jump_of_the_wall_clock_makes_nobody_look_dead(
    store: Store, clock: ManualClock, hung: int, jump: timedelta
) -> None:
    """Nor does it make a hung one look alive."""
    rescuer = Rescuer(store, worker_id=99, lease=30, max_crashes=5, clock=clock, steady_since=always_steady)
    rescuer.run()
    clock.set(clock.now() + jump)
    assert rescuer.run() == []
    clock.advance(31)
    assert len(rescuer.run()) == 1


def test_a_worker_whose_row_was_written_by_a_clock_far_ahead_is_judged_by_ours(
    store: Store, clock: ManualClock, hung: int
) -> None:
    clock.set(START + timedelta(days=400))
    store.workers.heartbeat(hung, lease=30)
    clock.set(START)
    rescuer = Rescuer(store, worker_id=99, lease=30, max_crashes=5, clock=clock, steady_since=always_steady)
    assert rescuer.run() == []
    clock.advance(31)
    assert len(rescuer.run()) == 1


@pytest.fixture
def rhythm(clock: ManualClock) -> Rhythm:
    """That of the observer's own heartbeat."""
    return Rhythm(interval=8, lease=30, clock=clock)


@pytest.fixture
def beating_rescuer(store: Store, clock: ManualClock, rhythm: Rhythm) -> Rescuer:
    """One that has given a sign of life itself, and looked at the others."""
    rescuer = Rescuer(store, worker_id=99, lease=30, max_crashes=5, clock=clock, steady_since=rhythm.steady_since)
    assert rescuer.run() == []
    return rescuer


def test_a_hung_worker_is_found_by_one_that_gives_its_own_signs_of_life_in_time(
    hung: int, clock: ManualClock, rhythm: Rhythm, beating_rescuer: Rescuer
) -> None:
    for _ in range(3):
        clock.advance(9)
        rhythm.beat()
        assert beating_rescuer.run() == []
    clock.advance(4)
    assert len(beating_rescuer.run()) == 1


@pytest.mark.parametrize("looks_first", [True, False], ids=["looks first", "beats first"])
def test_silence_counts_afresh_after_the_observer_has_been_silent_too(
    hung: int, clock: ManualClock, rhythm: Rhythm, beating_rescuer: Rescuer, looks_first: bool
) -> None:
    """Another may have kept all from writing, or all were paused."""
    clock.advance(31)
    if looks_first:
        assert beating_rescuer.run() == []
    rhythm.beat()
    for _ in range(3):
        assert beating_rescuer.run() == []
        clock.advance(9)
        rhythm.beat()
    assert beating_rescuer.run() == []
    clock.advance(4)
    assert len(beating_rescuer.run()) == 1


def test_nobody_is_found_hung_while_the_observer_cannot_write(
    hung: int, clock: ManualClock, beating_rescuer: Rescuer
) -> None:
    for _ in range(200):
        clock.advance(0.5)
        assert beating_rescuer.run() == []


def test_who_beats_while_the_rescuer_waits_for_the_write_lock_is_left_alone(
    store: Store, clock: ManualClock, hung: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rescuer = Rescuer(store, worker_id=99, lease=30, max_crashes=5, clock=clock, steady_since=always_steady)
    rescuer.run()
    clock.advance(31)
    rescue = Upkeep.rescue_worker

    def comes_second(upkeep: Upkeep, *args: Any) -> list[Rescued]:
        store.workers.heartbeat(hung, lease=30)
        return rescue(upkeep, *args)

    monkeypatch.setattr(Upkeep, "rescue_worker", comes_second)
    with caplog.at_level(logging.WARNING, "durablejobs.worker"):
        assert rescuer.run() == []
    assert caplog.messages == []
    monkeypatch.undo()
    assert rescuer.run() == []
    clock.advance(31)
    assert len(rescuer.run()) == 1


def test_running_jobs_of_nobody_are_found_too(store: Store, enqueue: Enqueue, claim: Claim, clock: ManualClock) -> None:
    enqueue()
    claim(worker=77, lease=30)
    rescuer = Rescuer(store, worker_id=99, lease=30, max_crashes=5, clock=clock, steady_since=always_steady)
    assert rescuer.run() == []
    clock.advance(31)
    assert [each.job_id for each in rescuer.run()] == [1]
