"""Drain no-op jobs with one worker process, against the raw loop."""

from __future__ import annotations

import time
from pathlib import Path

from durablejobs import DurableJobs, worker

from .. import raw
from ..processes import call
from ..results import Measurement, Run, in_turns, ratio

ALREADY_IMPORTED = worker
"""The app imports its worker at the first use, which is not to be a part of what is timed."""


def measure(run: Run) -> list[Measurement]:
    """Fill a file, then time the whole of `work(burst=True)`, registration and sign-off included."""
    count = run.sizes.drain_jobs

    def ours(concurrency: int) -> float:
        return call(drain, path=f"{run.fresh()}/jobs.db", count=count, concurrency=concurrency)

    def limit() -> float:
        return call(raw.claim_finish, path=f"{run.fresh()}/raw.db", count=count)

    one, four, base = in_turns(run.sizes.rounds, lambda: ours(1), lambda: ours(4), limit)
    run.series["drain"] = {"raw loop": base, "durablejobs, 1 thread": one, "durablejobs, 4 threads": four}
    return [ratio("drain_1", one, base), ratio("drain_4", four, base)]


def drain(path: str, count: int, concurrency: int) -> float:
    """Fill and drain a file; return jobs per second of the draining."""
    jobs = DurableJobs(path)
    register_noop(jobs)
    jobs.enqueue_many("noop", ((1, 2) for _ in range(count)))
    start = time.perf_counter()
    report = jobs.work(concurrency=concurrency, burst=True)
    took = time.perf_counter() - start
    assert report.succeeded == count, f"{report} after {count} jobs in {Path(path).name}"
    return count / took


def register_noop(jobs: DurableJobs) -> None:
    """Give the app the handler that does nothing."""

    @jobs.handler("noop")
    def noop(first: int, second: int) -> None:
        del first, second
