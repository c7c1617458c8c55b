"""Four worker processes on one PostgreSQL database, against one."""

from __future__ import annotations

from .. import postgres_server
from ..results import Measurement, Run, in_turns, ratio, skipped
from .workers import drain_with


def measure(run: Run) -> list[Measurement]:
    """A new database for each turn; the rate counts from the common start to the end of the last worker."""
    if not postgres_server.is_available():
        return [skipped("postgres_workers_4", f"{postgres_server.PACKAGE} is not installed")]
    sizes = run.sizes
    with postgres_server.running(run.scratch, **postgres_server.MEASURED) as server:

        def drain(processes: int) -> float:
            return drain_with(run, processes, "noop", sizes.scaling_jobs, server.create_database())

        four, one = in_turns(sizes.postgres_rounds, lambda: drain(4), lambda: drain(1))
    return [ratio("postgres_workers_4", four, one)]
