"""Drain a number of jobs out of a large backlog, against the same number in a file of their own."""

from __future__ import annotations

import time

from durablejobs import DurableJobs
from durablejobs.config import FOREVER, Retention

from .. import histories
from ..processes import call
from ..results import Measurement, Run, in_turns, ratio
from .drain import register_noop

QUEUES = 50
KEEP_ALL = {"succeeded": FOREVER, "cancelled": FOREVER, "failed": FOREVER}


def measure(run: Run) -> list[Measurement]:
    """One large file for all turns, a fresh one for each turn of the other side."""
    sizes = run.sizes
    large = f"{run.fresh()}/jobs.db"
    call(build, path=large, finished=sizes.backlog_finished, pending=sizes.backlog_pending, future=sizes.backlog_future)
    count = sizes.backlog_drained

    def empty_file() -> float:
        return call(drain_some, path=f"{run.fresh()}/jobs.db", count=count, queues=1)

    def file_of_queues() -> float:
        return call(drain_some, path=f"{run.fresh()}/jobs.db", count=count, queues=QUEUES)

    def large_file() -> float:
        return call(drain_some, path=large, count=count, queues=0)

    turns = max(1, min(sizes.rounds, sizes.backlog_pending // (2 * count)))
    ours, queues, base = in_turns(turns, large_file, file_of_queues, empty_file)
    note = (
        f"{sizes.backlog_finished:,} finished, {sizes.backlog_pending:,} pending, {sizes.backlog_future:,} future, "
        f"{QUEUES} queues; {count:,} drained"
    )
    return [
        ratio("drain_backlog", ours, base, note),
        ratio("drain_backlog_queues", ours, queues, "as many queues there: what is left is the size"),
    ]


def build(path: str, finished: int, pending: int, future: int) -> None:
    """Make the large file, or database."""
    histories.create(path)
    histories.add_finished(path, finished, QUEUES)
    histories.add_waiting(path, pending, future, QUEUES)


def drain_some(path: str, count: int, queues: int) -> float:
    """Run so many jobs of what is pending, or of those put into so many queues before; return the rate."""
    jobs = DurableJobs(path)
    register_noop(jobs)
    if queues == 1:
        jobs.migrate()
        jobs.enqueue_many("noop", ((1, 2) for _ in range(count)))
    elif queues:
        histories.create(path)
        histories.add_waiting(path, count, 0, queues)
    start = time.perf_counter()
    report = jobs.work(concurrency=1, max_jobs=count, retention=Retention(**KEEP_ALL))
    took = time.perf_counter() - start
    assert report.succeeded == count, f"{report} for {count} jobs"
    return count / took
