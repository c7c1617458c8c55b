"""From the call of enqueue in one process to the handler's first line in an idle worker of another."""

from __future__ import annotations

import random

from .. import compare, raw
from ..peers import Ours
from ..processes import call
from ..results import Measurement, Run, percentile, spread


def measure(run: Run) -> list[Measurement]:
    """Send single jobs with random gaps; the extremes are those of five parts of the run."""
    found = compare.latencies(Ours, run.scratch, run.sizes.latencies, run.sizes.longest_gap)
    run.series["latencies"] = found
    parts = [found[start::5] for start in range(5)]
    gaps = [random.uniform(0.02, run.sizes.longest_gap) for _ in range(len(found) // 3)]
    commit = percentile(call(raw.commit_times, path=f"{run.fresh()}/raw.db", gaps=gaps), 50)
    note = (
        f"{len(found)} jobs, slowest {max(found):.1f} ms; two commits are included, the enqueue's and the "
        f"claim's, and a bare one of SQLite's took {commit:.2f} ms here (median)"
    )
    rows = []
    for name, per_cent in (("latency_p50", 50), ("latency_p99", 99)):
        extremes = [percentile(part, per_cent) for part in parts if part]
        whole = percentile(found, per_cent)
        row = spread(name, extremes, note)
        rows.append(Measurement(name, whole, row.low, row.high, note, {"jobs": len(found)}))
    return rows
