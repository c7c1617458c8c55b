"""`max_running` with real workers: never more at once, whatever happens to them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .harness import Queue, wait_until

pytestmark = pytest.mark.conformance


def most_at_once(queue: Queue, jobs: set[int], killed: set[int] = frozenset()) -> int:  # type: ignore[assignment]
    """Return how many calls overlapped at most; what a killed process began ended when it was killed."""
    ends: dict[tuple[int, int, int], float] = {(c.job, c.attempt, c.crashes): c.moment for c in queue.calls("ended")}
    changes = []
    for call in queue.calls("began"):
        if call.job in jobs and call.pid not in killed:
            changes += [(call.moment, 1), (ends[call.job, call.attempt, call.crashes], -1)]
    running = most = 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    return most


def enqueue(queue: Queue, tenant: str, count: int, *args: object) -> set[int]:
    """Enqueue as a program that knows no handlers."""
    return {queue.enqueue("limited", tenant, *args) for _ in range(count)}


def test_several_workers_never_run_more_of_a_key_than_allowed_and_all_jobs_end(queue: Queue) -> None:
    tenants = [enqueue(queue, tenant, 12, 0.02, True) for tenant in ("acme", "other", "third")]
    others = set(queue.enqueue_many("sleep", 20, 0.02))
    workers = [queue.start(concurrency=5) for _ in range(3)]
    assert queue.wait_until_all_ended(within=60) == {"succeeded": 56}
    for worker in workers:
        worker.stop()
    assert all(most_at_once(queue, ids) <= 2 for ids in tenants)
    assert len(queue.calls("began")) == 2 * 36 + len(others)


@pytest.mark.conformance("and fast")
def test_a_killed_worker_leaves_no_place_taken_and_the_limit_holds(queue: Queue) -> None:
    tenant = enqueue(queue, "acme", 12, 0.2)
    other = enqueue(queue, "other", 6, 0.2)
    doomed = queue.start(concurrency=4)
    wait_until(lambda: len(queue.calls()) >= 4, "all places are taken", within=60)
    rest = [queue.start(concurrency=4) for _ in range(2)]
    doomed.kill()
    queue.wait_until_all_ended(within=60)
    for worker in rest:
        worker.stop()
    assert queue.statuses() == {"succeeded": 18}
    assert most_at_once(queue, tenant, {doomed.pid}) <= 2
    assert most_at_once(queue, other, {doomed.pid}) <= 2


def test_a_full_key_in_front_blocks_nobody(queue: Queue) -> None:
    enqueue_by_sql = """
        WITH RECURSIVE numbers(number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < 10000)
        INSERT INTO jobs(handler, args, priority) SELECT 'limited', '["acme", 600]', 9 FROM numbers
    """
    queue.sql(enqueue_by_sql)
    behind = {*enqueue(queue, "other", 3, 0), queue.enqueue("echo", 1)}
    worker = queue.start(concurrency=4)
    queue.wait_for("succeeded", *behind, within=60)
    assert len([call for call in queue.calls("began") if call.job not in behind]) == 2
    worker.kill()


def test_the_checker_finds_workers_that_know_no_limit(queue: Queue) -> None:
    jobs = set(queue.enqueue_many("sleep", 12, 0.2))
    queue.run(concurrency=6)
    assert most_at_once(queue, jobs) > 2


def test_show_says_what_a_job_with_a_full_key_waits_for(queue: Queue) -> None:
    jobs = sorted(enqueue(queue, "acme", 3, 600))
    worker = queue.start(concurrency=4)
    queue.wait_for("running", *jobs[:2], within=60)
    command = [sys.executable, "-m", "durablejobs", "show", str(jobs[2]), "--db", queue.database]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "2 of 2 running for key acme" in shown
    worker.kill()
