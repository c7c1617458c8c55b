"""Giving back the jobs of a worker that is dead or hung."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Final, NamedTuple

from sqlalchemy import Connection, Text, bindparam, exists, func, literal_column, select, update

from ..outcomes import Failure
from ..statuses import FINAL, Status
from .conditions import IS_HELD, IS_RUNNING
from .endings import ERROR_SHOWN, record_error
from .hot import HotStatement
from .tables import job_workers, jobs

MOST_CRASHES: Final = 1_000_000
"""What the database takes, and the most that `max_crashes` may be."""
BATCH: Final = 500
"""Jobs given back in one transaction, so that claims go on between two of them."""


class Orphan(NamedTuple):
    """A job whose worker is gone, as it stood when it was read in the rescuing transaction."""

    id: int
    handler: str
    queue: str
    claim_token: int
    worker_id: int | None
    attempt: int
    crashes: int
    cancel_requested_at: str | None
    started_at: str | None


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

_GIVE_BACK: Final = HotStatement(
    update(jobs)
    .where(*IS_HELD)
    .values(
        status=bindparam("status"),
        finished_at=bindparam("finished_at"),
        attempt=bindparam("attempt"),
        crashes=bindparam("crashes"),
        error=func.coalesce(bindparam("error", type_=Text), jobs.c.error),
        worker_id=None,
        lease_expires_at=None,
    )
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
    suspects = started if started is not None else {orphan.id for orphan in orphans}
    rescued = (
        _rescue_one(connection, orphan, orphan.id in suspects, len(suspects) == 1, max_crashes, now, cause)
        for orphan in orphans
    )
    return [each for each in rescued if each is not None]


def _rescue_one(
    connection: Connection, orphan: Orphan, crashed: bool, alone: bool, max_crashes: int, now: str, cause: str
) -> Rescued | None:
    """Give one orphan back; None if it is where it was, in a queue that has moved away."""
    crashes = min(orphan.crashes + 1, MOST_CRASHES) if crashed else orphan.crashes
    failure = Failure("crash", f"{cause} while it ran this job (crash {crashes})") if crashed else None
    status = Status.PENDING
    if orphan.cancel_requested_at is not None:
        status = Status.CANCELLED
    elif crashed and alone and crashes >= max_crashes:
        status = Status.FAILED
        failure = Failure("crash", f"{cause} while it ran this job; stopped after {crashes} crashes")
    given_back = _GIVE_BACK.run(
        connection,
        {
            "job": orphan.id,
            "token": orphan.claim_token,
            "status": status.value,
            "finished_at": now if status in FINAL else None,
            "attempt": orphan.attempt if crashed else orphan.attempt - 1,
            "crashes": crashes,
            "error": failure.message[:ERROR_SHOWN] if failure else None,
        },
    )
    if not given_back.rowcount:
        return None
    if failure is not None:
        record_error(connection, orphan.id, orphan.attempt, orphan.worker_id, orphan.started_at, now, failure)
    error = failure.message if failure is not None else None
    return Rescued(orphan.id, orphan.handler, orphan.queue, orphan.attempt, status, crashed, error)
