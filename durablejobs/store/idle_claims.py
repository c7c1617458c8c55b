"""Look and claim in one statement, for an idle worker on PostgreSQL: of one queue, with nothing else to heed.

In SQLite a look costs some microseconds and takes no lock. To ask a server costs a round trip, and it is the look and
the claim after it that a new job waits for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    case,
    exists,
    func,
    literal_column,
    or_,
    select,
    true,
)

from ..jobs import ClaimedJob
from .claims import CLAIMING, best_of_queue_locked, claimed_jobs
from .conditions import IS_PENDING
from .hot import HotStatement, RunAlone
from .peeking import FIRST_QUEUE, IS_DUE, PEEKED, Peek, peek_of
from .running_limits import A_WAITING_KEY
from .tables import job_queues, jobs


def _only_queue() -> ColumnElement[str]:
    """The one queue that has pending jobs, where nothing is due, no queue has a rule, and no pending job a key."""
    last_queue = select(func.max(jobs.c.queue)).where(IS_PENDING).scalar_subquery()
    queues: Any = bindparam("queues", type_=ARRAY(Text))
    is_wanted = or_(func.cardinality(queues) == literal_column("0"), any_(queues) == FIRST_QUEUE)
    has_no_rules = ~exists(select(job_queues.c.name))
    is_simple = and_(last_queue == FIRST_QUEUE, is_wanted, ~IS_DUE, has_no_rules, A_WAITING_KEY.is_(None))
    return case((is_simple, FIRST_QUEUE))


def statement(only_queue: ColumnElement[str]) -> Select[Any]:
    """Return the look, and the claim of this queue, of none where it is NULL."""
    peek = select(*PEEKED, only_queue.label("only_queue")).cte("peek")
    best = best_of_queue_locked(select(peek.c.only_queue).scalar_subquery())
    claimed = CLAIMING.where(jobs.c.id == any_(func.array(best.scalar_subquery()))).cte("claimed")
    return select(peek, *claimed.c).select_from(peek.outerjoin(claimed, true()))


PEEK_AND_CLAIM: Final = HotStatement(statement(_only_queue()))
"""One row at least: what was there, and beside it the jobs that were claimed."""


def peek_and_claim(
    run_alone: RunAlone, queues: Sequence[str], most: int, worker_id: int, now: str, lease: str
) -> tuple[Peek, list[ClaimedJob] | None]:
    """Look, and claim up to `most` jobs of one of these queues, or of any if none is named, as `claims.claim` does.

    None: nothing could be claimed so. There is more to heed, or no pending job of these queues.
    """
    values = {"queues": list(queues), "most": most, "worker": worker_id, "now": now, "lease": lease}
    rows = run_alone(PEEK_AND_CLAIM, values)
    has_work, next_due, only_queue = rows[0][:3]
    claimed = [row[3:] for row in rows if row[3] is not None]
    return peek_of(has_work, next_due), None if only_queue is None else claimed_jobs(claimed)
