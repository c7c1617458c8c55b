"""A look before a claim, which takes no lock: whether there is work, and when there will be some."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, false, func, select

from ..clock import from_text
from .conditions import IS_PENDING, IS_SCHEDULED
from .hot import HotStatement, RunAlone
from .moments import Moment
from .tables import jobs


class Peek(NamedTuple):
    """What was there at the moment of the look."""

    has_work: bool
    """Whether a job is pending or due."""
    next_due: datetime | None
    """When the scheduled job that is due first is due; None also for a moment that only SQLite understands, such as the
    30th of February: the poll finds it."""


# The first of an index, and not EXISTS: where many jobs are pending PostgreSQL expects to find one soon in the table
# itself, and reads it past all those that have ended.
FIRST_QUEUE: Final = select(func.min(jobs.c.queue)).where(IS_PENDING).scalar_subquery()
_next_due = select(func.min(jobs.c.run_at)).where(IS_SCHEDULED).scalar_subquery()
IS_DUE: Final = func.coalesce(_next_due <= bindparam("now", type_=Moment), false())

PEEKED: Final = ((FIRST_QUEUE.is_not(None) | IS_DUE).label("has_work"), _next_due.label("next_due"))
"""The columns of a peek."""

# Asked without the write lock, so that idle workers do not queue for it at every commit of somebody else.
PEEK: Final = HotStatement(select(*PEEKED))


def peek(run_alone: RunAlone, now: str) -> Peek:
    """Look, by one statement."""
    ((has_work, next_due),) = run_alone(PEEK, {"now": now})
    return peek_of(has_work, next_due)


def peek_of(has_work: Any, next_due: str | None) -> Peek:
    """Return what a row says."""
    return Peek(bool(has_work), _readable(next_due))


def _readable(moment: str | None) -> datetime | None:
    try:
        return from_text(moment) if moment else None
    except ValueError:
        return None
