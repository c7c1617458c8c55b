"""Paused and limited queues with real workers."""

from __future__ import annotations

from contextlib import closing

import pytest

from durablejobs import DurableJobs, EnqueueOptions

from .harness import Queue

pytestmark = pytest.mark.conformance


def most_at_once(queue: Queue) -> int:
    """Return how many calls overlapped at most."""
    moments = [(call.moment, 1) for call in queue.calls("began")] + [(call.moment, -1) for call in queue.calls("ended")]
    running = most = 0
    for _, change in sorted(moments):
        running += change
        most = max(most, running)
    return most


def test_workers_never_run_more_of_a_limited_queue_than_allowed(queue: Queue) -> None:
    with closing(DurableJobs(queue.database)) as jobs:
        jobs.limit("default", 2)
    queue.enqueue_many("sleep", 30, 0.02)
    workers = [queue.start(concurrency=4) for _ in range(3)]
    queue.wait_until_all_ended()
    for worker in workers:
        worker.stop()
    assert queue.statuses() == {"succeeded": 30}
    assert most_at_once(queue) <= 2


@pytest.mark.conformance("and fast")
def test_a_running_worker_respects_a_pause_and_wakes_at_the_resume(queue: Queue) -> None:
    with closing(DurableJobs(queue.database)) as jobs:
        jobs.pause("mail")
        waiting = queue.enqueue("echo", 1, options=EnqueueOptions(queue="mail"))
        worker = queue.start(interval=60)
        other = queue.enqueue("echo", 2)
        queue.wait_for("succeeded", other)
        assert queue.job(waiting).status == "pending"
        jobs.resume("mail")
        queue.wait_for("succeeded", waiting)
    worker.stop()
