"""Which queues have pending jobs, and, where they are very many, which of them a claim looks into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, ScalarSelect, func, select

from .conditions import IS_PENDING
from .hot import HotStatement
from .tables import jobs

MOST_TOGETHER: Final = 128
"""Queues in one claim. SQLite refuses a statement of more than 500 parts."""

_first_queue = select(func.min(jobs.c.queue).label("queue")).where(IS_PENDING).cte("pending_queues", recursive=True)
_next_queue = select(
    select(func.min(jobs.c.queue))
    .where(IS_PENDING, jobs.c.queue > _first_queue.c.queue)
    .correlate(_first_queue)
    .scalar_subquery()
).where(_first_queue.c.queue.is_not(None))
_pending_queues = _first_queue.union_all(_next_queue)

# A jump along the index from queue to queue: costs the number of queues, not of jobs.
PENDING_QUEUES: Final = HotStatement(select(_pending_queues.c.queue).where(_pending_queues.c.queue.is_not(None)))


def _of_best(column: str) -> ScalarSelect[Any]:
    best = select(jobs.c[column]).where(
        IS_PENDING, jobs.c.queue == _pending_queues.c.queue, jobs.c.running_key.is_(None)
    )
    by_index = jobs.c.running_key, jobs.c.priority.desc(), jobs.c.id
    return best.order_by(*by_index).limit(1).correlate(_pending_queues).scalar_subquery()


_priority = _of_best("priority")
# A queue whose jobs all have a running key has no best one here: it comes last.
BY_THEIR_BEST: Final = HotStatement(
    select(_pending_queues.c.queue)
    .where(_pending_queues.c.queue.is_not(None))
    .order_by(_priority.is_(None), _priority.desc(), _of_best("id"))
)


def pending_queues(connection: Connection) -> list[str]:
    """Return the queues that have pending jobs."""
    return [row[0] for row in PENDING_QUEUES.run(connection, {})]


def most_at_once(queues: Sequence[str], most: int) -> int:
    """Return how many jobs a claim may take of these queues that wants so many.

    As many as it looks into, where it does not look into all: so it passes over no better one.
    """
    return most if len(queues) <= MOST_TOGETHER else min(most, MOST_TOGETHER)


def foremost(connection: Connection, queues: Sequence[str]) -> Sequence[str]:
    """Return those of these queues into which a claim looks.

    These are the queues with the best first jobs, by priority, then id. All jobs of the others come behind those.
    """
    if len(queues) <= MOST_TOGETHER:
        return queues
    wanted = frozenset(queues)
    in_order = [row[0] for row in BY_THEIR_BEST.run(connection, {}) if row[0] in wanted]
    return in_order[:MOST_TOGETHER]
