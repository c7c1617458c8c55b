"""How a worker is asked to end: the first signal lets running jobs finish, the second gives them back."""

from __future__ import annotations

import signal
import time

import pytest

from .harness import Queue, WorkerProcess, wait_until

pytestmark = pytest.mark.conformance

BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)


def _start_with_jobs_claimed_ahead(queue: Queue, **options: object) -> tuple[WorkerProcess, int, range]:
    """Return a worker in the middle of a job, its id, and the quick ones behind it; some of those it has claimed."""
    queue.enqueue_many("echo", 200)  # teaches the worker that jobs are quick
    job_id = queue.enqueue("pass_gate", "gate", "done")
    behind = queue.enqueue_many("echo", 300)
    worker = queue.start(**options)
    queue.wait_for_call(job_id)
    return worker, job_id, behind


def _untouched(queue: Queue, ids: range) -> bool:
    rows = queue.sql("SELECT DISTINCT status, attempt, crashes FROM jobs WHERE id BETWEEN ? AND ?", ids[0], ids[-1])
    return rows == [{"status": "pending", "attempt": 0, "crashes": 0}]


@BOTH
def test_the_first_signal_lets_the_running_job_finish_and_gives_the_others_back(
    queue: Queue, number: signal.Signals
) -> None:
    worker, job_id, behind = _start_with_jobs_claimed_ahead(queue)
    worker.send(number)
    wait_until(lambda: _untouched(queue, behind), "the claimed jobs are given back")
    assert queue.row(job_id)["status"] == "running"
    queue.open_gate()
    report = worker.finish()
    assert (report["succeeded"], report["given_back"]) == (201, 0)
    assert queue.job(job_id).result == "done"
    assert _untouched(queue, behind)
    assert queue.registered() == []


@BOTH
def test_the_second_signal_gives_the_running_job_back(queue: Queue, number: signal.Signals) -> None:
    worker, job_id, behind = _start_with_jobs_claimed_ahead(queue)
    worker.send(number)
    wait_until(lambda: "stopping" in worker.log, "the worker has noticed the first signal")
    worker.send(number)
    assert worker.finish()["given_back"] == 1  # long before the grace period is over
    row = queue.row(job_id)
    assert (row["status"], row["attempt"], row["crashes"], row["worker_id"]) == ("pending", 0, 0, None)
    assert _untouched(queue, behind)
    assert queue.registered() == []
    assert queue.errors(job_id) == []


def test_a_job_that_takes_longer_than_the_grace_period_is_given_back(queue: Queue) -> None:
    worker, job_id, behind = _start_with_jobs_claimed_ahead(queue, grace=0.5)
    before = time.monotonic()
    assert worker.stop()["given_back"] == 1
    assert time.monotonic() - before > 0.4
    row = queue.row(job_id)
    assert (row["status"], row["attempt"], row["crashes"]) == ("pending", 0, 0)
    assert _untouched(queue, behind)
    assert queue.registered() == []


def test_what_was_given_back_is_run_by_the_next_worker(queue: Queue) -> None:
    worker, job_id, _ = _start_with_jobs_claimed_ahead(queue, grace=0)
    worker.stop()
    queue.open_gate()
    queue.run()
    assert queue.statuses() == {"succeeded": 501}
    row = queue.row(job_id)
    assert (row["attempt"], row["crashes"]) == (1, 0)
    assert queue.calls_by_job()[job_id] == 2


@BOTH
def test_an_idle_worker_ends_at_once(queue: Queue, number: signal.Signals) -> None:
    worker = queue.start_idle(interval=60, concurrency=4)
    worker.send(number)
    worker.finish()  # long before the interval is over


def test_all_running_jobs_finish_after_the_first_signal(queue: Queue) -> None:
    ids = queue.enqueue_many("pass_gate", 4, "gate")
    worker = queue.start(concurrency=4)
    for job_id in ids:
        queue.wait_for_call(job_id)
    worker.send(signal.SIGTERM)
    wait_until(lambda: "stopping: 4 running jobs" in worker.log, "the worker has noticed")
    queue.open_gate()
    assert worker.finish()["succeeded"] == 4


def test_a_worker_that_drains_keeps_its_jobs(queue: Queue) -> None:
    job_id = queue.enqueue("pass_gate", "gate", "done")
    worker = queue.start(lease=1.2, heartbeat=0.3)
    queue.wait_for_call(job_id)
    other = queue.start(lease=1.2, heartbeat=0.3)
    worker.send(signal.SIGTERM)
    since = time.monotonic()
    wait_until(lambda: time.monotonic() - since > 2, "more than a lease has passed")
    queue.open_gate()
    assert worker.finish()["succeeded"] == 1
    assert other.stop()["succeeded"] == 0
    assert len(queue.calls()) == 1


def test_a_worker_outside_of_the_main_thread_ends_by_stop(queue: Queue) -> None:
    job_id = queue.enqueue("pass_gate", "gate", "done")
    worker = queue.start(in_a_thread=True)
    queue.wait_for_call(job_id)
    worker.send(signal.SIGTERM)
    wait_until(lambda: "stopping" in worker.log, "the worker has noticed")
    queue.open_gate()
    assert worker.finish()["succeeded"] == 1
    assert queue.registered() == []
