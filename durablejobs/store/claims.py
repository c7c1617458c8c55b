"""Promote, look, claim: how a job comes to a worker.

In SQLite one transaction writes at a time. In PostgreSQL many do, so what is to be changed in a lump is locked first,
and what another has locked is skipped (`FOR UPDATE SKIP LOCKED`; SQLite has no such clause, and SQLAlchemy leaves it
out there): no worker waits for another, and none can be in another's way for ever.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Select,
    Text,
    any_,
    bindparam,
    func,
    literal_column,
    select,
    true,
    union_all,
    update,
)

from ..jobs import ClaimedJob
from .conditions import IS_PENDING, IS_SCHEDULED, is_among
from .counters import one_more
from .hot import HotStatement, is_postgres
from .pending_queues import foremost, most_at_once
from .tables import jobs

MOST_PROMOTED: Final = 2000
"""Promotions in one transaction, so that it stays short."""

LOOKED_AT: Final = 1000
"""Pending jobs that a lane looks at, the best first, for some that its handlers can run. A long backlog of other
kinds is not read to its end at each turn."""

LOOKED_AT_TOGETHER: Final = 4 * LOOKED_AT
"""The same in PostgreSQL, where the best may be what others are claiming at this moment. For twice as many
the planner would read a queue of 50,000 to its end and sort it."""

_MOST: Final = bindparam("most", type_=Integer)
_LOOKED_AT_TOGETHER: Final = literal_column(str(LOOKED_AT_TOGETHER), Integer)
_MOST_TOGETHER: Final = literal_column(str(16 * LOOKED_AT), Integer)
"""The same where all handlers are meant and no row is read in vain: seven full batches of others, of 2,000."""

_NO_QUEUE: Final = ""
"""The name of none."""

_NO_LIMITS: Final[Mapping[str, int]] = MappingProxyType({})

PROMOTE: Final = HotStatement(
    update(jobs)
    .where(
        is_among(
            select(jobs.c.id)
            .where(IS_SCHEDULED, jobs.c.run_at <= bindparam("now"))
            .order_by(jobs.c.run_at)
            .limit(bindparam("most"))
            .with_for_update(skip_locked=True)
        )
    )
    .values(status=literal_column("'pending'"))
)


def promote(connection: Connection, now: str) -> int:
    """Make what is due pending, the longest due first; return how many."""
    return PROMOTE.run(connection, {"now": now, "most": MOST_PROMOTED}).rowcount


class HandlerFilter(NamedTuple):
    """Which handlers' jobs are wanted."""

    names: tuple[str, ...]
    are_excluded: bool = False
    """All others are meant."""

    def wants(self, handler: str) -> bool:
        """Whether jobs of this handler are wanted."""
        return (handler in self.names) is not self.are_excluded

    def padded(self) -> HandlerFilter:
        """Return the same with a power of two of names, so that few statements serve all filters."""
        size = 1 << (len(self.names) - 1).bit_length()
        return self._replace(names=self.names + self.names[-1:] * (size - len(self.names)))


def best_first(
    queue_count: int, handler_count: int, are_excluded: bool, limited_count: int, in_postgres: bool = False
) -> Select[tuple[int]]:
    """Ids of pending jobs of some queues together, by priority, then id.

    Of the last queues, which are limited, only so many. Jobs with a `running_key` are not among them: see
    `running_limits`.

    `queue IN (…) ORDER BY …` would sort all pending rows of those queues. A UNION ALL of one select per queue is merged
    by both databases row by row, and stops at the limit: 500 jobs out of 50 queues of 20,000 take 0.3 ms. PostgreSQL
    does so only where each of them says its own order. There it is not limited to `most`, so that who locks them can go
    on behind those that others have locked.
    """
    looked_at, most = (_LOOKED_AT_TOGETHER, _MOST_TOGETHER) if in_postgres else (LOOKED_AT, _MOST)
    columns = [jobs.c.running_key, jobs.c.priority, jobs.c.id, *([jobs.c.handler] if handler_count else [])]
    per_queue = [
        select(*columns).where(IS_PENDING, jobs.c.queue == bindparam(f"queue_{number}"), jobs.c.running_key.is_(None))
        for number in range(queue_count)
    ]
    first_limited = queue_count - limited_count
    if in_postgres:
        per_queue[:first_limited] = [
            _in_order(each, looked_at if handler_count else most) for each in per_queue[:first_limited]
        ]
    for number in range(first_limited, queue_count):
        per_queue[number] = _best_within_room(per_queue[number], number, handler_count, are_excluded)
    together = union_all(*per_queue) if queue_count > 1 else per_queue[0]
    ordered = together.order_by(*_by_index(literal_column))
    if not handler_count:
        return select(ordered.limit(most).subquery("best").c.id)
    best = ordered.limit(looked_at).subquery("best")
    is_meant = _is_meant(best.c.handler, handler_count, are_excluded)
    return select(best.c.id).where(is_meant).order_by(*_by_index(best.c.get)).limit(most)


def _by_index(column: Callable[[str], Any]) -> list[ColumnElement[Any]]:
    """Return the order of the index of pending jobs inside a queue.

    Which is by priority, then id, where no job has a `running_key`. PostgreSQL does not conclude that, unless it is
    asked for all of it: it would sort the whole queue.
    """
    return [column("running_key"), column("priority").desc(), column("id")]


def _in_order(of_queue: Select[Any], most: Any) -> Select[Any]:
    return select(of_queue.order_by(*_by_index(jobs.c.get)).limit(most).subquery())


def _best_within_room(of_queue: Select[Any], number: int, handler_count: int, are_excluded: bool) -> Select[Any]:
    """The best pending jobs of a limited queue that are meant, as many as may run besides those that do."""
    best = of_queue.order_by(*_by_index(jobs.c.get))
    if handler_count:
        looked_at = best.limit(LOOKED_AT).subquery()
        is_meant = _is_meant(looked_at.c.handler, handler_count, are_excluded)
        best = select(looked_at).where(is_meant).order_by(*_by_index(looked_at.c.get))
    return select(best.limit(bindparam(f"room_{number}")).subquery())


def _is_meant(handler: ColumnElement[str], handler_count: int, are_excluded: bool) -> ColumnElement[bool]:
    is_named = handler.in_([bindparam(f"handler_{number}") for number in range(handler_count)])
    return ~is_named if are_excluded else is_named


_CLAIM: Final = update(jobs).values(
    status=literal_column("'running'"),
    claim_token=one_more(jobs.c.claim_token),
    attempt=one_more(jobs.c.attempt),
    worker_id=bindparam("worker"),
    started_at=bindparam("now"),
    lease_expires_at=bindparam("lease"),
    progress=None,  # of an earlier run
)
"""What a claim does to the jobs that it is told."""

CLAIMING: Final = _CLAIM.returning(*(jobs.c[name] for name in ClaimedJob._fields))
"""The same, and what a run needs of them."""

_found = func.json_each(bindparam("ids")).table_valued("value")
CLAIM_FOUND: Final = HotStatement(_CLAIM.where(jobs.c.id.in_(select(_found.c.value))))
"""Of SQLite: it makes the jobs with these ids, a JSON array, what `found_statement` has told already."""
_CLAIMED_OF_FOUND: Final = HotStatement(
    select(jobs.c.id).where(jobs.c.id.in_(select(_found.c.value)), jobs.c.status == literal_column("'running'"))
)

_AS_CLAIMED: Final[Mapping[str, ColumnElement[Any]]] = {
    "claim_token": one_more(jobs.c.claim_token),
    "attempt": one_more(jobs.c.attempt),
}


def best_first_locked(
    queue_count: int, handler_count: int, are_excluded: bool, limited_count: int
) -> Select[tuple[int]]:
    """The same for PostgreSQL, where others claim at the same time: what they have locked is skipped.

    FOR UPDATE may not stand over a UNION. So the jobs are locked one after another by their ids, the best first, until
    there are enough; each is looked at once more then, because another may have claimed it and committed.
    """
    if queue_count == 1 and not handler_count and not limited_count:
        return best_of_queue_locked(bindparam("queue_0", type_=Text))
    found = best_first(queue_count, handler_count, are_excluded, limited_count, in_postgres=True).subquery("found")
    locked = (
        select(jobs.c.id).where(jobs.c.id == found.c.id, IS_PENDING).with_for_update(skip_locked=True).lateral("locked")
    )
    return select(locked.c.id).select_from(found).join(locked, true()).limit(_MOST)


def best_of_queue_locked(queue: ColumnElement[str]) -> Select[tuple[int]]:
    """The same of one queue, the jobs of all handlers."""
    best = select(jobs.c.id).where(IS_PENDING, jobs.c.queue == queue, jobs.c.running_key.is_(None))
    return best.order_by(*_by_index(jobs.c.get)).limit(_MOST).with_for_update(skip_locked=True)


@lru_cache(maxsize=256)
def found_statement(
    queue_count: int, handler_count: int = 0, are_excluded: bool = False, limited_count: int = 0
) -> HotStatement:
    """Return the look for the best jobs of so many queues, for SQLite: as they will be when they are claimed.

    With a number of handlers it finds only theirs, or all but theirs. The last queues are limited, each to its room.
    """
    columns = [_AS_CLAIMED.get(name, jobs.c[name]) for name in ClaimedJob._fields]
    best = best_first(queue_count, handler_count, are_excluded, limited_count)
    return HotStatement(select(*columns).where(jobs.c.id.in_(best)))


@lru_cache(maxsize=256)
def claim_statement(
    queue_count: int, handler_count: int = 0, are_excluded: bool = False, limited_count: int = 0
) -> HotStatement:
    """Return the claim of the same for PostgreSQL: one statement, nothing slips in between.

    The ids are an array, looked for once; `is_among` says why.
    """
    best = best_first_locked(queue_count, handler_count, are_excluded, limited_count)
    return HotStatement(CLAIMING.where(jobs.c.id == any_(func.array(best.scalar_subquery()))))


def claim(
    connection: Connection,
    queues: Sequence[str],
    most: int,
    worker_id: int,
    now: str,
    lease: str,
    handlers: HandlerFilter | None = None,
    rooms: Mapping[str, int] = _NO_LIMITS,
) -> list[ClaimedJob]:
    """Claim up to `most` pending jobs of these queues together; return them by priority, then id.

    `rooms` says how many of a queue at most; one that it does not name has no limit.

    In SQLite, whose transaction has the write lock, they are looked for and then claimed: that is faster than an UPDATE
    with RETURNING, which notes each row twice (500 jobs of one queue: 2.6 ms and not 2.9, of fifty: 3.4 and not 4.4).
    What a trigger keeps from being claimed, of a queue that moves away above all, is not claimed.
    """
    queues = [queue for queue in queues if rooms.get(queue, 1)]
    if not queues:
        return []
    most, queues = most_at_once(queues, most), foremost(connection, queues)
    queues, limited_count, values = of_queues(queues, rooms)
    shape, names = with_handlers(handlers)
    values |= names
    values |= {"most": most}
    marks = {"worker": worker_id, "now": now, "lease": lease}
    if is_postgres(connection):
        statement = claim_statement(len(queues), *shape, limited_count)
        return claimed_jobs(statement.run(connection, values | marks).fetchall())
    found = claimed_jobs(found_statement(len(queues), *shape, limited_count).run(connection, values).fetchall())
    return _claim_found(connection, found, marks) if found else []


def _claim_found(connection: Connection, found: list[ClaimedJob], marks: Mapping[str, Any]) -> list[ClaimedJob]:
    ids = json.dumps([job.id for job in found])
    if CLAIM_FOUND.run(connection, {**marks, "ids": ids}).rowcount == len(found):
        return found
    claimed = {row[0] for row in _CLAIMED_OF_FOUND.run(connection, {"ids": ids})}
    return [job for job in found if job.id in claimed]


def of_queues(queues: Sequence[str], rooms: Mapping[str, int]) -> tuple[Sequence[str], int, dict[str, Any]]:
    """Return the queues, the limited ones last, how many those are, and the statement's values.

    There is a power of two of them, so that few statements serve any number: to write one for fifty queues, and to plan
    it, takes longer than to run it.
    """
    limited = [queue for queue in queues if queue in rooms]
    free = [queue for queue in queues if queue not in rooms] if limited else queues
    size = 1 << (len(queues) - 1).bit_length()
    queues = [*free, *[_NO_QUEUE] * (size - len(queues)), *limited]
    values: dict[str, Any] = {f"queue_{number}": queue for number, queue in enumerate(queues)}
    values |= {f"room_{size - len(limited) + number}": rooms[queue] for number, queue in enumerate(limited)}
    return queues, len(limited), values


def with_handlers(handlers: HandlerFilter | None) -> tuple[tuple[int, bool], dict[str, Any]]:
    """Return what a filter makes of the shape of the statement, and of its values."""
    if handlers is None:
        return (0, False), {}
    names, are_excluded = handlers.padded()
    return (len(names), are_excluded), {f"handler_{number}": name for number, name in enumerate(names)}


def claimed_jobs(rows: Iterable[Any]) -> list[ClaimedJob]:
    """Return what a claim returned, by priority, then id: RETURNING promises no order."""
    claimed = list(map(ClaimedJob._make, rows))
    claimed.sort(key=attrgetter("id"))
    claimed.sort(key=attrgetter("priority"), reverse=True)  # in two steps, both without a key to make for each job
    return claimed
