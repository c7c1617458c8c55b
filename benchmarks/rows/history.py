"""What ten million finished jobs in the file cost the next job, `list` and `stats`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from durablejobs import DurableJobs
from durablejobs.records import JobFilter
from durablejobs.statuses import Status

from .. import histories
from ..processes import call
from ..results import Measurement, Run, in_turns, ratio, spread
from .backlog import QUEUES, drain_some


def measure(run: Run) -> list[Measurement]:
    """One file that grows; at each size, drains in it and in fresh files in turns."""
    sizes = run.sizes
    path = f"{run.fresh()}/jobs.db"
    call(histories.create, path=path)
    points = []
    stored = 0
    for size in sizes.history:
        run.say(f"  {size:,} finished jobs")
        call(histories.add_finished, path=path, count=size - stored, queues=QUEUES)
        stored = size
        points.append(_at(run, path, size))
    run.series["history"] = points
    last = points[-1]
    note = f"{last['finished']:,} finished jobs, file of {last['megabytes']:,.0f} MB"
    return [
        ratio("history_drain", last["drain"], last["drain_empty"], note),
        *(spread(f"history_{name}", last[name], note) for name in ("list", "list_failed", "stats")),
    ]


def _at(run: Run, path: str, size: int) -> dict[str, object]:
    count = run.sizes.history_drained

    def here() -> float:
        return call(drain_some, path=path, count=count, queues=1)

    def empty() -> float:
        return call(drain_some, path=f"{run.fresh()}/jobs.db", count=count, queues=1)

    turns = max(1, run.sizes.rounds // 2)
    drain, drain_empty = in_turns(turns, here, empty)
    read = call(look, path=path)
    megabytes = os.stat(path).st_size / 1e6
    return {"finished": size, "megabytes": megabytes, "drain": drain, "drain_empty": drain_empty, **read}


def look(path: str) -> dict[str, list[float]]:
    """Return the milliseconds that the reading verbs take, the first look left out."""
    jobs = DurableJobs(path)
    return {
        "list": _time(lambda: jobs.list_jobs(limit=50)),
        "list_failed": _time(lambda: jobs.list_jobs(JobFilter(statuses=(Status.FAILED,)), limit=50)),
        "stats": _time(jobs.statistics),
    }


def _time(read: Callable[[], object]) -> list[float]:
    read()
    found = []
    for _ in range(5):
        start = time.perf_counter()
        read()
        found.append(1000 * (time.perf_counter() - start))
    return found
