"""The memory of a worker over many jobs."""

from __future__ import annotations

import os
from pathlib import Path

from durablejobs import DurableJobs

from ..processes import call
from ..results import Measurement, Run


def measure(run: Run) -> list[Measurement]:
    """Resident memory, read by the handler of the job at a quarter of the way and of the last one.

    At the quarter the page cache of SQLite (8 MB) is full, which takes some 40,000 jobs.
    """
    count = run.sizes.memory_jobs
    path = f"{run.fresh()}/jobs.db"
    call(fill, path=path, count=count)
    early, late = call(drain, path=path, count=count)
    note = f"{count:,} jobs: {early:.1f} MB after a quarter, {late:.1f} MB at the end"
    details = {"early": early, "late": late}
    return [
        Measurement("memory_end", late, note=note, details=details),
        Measurement("memory_growth", late / early, note=note, details=details),
    ]


def fill(path: str, count: int) -> None:
    """Enqueue the jobs."""
    DurableJobs(path).enqueue_many("noop", ((1, 2) for _ in range(count)))


def drain(path: str, count: int) -> tuple[float, float]:
    """Run all jobs; return the resident megabytes at a quarter of them and at the last."""
    jobs = DurableJobs(path)
    done = 0
    found: list[float] = []

    @jobs.handler("noop")
    def noop(first: int, second: int) -> None:
        nonlocal done
        del first, second
        done += 1
        if done in (count // 4, count):
            found.append(_resident())

    jobs.work(concurrency=1, burst=True)
    return found[0], found[1]


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
