"""Giving back the jobs of a worker that is dead or hung."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    Connection,
    Insert,
    Integer,
    Subquery,
    Text,
    Update,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal_column,
    select,
    update,
)

from ..statuses import Status
from .conditions import IS_RUNNING, STILL_RUNS
from .counters import LARGEST, one_less
from .endings import ERROR_SHOWN
from .hot import HotStatement
from .json_rows import ROWS, as_json, statement_for_rows
from .moments import Moment
from .tables import job_errors, job_workers, jobs

BATCH: Final = 500
"""Jobs given back in one transaction, so that claims go on between two of them."""


class Orphan(NamedTuple):
    """A job whose worker is gone, as it stood when it was read in the rescuing transaction."""

    id: int
    handler: str
    queue: str
    worker_id: int | None
    attempt: int
    crashes: int
    cancel_requested_at: str | None


class Rescued(NamedTuple):
    """What became of an orphan."""

    job_id: int
    handler: str
    queue: str
    attempt: int
    status: Status
    crashed: bool
    """Whether the job was running, not just claimed, when its worker died."""
    error: str | None


_ORPHAN_COLUMNS: Final = [jobs.c[name] for name in Orphan._fields]

ORPHANS_OF_WORKER: Final = HotStatement(
    select(*_ORPHAN_COLUMNS)
    .where(IS_RUNNING, jobs.c.worker_id == bindparam("worker"))
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)

# Left over when a worker's row is gone, after a restored backup for example.
_has_no_worker = ~exists().where(job_workers.c.id == jobs.c.worker_id)
_is_stray = (IS_RUNNING, jobs.c.lease_expires_at < bindparam("now"), _has_no_worker)
# In the order of the index: in no order at all, and a few of them asked for, PostgreSQL's planner may hope to find them
# soon in the table itself, and reads it from end to end, for there are none.
HAS_ORPHANS_OF_NOBODY: Final = HotStatement(
    select(jobs.c.id).where(*_is_stray).order_by(jobs.c.worker_id).limit(literal_column("1"))
)
ORPHANS_OF_NOBODY: Final = HotStatement(
    select(*_ORPHAN_COLUMNS)
    .where(*_is_stray)
    .order_by(jobs.c.worker_id)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True, of=jobs)
)

COUNT_STRAYS: Final = HotStatement(select(func.count()).select_from(jobs).where(IS_RUNNING, _has_no_worker))


def _give_back(each: Subquery) -> Update:
    return (
        update(jobs)
        .where(jobs.c.id == each.c.id, STILL_RUNS)
        .values(
            status=each.c.status,
            finished_at=case((each.c.status != literal_column("'pending'"), bindparam("now", type_=Moment))),
            attempt=one_less(jobs.c.attempt, each.c.unspent),
            crashes=each.c.crashes,
            error=func.coalesce(each.c.error, jobs.c.error),
            worker_id=None,
            lease_expires_at=None,
        )
        .returning(jobs.c.id)
    )


# What is written is told, or computed from the row: in SQLite a program may have put anything into some of its columns.
GIVE_BACK: Final = statement_for_rows(
    {"id": BigInteger(), "status": Text(), "unspent": Integer(), "crashes": Integer(), "error": Text()}, _give_back
)


def _record_crashes(each: Subquery) -> Insert:
    columns = ("job_id", "attempt", "worker_id", "started_at", "ended_at", "message", "kind")
    values = select(
        jobs.c.id,
        jobs.c.attempt,
        each.c.worker_id,
        jobs.c.started_at,
        bindparam("now", type_=Moment),
        each.c.message,
        literal_column("'crash'", Text),
    )
    return insert(job_errors).from_select(columns, values.join_from(each, jobs, jobs.c.id == each.c.id))


_RECORD_CRASHES: Final = statement_for_rows(
    {"id": BigInteger(), "worker_id": BigInteger(), "message": Text()}, _record_crashes
)


def orphans_of_worker(connection: Connection, worker_id: int) -> list[Orphan]:
    """Return some of the jobs that this worker had claimed."""
    rows = ORPHANS_OF_WORKER.run(connection, {"worker": worker_id, "most": BATCH})
    return [Orphan._make(row) for row in rows]


def has_orphans_of_nobody(connection: Connection, now: str) -> bool:
    """Return whether there are running jobs without a registered worker whose lease has expired; takes no lock."""
    return HAS_ORPHANS_OF_NOBODY.run(connection, {"now": now}).fetchone() is not None


def orphans_of_nobody(connection: Connection, now: str) -> list[Orphan]:
    """Return some of the running jobs without a registered worker whose lease has expired."""
    return [Orphan._make(row) for row in ORPHANS_OF_NOBODY.run(connection, {"now": now, "most": BATCH})]


def count_strays(connection: Connection) -> int:
    """Return how many jobs are running without a registered worker, whatever their lease says."""
    return int(COUNT_STRAYS.run(connection, {}).fetchone()[0])


def rescue(
    connection: Connection,
    orphans: Sequence[Orphan],
    started: Set[int] | None,
    max_crashes: int,
    now: str,
    cause: str,
) -> list[Rescued]:
    """Give orphans back: pending again, or ended where they have crashed too often or were to be cancelled.

    `started` are the jobs that were really running when the worker died; None means that nobody knows, so each may
    have been. A job is stopped for its crashes only if it was the only one running: then the blame is exact.
    The worker that claims a job with nearly `max_crashes` crashes runs it alone, which makes it so.
    """
    if not orphans:
        return []
    suspects = started if started is not None else {orphan.id for orphan in orphans}
    verdicts = {
        orphan: _verdict(orphan, orphan.id in suspects, len(suspects) == 1, max_crashes, cause) for orphan in orphans
    }
    rows = as_json(_row(orphan, verdict) for orphan, verdict in verdicts.items())
    given_back = {row[0] for row in GIVE_BACK.run(connection, {ROWS: rows, "now": now})}
    # What is not among them is where it was, in a queue that has moved away.
    crashes = [
        (orphan.id, orphan.worker_id if isinstance(orphan.worker_id, int) else None, verdict.error)
        for orphan, verdict in verdicts.items()
        if verdict.crashed and orphan.id in given_back
    ]
    if crashes:
        _RECORD_CRASHES.run(connection, {ROWS: as_json(crashes), "now": now})
    return [verdict for verdict in verdicts.values() if verdict.job_id in given_back]


def _verdict(orphan: Orphan, crashed: bool, alone: bool, max_crashes: int, cause: str) -> Rescued:
    """Say what becomes of an orphan."""
    status, error = Status.PENDING, None
    if crashed:
        crashes = _crashes(orphan, crashed)
        error = f"{cause} while it ran this job (crash {crashes})"
        if alone and crashes >= max_crashes and orphan.cancel_requested_at is None:
            status = Status.FAILED
            error = f"{cause} while it ran this job; stopped after {crashes} crashes"
    if orphan.cancel_requested_at is not None:
        status = Status.CANCELLED
    return Rescued(orphan.id, orphan.handler, orphan.queue, orphan.attempt, status, crashed, error)


def _crashes(orphan: Orphan, crashed: bool) -> int:
    return min(orphan.crashes + crashed, LARGEST["crashes"])


def _row(orphan: Orphan, verdict: Rescued) -> tuple[Any, ...]:
    return (
        orphan.id,
        verdict.status,
        0 if verdict.crashed else 1,
        _crashes(orphan, verdict.crashed),
        verdict.error[:ERROR_SHOWN] if verdict.error else None,
    )
