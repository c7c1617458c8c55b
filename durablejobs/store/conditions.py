"""Conditions on jobs of which many statements are made."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, Select, bindparam, literal_column, select

from .tables import jobs

# Literals, not parameters: SQLite takes a partial index only when it can see that its condition holds.
IS_SCHEDULED: Final = jobs.c.status == literal_column("'scheduled'")
IS_PENDING: Final = jobs.c.status == literal_column("'pending'")
IS_RUNNING: Final = jobs.c.status == literal_column("'running'")

# The status is a parameter, so that PostgreSQL's kept plans look the jobs up by their ids. For a literal they take the
# index of the running jobs, of which the planner expects none, and compare each of them with each job that is meant:
# to settle 500 took 72 ms then, and takes 9 ms so.
STILL_RUNS: Final = jobs.c.status == bindparam("running", value="running")

IS_HELD: Final = (jobs.c.id == bindparam("job"), jobs.c.claim_token == bindparam("token"), STILL_RUNS)
"""This job, if it still runs by this claim."""


def is_among(ids: Select[tuple[int]]) -> ColumnElement[bool]:
    """Return the condition that a job is one of these, which are looked for once.

    PostgreSQL's planner might ask an `IN (SELECT … LIMIT … FOR UPDATE SKIP LOCKED)` again for each row, and each time
    it would lock others, far more than its limit. It never takes apart a common table expression that locks rows.
    """
    return jobs.c.id.in_(select(ids.cte("found", nesting=True).c.id))
