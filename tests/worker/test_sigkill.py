"""Workers that are killed: their jobs run again, soon, at nobody's expense."""

from __future__ import annotations

import random
import signal
import time

import pytest

from .harness import Queue, wait_until


def test_a_killed_workers_job_is_run_again_by_a_living_one_within_two_seconds(queue: Queue) -> None:
    job = queue.enqueue("pass_gate", "gate", "done")
    victim = queue.start(interval=60)
    queue.wait_for_call(job)
    queue.start(interval=60)
    wait_until(lambda: len(queue.registered()) == 2, "both workers are registered")
    killed_at = time.monotonic()
    victim.kill()
    wait_until(lambda: len(queue.calls(job=job)) == 2, "the job runs again")
    assert queue.calls(job=job)[1].moment - killed_at < 2
    queue.open_gate()
    queue.wait_for("succeeded", job)
    row = queue.row(job)
    assert (row["attempt"], row["crashes"]) == (2, 1)
    assert [error["kind"] for error in queue.errors(job)] == ["crash"]


def test_a_worker_that_starts_alone_takes_over_what_the_dead_ones_ran(queue: Queue) -> None:
    jobs = [queue.enqueue("pass_gate", "gate", "done") for _ in range(4)]
    victim = queue.start(concurrency=4)
    for job in jobs:
        queue.wait_for_call(job)
    victim.kill()
    queue.open_gate()
    assert queue.run(concurrency=4)["succeeded"] == 4
    assert [queue.row(job)["crashes"] for job in jobs] == [1, 1, 1, 1]
    assert queue.registered() == []


def test_jobs_that_were_only_claimed_are_not_punished(queue: Queue) -> None:
    queue.enqueue_many("echo", 200)  # teaches the worker that jobs are quick
    killer = queue.enqueue("die", "kill", 1)
    behind = queue.enqueue_many("echo", 200)
    queue.start().wait()
    queue.run()
    assert queue.statuses() == {"succeeded": 401}
    assert queue.row(killer)["crashes"] == 1
    where = "WHERE id BETWEEN ? AND ?"
    counts = queue.sql(f"SELECT DISTINCT attempt, crashes FROM jobs {where}", behind[0], behind[-1])
    assert counts == [{"attempt": 1, "crashes": 0}]


@pytest.mark.parametrize("how", ["exit", "kill", "segfault"])
def test_a_job_that_keeps_killing_its_worker_is_stopped_and_its_200_neighbours_succeed(queue: Queue, how: str) -> None:
    queue.enqueue_many("echo", 100)
    killer = queue.enqueue("die", how, 1000)
    queue.enqueue_many("echo", 100)
    for _ in range(5):
        assert queue.start(concurrency=4, burst=True).wait() != 0
    queue.run(concurrency=4)
    assert queue.statuses() == {"succeeded": 200, "failed": 1}
    row = queue.row(killer)
    assert (row["status"], row["crashes"]) == ("failed", 5)
    assert "stopped after 5 crashes" in row["error"]


def test_a_paused_workers_late_ending_changes_nothing(queue: Queue) -> None:
    job = queue.enqueue("pass_gate", "gate", "done")
    paused = queue.start(lease=1.2, heartbeat=0.3)
    queue.wait_for_call(job)
    paused.send(signal.SIGSTOP)
    queue.start(lease=1.2, heartbeat=0.3)
    wait_until(lambda: len(queue.calls(job=job)) == 2, "another worker runs the job")
    queue.open_gate()
    queue.wait_for("succeeded", job)
    settled = queue.row(job)
    paused.send(signal.SIGCONT)
    wait_until(lambda: "claim was lost" in paused.log, "the paused worker notices")
    assert queue.row(job) == settled
    another = queue.enqueue("echo", "still works")
    queue.wait_for("succeeded", another)


def test_a_busy_worker_is_not_taken_for_dead(queue: Queue) -> None:
    job = queue.enqueue("burn", 3.0)
    queue.start(lease=1.2, heartbeat=0.3)
    queue.wait_for_call(job)
    queue.start(lease=1.2, heartbeat=0.3)
    queue.wait_for("succeeded", job)
    assert len(queue.calls(job=job)) == 1


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_ten_thousand_jobs_survive_two_workers_that_are_killed_at_random(queue: Queue) -> None:
    chance = random.Random(7)
    workers = [queue.start(concurrency=4), queue.start(concurrency=4)]
    kills, enqueued = 0, 0
    give_up = time.monotonic() + 300
    while enqueued < 10_000 or queue.sql("SELECT 1 FROM jobs WHERE finished_at IS NULL LIMIT 1"):
        if enqueued < 10_000:
            queue.enqueue_many("echo", 100)
            queue.enqueue_many("sleep", 100, 0.001)
            enqueued += 200
        time.sleep(chance.uniform(0.02, 0.1))
        if chance.random() < 0.3:
            victim = chance.randrange(2)
            workers[victim].kill()
            workers[victim] = queue.start(concurrency=4)
            kills += 1
        assert time.monotonic() < give_up, queue.statuses()
    assert queue.statuses() == {"succeeded": 10_000}
    calls = queue.calls_by_job()
    assert len(calls) == 10_000
    assert kills > 5
    # Each kill can repeat what ran and what was not yet settled: slots and one batch of the read-ahead.
    assert sum(calls.values()) - 10_000 <= kills * 600
