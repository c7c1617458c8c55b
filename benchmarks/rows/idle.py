"""What a worker costs that has nothing to do."""

from __future__ import annotations

import threading
import time

from durablejobs import DurableJobs

from ..processes import call
from ..results import Measurement, Run, spread
from .drain import register_noop

SETTLING = 1.0


def measure(run: Run) -> list[Measurement]:
    """CPU time of the whole process by its own clock, in three parts of the time."""
    parts = call(idle, path=f"{run.fresh()}/jobs.db", seconds=run.sizes.idle_seconds)
    return [spread("idle_cpu", parts, f"{run.sizes.idle_seconds:g} s, default settings")]


def idle(path: str, seconds: float) -> list[float]:
    """Run a worker on an empty queue; return per cent of one core for each third of the time."""
    jobs = DurableJobs(path)
    register_noop(jobs)
    worker = jobs.worker()
    shares: list[float] = []

    def observe() -> None:
        time.sleep(min(SETTLING, seconds))
        for _ in range(3):
            before = time.process_time()
            time.sleep(seconds / 3)
            shares.append(100 * (time.process_time() - before) / (seconds / 3))
        worker.stop()

    threading.Thread(target=observe, daemon=True).start()
    worker.run()
    return shares
