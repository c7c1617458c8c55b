"""Slow jobs on two idle workers: does one of them take more than it can run while the other has nothing?"""

from __future__ import annotations

import os
import time
from collections import Counter

from durablejobs import DurableJobs
from durablejobs.store import Store

from ..processes import call, start
from ..results import Measurement, Run
from .drain import register_noop

SLOW = 0.1
FAST_JOBS = 2000


def measure(run: Run) -> list[Measurement]:
    """All jobs are enqueued at once to idle workers; the second time behind many fast ones."""
    return [_measure(run, "hoarding", 0), _measure(run, "hoarding_after_fast", FAST_JOBS)]


def _measure(run: Run, name: str, fast: int) -> Measurement:
    slow = run.sizes.slow_jobs
    path = f"{run.fresh()}/jobs.db"
    call(create, path=path)
    workers = [start(work, path=path) for _ in range(2)]
    try:
        took, shares, ends = call(feed, path=path, slow=slow, fast=fast)
    finally:
        for worker in workers:
            worker.stop()
    ideal = slow * SLOW / 2
    note = f"{'/'.join(str(share) for share in shares)} jobs each; the first to finish did after {min(ends):.2f} s"
    details = {"took": took, "ideal": ideal, "shares": shares, "ends": ends}
    return Measurement(name, took / ideal, note=note, details=details)


def _app(path: str) -> DurableJobs:
    jobs = DurableJobs(path)
    register_noop(jobs)

    @jobs.handler("slow")
    def slow() -> list[float]:
        began = time.monotonic()
        time.sleep(SLOW)
        return [os.getpid(), began, time.monotonic()]

    return jobs


def create(path: str) -> None:
    """Make the file."""
    _app(path).migrate()


def work(path: str) -> None:
    """Run jobs one at a time until stopped."""
    _app(path).work(concurrency=1)


def feed(path: str, slow: int, fast: int) -> tuple[float, list[int], list[float]]:
    """Enqueue when both workers are idle; return the seconds from the first slow start to the last end, and more."""
    jobs = _app(path)
    store = Store(path)
    while len(store.workers.records()) < 2:
        time.sleep(0.02)
    time.sleep(0.3)
    jobs.enqueue_many("noop", ((1, 2) for _ in range(fast)))
    jobs.enqueue_many("slow", (() for _ in range(slow)))
    enqueued = time.monotonic()
    while sum(sum(queue.counts.values()) - queue.counts.get("succeeded", 0) for queue in jobs.statistics()):
        time.sleep(0.05)
    runs = [job.result for job in jobs.list_jobs(limit=slow)]
    begin = min(began for _, began, _ in runs) if fast else enqueued
    shares = Counter(pid for pid, _, _ in runs)
    ends = {pid: max(ended for owner, _, ended in runs if owner == pid) - begin for pid in shares}
    return max(ends.values()), list(shares.values()), list(ends.values())
