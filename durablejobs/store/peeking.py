"""A look before a claim, which takes no lock: whether there is work, and whether to claim it takes one statement."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Select, Text, and_, bindparam, case, exists, false, func, literal_column, null, select

from ..clock import from_text
from .conditions import IS_PENDING, IS_SCHEDULED
from .hot import HotStatement, RunAlone
from .moments import Moment
from .running_limits import A_WAITING_KEY
from .tables import job_queues, jobs


class Peek(NamedTuple):
    """What was there at the moment of the look."""

    has_work: bool
    """Whether a job is pending or due."""
    next_due: datetime | None
    """When the scheduled job that is due first is due; None also for a moment that only SQLite understands, such as the
    30th of February: the poll finds it."""
    only_queue: str | None = None
    """The one queue that has pending jobs, where nothing else is to be heeded: nothing is due, no queue has a rule, no
    pending job a `running_key`. None: look closer. Always None in SQLite, where a claim is one with its looks."""


NOTHING_THERE: Final = Peek(has_work=False, next_due=None)

_first_queue = select(func.min(jobs.c.queue)).where(IS_PENDING).scalar_subquery()
_last_queue = select(func.max(jobs.c.queue)).where(IS_PENDING).scalar_subquery()
_next_due = select(func.min(jobs.c.run_at)).where(IS_SCHEDULED).scalar_subquery()
_is_due = func.coalesce(_next_due <= bindparam("now", type_=Moment), false())
_is_simple = and_(_first_queue == _last_queue, ~_is_due, ~exists(select(job_queues.c.name)), A_WAITING_KEY.is_(None))


def _peek(only_queue: Any) -> Select[Any]:
    return select(
        (_first_queue.is_not(None) | _is_due).label("has_work"),
        _next_due.label("next_due"),
        only_queue.label("only_queue"),
    )


# Asked without the write lock, so that idle workers do not queue for it at every commit of somebody else.
# The first of an index, and not EXISTS: where many jobs are pending PostgreSQL expects to find one soon in the table
# itself, and reads it past all those that have ended.
PEEK: Final = HotStatement(
    _peek(literal_column("NULL", Text)), lambda: _peek(case((_is_simple, _first_queue), else_=null()))
)


def peek(run_alone: RunAlone, now: str) -> Peek:
    """Look, by one statement."""
    ((has_work, next_due, only_queue),) = run_alone(PEEK, {"now": now})
    return Peek(bool(has_work), _readable(next_due), only_queue)


def _readable(moment: str | None) -> datetime | None:
    try:
        return from_text(moment) if moment else None
    except ValueError:
        return None
