"""Drain a number of jobs out of a large backlog on PostgreSQL, against the same number in a database of their own."""

from __future__ import annotations

from .. import postgres_server
from ..processes import call
from ..results import Measurement, Run, in_turns, ratio, skipped
from .backlog import QUEUES, build, drain_some


def measure(run: Run) -> list[Measurement]:
    """One large database for all turns, a new one for each turn of the other side."""
    if not postgres_server.is_available():
        return [skipped("postgres_backlog", f"{postgres_server.PACKAGE} is not installed")]
    sizes = run.sizes
    count = sizes.backlog_drained
    amounts = {"finished": sizes.backlog_finished, "pending": sizes.backlog_pending, "future": sizes.backlog_future}
    turns = max(1, min(sizes.rounds, sizes.backlog_pending // (2 * count)))
    with postgres_server.running(run.scratch, **postgres_server.MEASURED) as server:
        large = server.create_database()
        call(build, path=large, **amounts)
        ours, base = in_turns(
            turns,
            lambda: call(drain_some, path=large, count=count, queues=0),
            lambda: call(drain_some, path=server.create_database(), count=count, queues=1),
        )
    held = ", ".join(f"{amount:,} {kind}" for kind, amount in amounts.items())
    return [ratio("postgres_backlog", ours, base, f"{held}, {QUEUES} queues; {count:,} drained")]
