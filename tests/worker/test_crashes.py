"""A worker is killed: what it ran runs again within seconds, and what it had only claimed was never touched."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from .harness import Queue, wait_until

pytestmark = pytest.mark.conformance

LONG_LEASE = {"lease": 3600.0, "interval": 3600.0}
"""What is recovered before anybody's patience is over was not recovered because a lease ended, nor by the poll. The aim
is 2 s, usually it is half a second; a busy machine is no reason to fail."""


@pytest.mark.conformance("and fast")
def test_a_living_worker_takes_over_what_a_killed_one_ran(
    queue: Queue, record_property: Callable[[str, object], None]
) -> None:
    killed = queue.start(**LONG_LEASE)
    job_id = queue.enqueue("pass_gate", "gate", "done")
    queue.wait_for_call(job_id)
    queue.start(**LONG_LEASE)
    wait_until(lambda: len(queue.registered()) == 2, "the second worker is there")
    killed_at = time.monotonic()
    killed.kill()
    second = queue.wait_for_call(job_id, number=2)
    record_property("recovery_seconds", second.moment - killed_at)
    queue.open_gate()
    queue.wait_for("succeeded", job_id)
    assert (second.attempt, second.crashes) == (2, 1)
    job, [error] = queue.job(job_id), queue.errors(job_id)
    assert (job.attempt, job.crashes, job.spent_attempts, job.result) == (2, 1, 1, "done")
    assert (error["kind"], error["attempt"]) == ("crash", 1)
    assert "its worker died" in error["message"]
    assert len(queue.registered()) == 1


def test_a_crash_does_not_spend_the_last_attempt(queue: Queue) -> None:
    job_id = queue.jobs.using(max_attempts=1).enqueue("die", "kill", 1).id
    assert queue.start().wait() == -9
    queue.run()
    job = queue.job(job_id)
    assert (job.status, job.result, job.attempt, job.crashes) == ("succeeded", "survived", 2, 1)


def test_attempts_are_counted_without_the_crashes(queue: Queue) -> None:
    job_id = queue.jobs.using(max_attempts=2).enqueue("die", "kill", 2).id
    for _ in range(2):
        assert queue.start().wait() == -9
    queue.sql("UPDATE jobs SET handler = 'raise_retry', args = '[0, 99]' WHERE id = ?", job_id)
    queue.start()
    queue.wait_for("failed", job_id)
    row = queue.row(job_id)
    assert (row["attempt"], row["crashes"]) == (4, 2)
    assert [error["kind"] for error in queue.errors(job_id)] == ["crash", "crash", "retry", "retry"]


def test_a_worker_that_starts_later_alone_recovers_everything(queue: Queue) -> None:
    running = queue.enqueue_many("pass_gate", 6, "gate")
    workers = [queue.start(concurrency=2, **LONG_LEASE) for _ in range(3)]
    for job_id in running:
        queue.wait_for_call(job_id)
    for worker in workers:
        worker.kill()
    assert queue.statuses() == {"running": 6}
    queue.open_gate()
    queue.run(**LONG_LEASE)
    assert queue.statuses() == {"succeeded": 6}
    assert queue.sql("SELECT DISTINCT attempt, crashes FROM jobs") == [{"attempt": 2, "crashes": 1}]
    assert queue.registered() == []


def test_jobs_that_were_only_claimed_come_back_untouched(queue: Queue) -> None:
    queue.enqueue_many("echo", 200)  # teaches the worker to claim ahead
    deadly = queue.enqueue("die", "kill", 1)
    behind = queue.enqueue_many("echo", 300)
    assert queue.start().wait() == -9
    claimed = queue.sql("SELECT count(*) AS jobs FROM jobs WHERE status = 'running' AND id > ?", deadly)[0]["jobs"]
    assert claimed > 0
    queue.run()
    assert queue.statuses() == {"succeeded": 501}
    rows = queue.sql("SELECT DISTINCT attempt, crashes FROM jobs WHERE id BETWEEN ? AND ?", behind[0], behind[-1])
    assert rows == [{"attempt": 1, "crashes": 0}]
    row = queue.row(deadly)
    assert (row["attempt"], row["crashes"]) == (2, 1)
    calls = queue.calls_by_job()
    assert {calls[each] for each in behind} == {1}


def test_each_of_the_jobs_that_were_running_is_marked_as_crashed(queue: Queue) -> None:
    running = queue.enqueue_many("pass_gate", 3, "gate")
    worker = queue.start(concurrency=3)
    for job_id in running:
        queue.wait_for_call(job_id)
    claimed_only = queue.enqueue_many("echo", 5)
    worker.kill()
    queue.open_gate()
    queue.run(concurrency=3)
    assert {queue.row(each)["crashes"] for each in running} == {1}
    assert {queue.row(each)["crashes"] for each in claimed_only} == {0}


def test_a_crash_is_recorded_with_its_worker_and_its_moment(queue: Queue) -> None:
    worker = queue.start()
    job_id = queue.enqueue("pass_gate", "gate")
    queue.wait_for_call(job_id)
    [registered] = queue.registered()
    worker.kill()
    queue.open_gate()
    queue.run()
    [error] = queue.errors(job_id)
    assert error["worker_id"] == registered["id"]
    assert error["started_at"] <= error["ended_at"]
    assert error["traceback"] is None


@pytest.mark.sqlite("there is one write lock")
def test_a_worker_that_dies_with_the_write_lock_does_not_stop_the_others(queue: Queue) -> None:
    job_id = queue.enqueue("lock_database", str(queue.path))
    killed = queue.start(**LONG_LEASE)
    queue.wait_for_call(job_id, event="locked")
    killed.kill()
    queue.run(busy_timeout=3600, **LONG_LEASE)
    assert queue.row(job_id)["status"] == "succeeded"


def test_two_living_workers_rescue_each_job_once(queue: Queue) -> None:
    job_id = queue.enqueue("pass_gate", "gate")
    killed = queue.start()
    queue.wait_for_call(job_id)
    for _ in range(3):
        queue.start(interval=60)
    wait_until(lambda: len(queue.registered()) == 4, "the others are there")
    killed.kill()
    queue.wait_for_call(job_id, number=2)
    queue.open_gate()
    queue.wait_for("succeeded", job_id)
    assert queue.row(job_id)["crashes"] == 1
    assert len(queue.errors(job_id)) == 1
    assert len(queue.calls()) == 2


@pytest.mark.sqlite("a file has links")
@pytest.mark.parametrize("link", ["file", "directory"])
def test_a_worker_that_came_by_a_symbolic_link_takes_no_living_one_for_dead(queue: Queue, link: str) -> None:
    job_id = queue.enqueue("pass_gate", "gate")
    queue.start()
    queue.wait_for_call(job_id)
    if link == "file":
        linked = queue.directory / "link.db"
        linked.symlink_to(queue.path)
    else:
        (queue.directory / "link").symlink_to(queue.directory)
        linked = queue.directory / "link" / "jobs.db"
    other = queue.start(database=linked)
    proof = queue.enqueue("echo")
    queue.wait_for("succeeded", proof)
    since = time.monotonic()
    wait_until(lambda: time.monotonic() - since > 1.2, "it has looked for dead workers twice")
    assert len(queue.calls(job=job_id)) == 1
    assert len(queue.registered()) == 2
    queue.open_gate()
    queue.wait_for("succeeded", job_id)
    assert queue.row(job_id)["crashes"] == 0
    other.stop()


@pytest.mark.sqlite("its lock file lies beside it")
@pytest.mark.parametrize("how", ["removed", "emptied"])
def test_a_worker_whose_lock_file_was_removed_is_not_taken_for_dead(queue: Queue, how: str) -> None:
    job_id = queue.enqueue("pass_gate", "gate")
    queue.start()
    queue.wait_for_call(job_id)
    lock_file = queue.directory / "jobs.db-lock"
    if how == "removed":
        lock_file.unlink()
    else:
        lock_file.write_bytes(b"")
    queue.start(interval=60)
    wait_until(lambda: len(queue.registered()) == 2, "another worker is there")
    since = time.monotonic()
    wait_until(lambda: time.monotonic() - since > 1.2, "it has looked for dead workers twice")
    assert len(queue.registered()) == 2
    queue.open_gate()
    queue.wait_for("succeeded", job_id)
    assert len(queue.calls(job=job_id)) == 1
    assert queue.row(job_id)["crashes"] == 0
