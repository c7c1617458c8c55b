"""Workers that stand still and come back, workers that are merely busy, and clocks that jump."""

from __future__ import annotations

import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from durablejobs import EnqueueOptions
from durablejobs.clock import from_text

from .harness import Queue, WorkerProcess, wait_until

pytestmark = pytest.mark.conformance

IN_TRANSACTION = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'durablejobs' AND state <> 'idle'
"""

LEASE = {"lease": 1.2, "heartbeat": 0.3}


def _set(clock: Path, shift: float) -> None:
    """Shift the wall clock of the workers that were started with this file."""
    new = clock.with_suffix(".new")
    new.write_text(str(shift))
    new.replace(clock)  # at once, so that nobody reads half of it


def _pause(queue: Queue, worker: WorkerProcess) -> None:
    """Stop the process as a debugger or a full machine would, but not while it holds locks."""

    def is_stopped_outside_of_a_write() -> bool:
        worker.send(signal.SIGSTOP)
        if queue.url:
            if queue.sql(IN_TRANSACTION):
                worker.send(signal.SIGCONT)
                return False
            return True
        with closing(sqlite3.connect(queue.path, isolation_level=None, timeout=0.05)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                worker.send(signal.SIGCONT)
                return False
            connection.execute("ROLLBACK")
        return True

    wait_until(is_stopped_outside_of_a_write, "the worker stands still outside of a transaction")


@pytest.mark.conformance("and fast")
def test_a_worker_that_wakes_up_after_its_lease_changes_nothing_and_goes_on(queue: Queue) -> None:
    paused = queue.start(**LEASE)
    job_id = queue.enqueue("pass_gate", "gate", "from the second")
    queue.wait_for_call(job_id)
    _pause(queue, paused)
    second = queue.start(**LEASE)
    assert queue.wait_for_call(job_id, number=2).pid == second.pid
    queue.open_gate()
    queue.wait_for("succeeded", job_id)
    before = queue.row(job_id)
    paused.send(signal.SIGCONT)
    wait_until(lambda: "the claim was lost" in paused.log, "the first worker's ending is refused")
    assert queue.row(job_id) == before
    assert (before["attempt"], before["crashes"]) == (2, 1)
    assert [error["kind"] for error in queue.errors(job_id)] == ["crash"]
    second.stop()
    # The first one works on, registered and beating.
    later = queue.enqueue("echo")
    queue.wait_for("succeeded", later)
    [row] = queue.registered()
    assert row["pid"] == paused.pid
    wait_until(lambda: queue.registered()[0]["heartbeat_at"] > row["heartbeat_at"], "its heart beats")
    report = paused.stop()
    assert (report["succeeded"], report["lost"]) == (1, 1)


def _wake_up_while_another_runs_the_job(queue: Queue, fails: bool, planted: str | None = None) -> None:
    """Let a worker lose its job by a pause, wake up, and end its run first: it must change nothing."""
    paused = queue.start(planted=planted, **LEASE)
    job_id = queue.jobs.using(max_attempts=1).enqueue("pass_gate", "gate-{attempt}", "result", fails).id
    queue.wait_for_call(job_id)
    _pause(queue, paused)
    queue.start(**LEASE)
    queue.wait_for_call(job_id, number=2)
    paused.send(signal.SIGCONT)
    queue.open_gate("gate-1")
    later = queue.enqueue("echo")
    queue.wait_for("succeeded", later)  # only the first worker has a slot for it, so it has settled its ending
    row = queue.row(job_id)
    assert (row["status"], row["attempt"], row["claim_token"]) == ("running", 2, 2)
    assert "the claim was lost" in paused.log
    queue.open_gate("gate-2")
    queue.wait_for("failed" if fails else "succeeded", job_id)
    assert [error["kind"] for error in queue.errors(job_id)] == ["crash", "exception"][: 1 + fails]


@pytest.mark.parametrize("fails", [False, True], ids=["succeeds", "fails"])
def test_a_worker_that_wakes_up_while_another_runs_its_job_does_not_disturb_it(queue: Queue, fails: bool) -> None:
    _wake_up_while_another_runs_the_job(queue, fails)


def test_the_test_above_finds_a_worker_that_forgets_the_claim_token(queue: Queue) -> None:
    with pytest.raises(AssertionError, match="succeeded"):
        _wake_up_while_another_runs_the_job(queue, fails=False, planted="no claim token")


def test_a_short_pause_costs_nothing(queue: Queue) -> None:
    paused = queue.start(lease=3, heartbeat=0.3)
    job_id = queue.enqueue("pass_gate", "gate")
    queue.wait_for_call(job_id)
    queue.start(lease=3, heartbeat=0.3)
    _pause(queue, paused)
    since = time.monotonic()
    wait_until(lambda: time.monotonic() - since > 1, "a part of the lease has passed")
    paused.send(signal.SIGCONT)
    queue.open_gate()
    queue.wait_for("succeeded", job_id)
    assert queue.row(job_id)["crashes"] == 0
    assert len(queue.calls()) == 1


def test_a_busy_worker_keeps_its_jobs_for_many_leases(queue: Queue) -> None:
    """One job computes and holds the interpreter lock as much as it can, one sleeps."""
    ids = [queue.enqueue("burn", 3.0), queue.enqueue("sleep", 3.0)]
    busy = queue.start(concurrency=2, lease=1, heartbeat=0.3)
    for job_id in ids:
        queue.wait_for_call(job_id)
    idle = queue.start(concurrency=2, lease=1, heartbeat=0.3)
    queue.wait_for("succeeded", *ids)
    assert [call.pid for call in queue.calls()] == [busy.pid, busy.pid]
    assert queue.sql("SELECT DISTINCT attempt, crashes FROM jobs") == [{"attempt": 1, "crashes": 0}]
    assert idle.stop()["succeeded"] == 0


@pytest.mark.sqlite("the server's clock is the clock there")
@pytest.mark.parametrize("hours", [1, -2])
def test_a_jump_of_the_wall_clock_rescues_nothing_and_delays_nothing(queue: Queue, hours: int) -> None:
    clock = queue.directory / "clock"
    _set(clock, 0)
    running = queue.enqueue("pass_gate", "gate")
    worker = queue.start(concurrency=2, clock=clock, **LEASE)
    queue.wait_for_call(running)
    queue.start(clock=clock, concurrency=1, **LEASE)
    wait_until(lambda: len(queue.registered()) == 2, "both are there")
    _set(clock, hours * 3600)
    since = time.monotonic()
    wait_until(lambda: time.monotonic() - since > 1.8, "more than a lease has passed")
    assert len(queue.calls(job=running)) == 1
    pending = queue.enqueue("echo")
    retried = queue.enqueue("fail_until", 2)
    queue.wait_for("succeeded", pending, retried)
    queue.open_gate()
    queue.wait_for("succeeded", running)
    assert queue.row(running)["crashes"] == 0
    assert len(queue.registered()) == 2
    assert worker.stop()["lost"] == 0
    for row in queue.sql("SELECT * FROM jobs"):
        assert from_text(row["started_at"]) <= from_text(row["finished_at"])


@pytest.mark.sqlite("the server's clock is the clock there")
def test_a_scheduled_job_is_started_when_the_clock_jumps_past_its_moment(queue: Queue) -> None:
    clock = queue.directory / "clock"
    _set(clock, 0)
    queue.start_idle(clock=clock)
    job_id = queue.enqueue("echo", options=EnqueueOptions(delay=3600))
    _set(clock, 3700)
    queue.wait_for("succeeded", job_id)
