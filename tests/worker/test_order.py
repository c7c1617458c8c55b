"""Which jobs run, in which order, and how many at once."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from durablejobs import EnqueueOptions

from .harness import Queue, wait_until

pytestmark = pytest.mark.conformance


def test_one_at_a_time_jobs_run_by_priority_then_id(queue: Queue) -> None:
    priorities = [random.randint(-3, 3) for _ in range(40)]
    ids = [queue.enqueue("echo", options=EnqueueOptions(priority=priority)) for priority in priorities]
    report = queue.run(concurrency=1)
    expected = sorted(zip(priorities, ids, strict=True), key=lambda each: (-each[0], each[1]))
    assert [call.job for call in queue.calls()] == [job_id for _, job_id in expected]
    assert report["succeeded"] == 40


def test_queues_served_together_run_by_priority_then_id_across_queues(queue: Queue) -> None:
    ids = [queue.enqueue("echo", options=EnqueueOptions(queue=name)) for name in ("b", "a", "c", "a", "b")]
    first = queue.enqueue("echo", options=EnqueueOptions(queue="z", priority=1))
    queue.run()
    assert [call.job for call in queue.calls()] == [first, *ids]


def test_four_slots_run_four_jobs_at_the_same_time(queue: Queue) -> None:
    queue.enqueue_many("meet", 4)  # each waits until all four have come
    assert queue.run(concurrency=4)["succeeded"] == 4


def test_never_more_jobs_run_at_once_than_there_are_slots(queue: Queue) -> None:
    queue.enqueue_many("sleep", 40, 0.01)
    queue.run(concurrency=3)
    changes = [(call.moment, 1) for call in queue.calls("began")] + [(c.moment, -1) for c in queue.calls("ended")]
    running, most = 0, 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    assert most == 3


def test_a_strict_queue_goes_first_to_its_end(queue: Queue) -> None:
    later = queue.enqueue_many("echo", 30, queue="later")
    sooner = queue.enqueue_many("echo", 30, queue="sooner")
    queue.run(queues="sooner,later")
    assert [call.job for call in queue.calls()] == [*sooner, *later]


@pytest.mark.parametrize("seconds", [0, 0.001, 0.01])
@pytest.mark.parametrize(("heavy", "light"), [(3, 1), (9, 1), (1, 1)])
def test_weighted_queues_get_their_shares_however_quick_their_jobs_are(
    queue: Queue, heavy: int, light: int, seconds: float
) -> None:
    ids = queue.enqueue_many("sleep", 400, seconds, queue="heavy")
    queue.enqueue_many("sleep", 400, seconds, queue="light")
    runs = 100 if seconds == 0.01 else 400
    assert queue.start(queues=f"heavy={heavy},light={light}", max_jobs=runs).finish()["succeeded"] == runs
    share = sum(call.job in ids for call in queue.calls()) / runs
    assert abs(share - heavy / (heavy + light)) < 0.02


def test_what_a_weighted_queue_leaves_over_goes_to_the_others(queue: Queue) -> None:
    queue.enqueue_many("echo", 5, queue="heavy")
    queue.enqueue_many("echo", 300, queue="light")
    assert queue.run(queues="heavy=3,light=1,empty=2")["succeeded"] == 305


@pytest.mark.parametrize("queues", ["mail", "mail,bulk", "mail=2,bulk=1"])
def test_only_named_queues_are_served(queue: Queue, queues: str) -> None:
    others = queue.enqueue_many("echo", 5, queue="other")
    queue.enqueue_many("echo", 5, queue="mail")
    assert queue.run(queues=queues)["succeeded"] == 5
    assert {(queue.row(each)["status"], queue.row(each)["attempt"]) for each in others} == {("pending", 0)}


def test_a_worker_does_not_spin_while_only_other_queues_have_jobs(queue: Queue) -> None:
    queue.enqueue_many("echo", 5, queue="other")
    worker = queue.start_idle(queues="mail")
    before = worker.cpu_seconds()
    queue.wait_for("succeeded", _job_after(queue, seconds=1))
    assert worker.cpu_seconds() - before < 0.5


def _job_after(queue: Queue, seconds: float) -> int:
    return queue.enqueue("echo", options=EnqueueOptions(queue="mail", delay=seconds))


def test_two_workers_share_the_jobs_and_run_each_once(queue: Queue) -> None:
    ids = queue.enqueue_many("sleep", 60, 0.01)
    workers = [queue.start(concurrency=2) for _ in range(2)]
    assert queue.wait_until_all_ended() == {"succeeded": 60}
    reports = [worker.stop() for worker in workers]
    assert queue.calls_by_job() == Counter(ids)
    assert sum(report["succeeded"] for report in reports) == 60
    assert {call.pid for call in queue.calls()} == {worker.pid for worker in workers}
    wait_until(lambda: queue.registered() == [], "both have signed off")


def test_slow_jobs_claimed_ahead_after_fast_ones_are_given_back_for_another_worker(queue: Queue) -> None:
    queue.enqueue_many("echo", 2000)  # teaches the first worker that jobs are quick
    queue.enqueue_many("sleep", 10, 0.2)
    first = queue.start()
    wait_until(lambda: queue.calls(handler="sleep"), "the first worker has come to the slow jobs")
    second = queue.start()
    queue.wait_until_all_ended()
    assert len({call.pid for call in queue.calls(handler="sleep")}) == 2
    first.stop()
    second.stop()
