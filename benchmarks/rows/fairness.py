"""Six processes write as fast as they can: how long does one wait at worst, and does each get its share?"""

from __future__ import annotations

import time

from durablejobs import DurableJobs
from durablejobs.store import Store

from ..processes import StartingLine, start
from ..results import Measurement, Run
from .drain import register_noop

WRITERS = 6
HOLD = 0.003


def measure(run: Run) -> list[Measurement]:
    """Once with plain enqueues, once with transactions that hold the write lock for 3 ms."""
    rows = []
    for name, writer in (("fairness", enqueue), ("fairness_slow", hold)):
        counts, waits = _compete(run, writer)
        details = {"writes": counts, "worst_waits_ms": [1000 * wait for wait in waits]}
        note = f"{run.sizes.fairness_seconds:g} s, {min(counts):,}–{max(counts):,} writes each"
        worst = 1000 * max(waits)
        rows.append(Measurement(f"{name}_wait", worst, 1000 * min(waits), worst, note, details))
        share = max(counts) / max(1, min(counts))
        rows.append(Measurement(f"{name}_share", share, note=note, details=details))
    return rows


def _compete(run: Run, writer: object) -> tuple[list[int], list[float]]:
    place = run.fresh()
    line = StartingLine(f"{place}/start")
    arguments = {"path": f"{place}/jobs.db", "line": f"{place}/start", "seconds": run.sizes.fairness_seconds}
    children = [start(writer, **arguments) for _ in range(WRITERS)]
    line.open(WRITERS)
    found = [child.result() for child in children]
    return [count for count, _ in found], [wait for _, wait in found]


def enqueue(path: str, line: str, seconds: float) -> tuple[int, float]:
    """Enqueue in a loop; return how often, and the longest time that one took."""
    jobs = DurableJobs(path)
    register_noop(jobs)
    jobs.enqueue("noop", 1, 2)
    until = StartingLine(line).wait() + seconds
    count, worst, before = 0, 0.0, time.monotonic()
    while before < until:
        jobs.enqueue("noop", 1, 2)
        after = time.monotonic()
        count, worst, before = count + 1, max(worst, after - before), after
    return count, worst


def hold(path: str, line: str, seconds: float) -> tuple[int, float]:
    """Hold the write lock for 3 ms in a loop; return how often, and the longest wait for it and its commit."""
    store = Store(path)
    store.open()
    until = StartingLine(line).wait() + seconds
    count, worst, before = 0, 0.0, time.monotonic()
    while before < until:
        with store.database.write() as connection:
            connection.exec_driver_sql("INSERT INTO jobs(handler) VALUES ('noop')")
            release = time.monotonic() + HOLD
            while time.monotonic() < release:
                pass
        after = time.monotonic()
        count, worst, before = count + 1, max(worst, after - before - HOLD), after
    return count, worst
