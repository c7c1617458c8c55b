"""Several worker processes on one file, against one."""

from __future__ import annotations

import statistics
import time

from durablejobs import DurableJobs

from ..processes import StartingLine, call, start
from ..results import Measurement, Run, in_turns, ratio
from .drain import register_noop

BURN = 0.002
PROCESSES = (1, 2, 4, 8)


def measure(run: Run) -> list[Measurement]:
    """The rate counts from the common start to the end of the last worker."""
    sizes = run.sizes
    idle_turns = [lambda count=count: drain_with(run, count, "noop", sizes.scaling_jobs) for count in PROCESSES]
    burning_turns = [lambda count=count: drain_with(run, count, "burn", sizes.burning_jobs) for count in (1, 2)]
    one, two, four, eight = in_turns(sizes.scaling_rounds, *idle_turns)
    burn_one, burn_two = in_turns(sizes.scaling_rounds, *burning_turns)
    run.series["workers"] = {
        "processes": PROCESSES,
        "noop": [statistics.median(rates) for rates in (one, two, four, eight)],
        "burn": [statistics.median(rates) for rates in (burn_one, burn_two)],
    }
    return [
        ratio("workers_2", two, one),
        ratio("workers_4", four, one),
        ratio("workers_8", eight, one),
        ratio("workers_burning", burn_two, burn_one),
    ]


def drain_with(run: Run, processes: int, handler: str, count: int, database: str | None = None) -> float:
    """Drain a database, by default a new file, with so many worker processes; return the rate of all together."""
    place = run.fresh()
    path = database or f"{place}/jobs.db"
    call(fill, path=path, handler=handler, count=count)
    line = StartingLine(f"{place}/start")
    children = [start(work, path=path, line=f"{place}/start") for _ in range(processes)]
    begin = line.open(processes)
    reports = [child.result() for child in children]
    done = sum(succeeded for succeeded, _ in reports)
    assert done == count, f"{done} of {count} jobs"
    return count / (max(end for _, end in reports) - begin)


def _app(path: str) -> DurableJobs:
    jobs = DurableJobs(path)
    register_noop(jobs)

    @jobs.handler("burn")
    def burn(first: int, second: int) -> None:
        del first, second
        until = time.thread_time() + BURN
        while time.thread_time() < until:
            pass

    return jobs


def fill(path: str, handler: str, count: int) -> None:
    """Make the tables and enqueue the jobs."""
    jobs = _app(path)
    jobs.migrate()
    jobs.enqueue_many(handler, ((1, 2) for _ in range(count)))


def work(path: str, line: str) -> tuple[int, float]:
    """Help to drain the file; return how many jobs succeeded here, and when the last one had."""
    jobs = _app(path)
    jobs.statistics()  # opens the file
    StartingLine(line).wait()
    report = jobs.work(concurrency=1, burst=True)
    return report.succeeded, time.monotonic()
