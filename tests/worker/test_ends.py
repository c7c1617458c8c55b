"""When a worker ends by itself: nothing is left, or enough jobs have run."""

from __future__ import annotations

import threading
from typing import NoReturn

import pytest

from durablejobs import DurableJobs, EnqueueOptions
from durablejobs.statuses import Status

from .harness import Queue, wait_until

pytestmark = pytest.mark.conformance


def test_burst_ends_when_nothing_is_left(queue: Queue) -> None:
    queue.enqueue_many("echo", 50)
    report = queue.run(concurrency=4)
    assert report == {"succeeded": 50, "not_succeeded": 0, "lost": 0, "given_back": 0}
    assert queue.statuses() == {"succeeded": 50}
    assert queue.registered() == []


@pytest.mark.timeout(30, func_only=True)
def test_burst_on_an_empty_queue_ends_at_once(jobs: DurableJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only when the next poll or the next look for dead workers is due: here that would be in an hour."""
    monkeypatch.setattr("durablejobs.worker.RESCUE_EVERY", 3600)
    assert jobs.work(burst=True, interval=3600).runs == 0


def test_burst_leaves_what_is_due_later(queue: Queue) -> None:
    later = queue.enqueue("echo", options=EnqueueOptions(delay=3600))
    queue.enqueue("echo")
    assert queue.run()["succeeded"] == 1
    assert queue.row(later)["status"] == "scheduled"


def test_burst_waits_for_jobs_that_still_run(queue: Queue) -> None:
    queue.enqueue("sleep", 0.3)
    assert queue.run(concurrency=2)["succeeded"] == 1


def test_burst_runs_what_its_jobs_enqueue_meanwhile(queue: Queue) -> None:
    gate = queue.enqueue("pass_gate", "gate")
    worker = queue.start(burst=True, concurrency=2)
    queue.wait_for_call(gate)
    queue.enqueue_many("echo", 10)
    queue.open_gate()
    assert worker.finish()["succeeded"] == 11


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("most", [1, 3, 137])
def test_max_jobs_runs_exactly_so_many_and_leaves_the_rest_untouched(queue: Queue, concurrency: int, most: int) -> None:
    queue.enqueue_many("echo", 300)  # quick ones, so that many are claimed ahead
    worker = queue.start(max_jobs=most, concurrency=concurrency)
    assert worker.finish()["succeeded"] == most
    assert len(queue.calls()) == most
    assert queue.statuses() == {"succeeded": most, "pending": 300 - most}
    assert queue.sql("SELECT max(attempt) AS most FROM jobs WHERE status = 'pending'") == [{"most": 0}]


def test_max_jobs_waits_for_jobs_that_are_not_there_yet(queue: Queue) -> None:
    worker = queue.start_idle(max_jobs=2)
    assert worker.is_alive
    queue.enqueue_many("echo", 2)
    assert worker.finish()["succeeded"] == 2
    assert queue.statuses() == {"succeeded": 2, "pending": 1}


@pytest.mark.timeout(30, func_only=True)
@pytest.mark.parametrize("most", [1, 5, 12])
def test_max_jobs_is_for_whichever_lane_has_jobs(jobs: DurableJobs, most: int) -> None:
    """The lane of the threads, which could take them all, has none."""
    jobs.handler("threaded")(lambda: None)

    @jobs.handler
    async def on_the_loop() -> None: ...

    jobs.enqueue_many("on_the_loop", [()] * 20)
    assert jobs.work(max_jobs=most, concurrency=8).succeeded == most
    [default] = jobs.statistics()
    assert dict(default.counts) == {Status.SUCCEEDED: most, Status.PENDING: 20 - most}


def test_a_worker_signs_off_at_its_end(queue: Queue) -> None:
    worker = queue.start_idle(name="carol", concurrency=3, queues="default")
    [row] = queue.registered()
    assert (row["name"], row["pid"], row["concurrency"], row["queues"]) == ("carol", worker.pid, 3, "default")
    worker.stop()
    assert queue.registered() == []


@pytest.mark.parametrize("where", ["LaneBuilder.build", "Watchdog.start", "examine_surroundings", "Worker._maintain"])
def test_a_worker_that_is_interrupted_while_it_starts_leaves_nothing_behind(
    jobs: DurableJobs, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    jobs.handler("echo")(lambda: None)
    threads = set(threading.enumerate())
    monkeypatch.setattr(f"durablejobs.worker.{where}", interrupted)
    with pytest.raises(KeyboardInterrupt):
        jobs.work(concurrency=2)
    assert jobs.workers() == []
    wait_until(lambda: set(threading.enumerate()) <= threads, "no thread of it is left")


def test_the_heartbeat_is_written_in_the_register(queue: Queue) -> None:
    queue.start_idle(lease=1.2, heartbeat=0.1)
    first = queue.registered()[0]["heartbeat_at"]
    wait_until(lambda: queue.registered()[0]["heartbeat_at"] > first, "the heartbeat goes on")
