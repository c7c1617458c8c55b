"""Minutes of faults, shares and growth: `pytest -m slow`."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from .harness import Call, Queue, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


class Trouble:
    """Keeps some workers running and does harm to them at random, until told to leave them alone."""

    def __init__(self, queue: Queue, workers: int, harm: Callable[[Trouble, int], None], **options: object) -> None:
        self.queue = queue
        self.options = options
        self.workers = [queue.start(**options) for _ in range(workers)]
        self.harmed: list[tuple[int, float]] = []
        """Process ids and moments of what was done."""
        self._harm = harm
        self._stopped = threading.Event()
        self._error: BaseException | None = None

    def kill(self, which: int) -> None:
        """End a worker as `kill -9` does and start another."""
        worker = self.workers[which]
        assert worker.is_alive, worker.log
        self.harmed.append((worker.pid, time.monotonic()))
        worker.kill()
        self.workers[which] = self.queue.start(**self.options)

    def pause(self, which: int, seconds: float) -> None:
        """Stop a worker for so long."""
        worker = self.workers[which]
        self.harmed.append((worker.pid, time.monotonic()))
        worker.send(signal.SIGSTOP)
        self._stopped.wait(seconds)
        worker.send(signal.SIGCONT)

    def _run(self) -> None:
        try:
            while not self._stopped.wait(random.uniform(0.2, 0.8)):
                self._harm(self, random.randrange(len(self.workers)))
        except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
            self._error = error

    @contextmanager
    def going_on(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            thread.join()
        if self._error is not None:
            raise self._error


def _enqueue_in_batches(queue: Queue, count: int, most_seconds: float) -> None:
    """Enqueue jobs of 0 to `most_seconds` seconds, some hundred at a time, while the workers run."""
    for _ in range(count // 200):
        items = [(random.uniform(0, most_seconds),) for _ in range(200)]
        queue.jobs.enqueue_many("sleep", items)


def _check_that_all_is_in_order(queue: Queue, count: int) -> None:
    assert queue.statuses() == {"succeeded": count}
    assert len(queue.calls_by_job()) == count
    for worker in queue.workers:
        if worker.is_alive:
            worker.stop()
    assert queue.registered() == []
    queue.check_integrity()
    indexed = queue.sql("SELECT count(*) AS jobs FROM jobs INDEXED BY ix_jobs_finished WHERE finished_at IS NOT NULL")
    assert indexed == [{"jobs": count}]


def _repeated(queue: Queue) -> dict[int, list[Call]]:
    """The calls of the jobs that were called more than once."""
    calls: defaultdict[int, list[Call]] = defaultdict(list)
    for call in queue.calls():
        calls[call.job].append(call)
    return {job_id: each for job_id, each in calls.items() if len(each) > 1}


def test_ten_thousand_jobs_survive_workers_that_are_killed_all_the_time(
    queue: Queue, record_property: Callable[[str, object], None]
) -> None:
    concurrency = 2
    trouble = Trouble(queue, 2, Trouble.kill, concurrency=concurrency, max_crashes=20)
    with trouble.going_on():
        _enqueue_in_batches(queue, 10_000, 0.012)
        queue.wait_until_all_ended(within=300)
    _check_that_all_is_in_order(queue, 10_000)
    repeated = _repeated(queue)
    killed = {pid for pid, _ in trouble.harmed}
    twice = sum(len(calls) - 1 for calls in repeated.values())
    crashes = queue.sql("SELECT sum(crashes) AS crashes FROM jobs")[0]["crashes"]
    record_property("kills", len(killed))
    record_property("calls_repeated", twice)
    assert len(killed) >= 10
    for calls in repeated.values():  # every call but the last was by a worker that was killed
        assert {call.pid for call in calls[:-1]} <= killed
    # A kill can repeat what runs, and what has run since the last commit: a read-ahead is 0.03 s of work.
    assert max(Counter(call.pid for calls in repeated.values() for call in calls[:-1]).values()) <= concurrency + 30
    assert crashes <= concurrency * len(killed)
    assert crashes == queue.sql("SELECT count(*) AS errors FROM job_errors WHERE kind = 'crash'")[0]["errors"]


def _effects_after_kills(queue: Queue, jobs: int, planted: str | None) -> Counter[int]:
    """Let workers that are killed all the time run jobs with an effect; return how many jobs have how many effects."""
    queue.sql("CREATE TABLE effects(job INTEGER)")
    trouble = Trouble(queue, 2, Trouble.kill, concurrency=2, max_crashes=20, planted=planted)
    with trouble.going_on():
        queue.enqueue_many("write_effect", jobs)
        queue.wait_until_all_ended(within=300)
    assert queue.statuses() == {"succeeded": jobs}
    assert len(trouble.harmed) >= 5
    return Counter(row["n"] for row in queue.sql("SELECT count(*) AS n FROM effects GROUP BY job"))


def test_effects_in_the_jobs_transaction_are_there_once_although_workers_are_killed_all_the_time(
    queue: Queue, record_property: Callable[[str, object], None]
) -> None:
    effects = _effects_after_kills(queue, 4000, planted=None)
    record_property("calls", len(queue.calls()))
    assert len(queue.calls()) > 4000
    assert effects == {1: 4000}


def test_the_kill_loop_finds_an_ending_that_is_written_in_a_second_transaction(queue: Queue) -> None:
    effects = _effects_after_kills(queue, 4000, planted="ending and effect in two transactions")
    assert effects[2] > 0


def test_workers_that_are_paused_for_longer_than_their_lease_do_no_harm(
    queue: Queue, record_property: Callable[[str, object], None]
) -> None:
    def pause(trouble: Trouble, which: int) -> None:
        trouble.pause(which, random.uniform(1.2, 2.5))

    trouble = Trouble(queue, 3, pause, concurrency=2, lease=1, heartbeat=0.3, max_crashes=20)
    with trouble.going_on():
        _enqueue_in_batches(queue, 6000, 0.02)
        queue.wait_until_all_ended(within=300)
    paused = {pid for pid, _ in trouble.harmed}
    assert all(worker.is_alive for worker in trouble.workers)
    reports = [worker.stop() for worker in trouble.workers]
    _check_that_all_is_in_order(queue, 6000)
    repeated = _repeated(queue)
    assert len(trouble.harmed) >= 3
    record_property("pauses", len(trouble.harmed))
    record_property("calls_repeated", sum(len(calls) - 1 for calls in repeated.values()))
    assert sum(report["succeeded"] for report in reports) == 6000
    # Who called a job in vain was paused, or the machine let it wait for longer than its lease. It need not be the
    # first caller: a worker may wake up and begin a job that another one has rescued and run meanwhile.
    called_again = Counter(call.pid for calls in repeated.values() for call in calls)
    for worker, report in zip(trouble.workers, reports, strict=True):
        assert report["lost"] <= called_again[worker.pid]
    for calls in repeated.values():
        assert {call.pid for call in calls} & paused


def test_workers_that_are_killed_and_paused_while_jobs_fail_and_snooze_end_every_job(queue: Queue) -> None:
    def harm(trouble: Trouble, which: int) -> None:
        if random.random() < 0.5:
            trouble.kill(which)
        else:
            trouble.pause(which, random.uniform(0.2, 2))

    options = {"concurrency": 3, "lease": 1, "heartbeat": 0.3, "backoff": 0.05, "max_crashes": 20}
    trouble = Trouble(queue, 3, harm, **options)
    with trouble.going_on():
        for _ in range(20):
            queue.jobs.using(max_attempts=3).enqueue_many("fail_until", [(3,)] * 50)
            queue.jobs.using(max_attempts=2).enqueue_many("raise_retry", [(0.05, 99)] * 50)
            queue.jobs.enqueue_many("sleep", [(0.02,)] * 50)
            queue.jobs.enqueue_many("raise_cancel", [()] * 10)
        queue.wait_until_all_ended(within=200)
    assert queue.statuses() == {"succeeded": 2000, "failed": 1000, "cancelled": 200}
    assert queue.sql("SELECT count(*) AS wrong FROM jobs WHERE attempt - crashes > max_attempts") == [{"wrong": 0}]
    for worker in trouble.workers:
        worker.stop()
    assert queue.registered() == []


def test_two_workers_share_slow_jobs_evenly(queue: Queue, record_property: Callable[[str, object], None]) -> None:
    for _ in range(2):
        queue.start_idle()
    before = time.monotonic()
    queue.enqueue_many("sleep", 100, 0.1)
    queue.wait_until_all_ended(within=60)
    took = time.monotonic() - before
    record_property("seconds", took)
    shares = Counter(call.pid for call in queue.calls(handler="sleep"))
    assert min(shares.values()) >= 35  # alone 49 or 50; neither has hoarded


def test_slow_jobs_that_were_claimed_ahead_after_fast_ones_are_left_to_an_idle_worker(queue: Queue) -> None:
    for _ in range(2):
        queue.start_idle()
    queue.enqueue_many("echo", 1500)  # teaches both that jobs are quick
    slow = queue.enqueue_many("sleep", 20, 0.3)
    queue.wait_for_call(slow[0])
    queue.wait_until_all_ended(within=60)
    calls = [call for call in queue.calls() if call.job in slow]
    shares = Counter(call.pid for call in calls)
    assert len(calls) == 20
    assert min(shares.values()) >= 7
    ended = max(call.moment for call in queue.calls("ended") if call.job in slow)
    assert ended - min(call.moment for call in calls) < 10 * 0.3 * 1.3


def test_a_worker_does_not_grow(queue: Queue, record_property: Callable[[str, object], None]) -> None:
    worker = queue.start(concurrency=2)

    def run(count: int) -> int:
        done = queue.statuses().get("succeeded", 0)
        queue.enqueue_many("nothing", count)
        wait_until(lambda: queue.statuses().get("succeeded", 0) == done + count, "they have run", 200, every=0.1)
        return worker.resident_bytes()

    after_some, after_many = run(20_000), run(180_000)
    record_property("megabytes", (after_some / 1e6, after_many / 1e6))
    assert after_many - after_some < 15e6


def test_the_log_of_sqlite_does_not_grow_without_end(queue: Queue) -> None:
    worker = queue.start(concurrency=2)
    largest = 0
    for _ in range(20):
        queue.enqueue_many("nothing", 5000)
        largest = max(largest, (queue.directory / "jobs.db-wal").stat().st_size)
    queue.wait_until_all_ended(within=120)
    worker.stop()
    assert largest < 100e6
