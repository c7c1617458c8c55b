"""What a person does to jobs: cancel, retry, delete; and the pruning of old ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Update,
    and_,
    case,
    delete,
    exists,
    func,
    literal,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError

from ..clock import to_text
from ..records import JobFilter
from ..statuses import FINAL, LIVE, Status
from .conditions import is_among
from .counters import LARGEST
from .hot import is_postgres
from .moments import Moment
from .queries import matching
from .tables import jobs, key_is_held
from .unique import RELEASE_EXPIRED

BATCH: Final = 500
"""Jobs changed in one transaction, so that workers go on between two of them."""

CANCELLABLE: Final = LIVE
RETRYABLE: Final = FINAL | {Status.SCHEDULED}
"""A scheduled job can be retried too: it does not wait any longer."""
DELETABLE: Final = frozenset(Status) - {Status.RUNNING}


ALL: Final = JobFilter()


def cancel(connection: Connection, ids: Sequence[int], now: datetime, wanted: JobFilter = ALL) -> list[int]:
    """Cancel live jobs; ask the worker to stop those that run. Return the ids concerned."""
    running = jobs.c.status == Status.RUNNING
    changed = connection.execute(
        update(jobs)
        .where(jobs.c.id.in_(ids), jobs.c.status.in_(LIVE), *matching(wanted))
        .values(
            status=case((running, Status.RUNNING), else_=Status.CANCELLED),
            finished_at=case((running, None), else_=literal(now, Moment)),
            cancel_requested_at=func.coalesce(jobs.c.cancel_requested_at, literal(now, Moment)),
        )
        .returning(jobs.c.id)
    )
    return [row[0] for row in changed]


_other = jobs.alias("other")
# Only a job that would hold its key again has to find it free: one that was unique while it waited has had its time.
_wants_key = text("(coalesce(jobs.unique_while, 'live') <> 'waiting' OR jobs.claim_token = 0)")
_key_is_taken = and_(
    exists().where(_other.c.unique_key == jobs.c.unique_key, text(key_is_held("other.")), _other.c.id != jobs.c.id),
    _wants_key,
)


def retry(connection: Connection, ids: Sequence[int], now: datetime, wanted: JobFilter = ALL) -> list[int]:
    """Make ended and scheduled jobs pending, with at least one more attempt; return the ids concerned.

    A job whose unique key is held by another one stays as it is.
    """
    retrying = _retrying(now).where(*matching(wanted))
    without_key = retrying.where(jobs.c.id.in_(ids), jobs.c.unique_key.is_(None)).returning(jobs.c.id)
    retried = [row[0] for row in connection.execute(without_key)]
    with_key = select(jobs.c.id, jobs.c.unique_key).where(jobs.c.id.in_(ids), jobs.c.unique_key.is_not(None))
    for job_id, key in connection.execute(with_key.order_by(jobs.c.id)).all():  # two of them may have the same key
        RELEASE_EXPIRED.run(connection, {"unique_key": key, "now": to_text(now)})
        if _changes_one(connection, retrying.where(jobs.c.id == job_id, ~_key_is_taken)):
            retried.append(job_id)
    return retried


def _retrying(now: datetime) -> Update:
    has_attempt_left = jobs.c.attempt < jobs.c.max_attempts
    most = literal_column(str(LARGEST["max_attempts"]), Integer)
    return (
        update(jobs)
        .where(jobs.c.status.in_(RETRYABLE))
        .values(
            status=Status.PENDING,
            run_at=now,
            crashes=0,
            max_attempts=case(
                (has_attempt_left, jobs.c.max_attempts), (jobs.c.attempt < most, jobs.c.attempt + 1), else_=most
            ),
            cancel_requested_at=None,
            result=None,
            finished_at=None,
        )
    )


def _changes_one(connection: Connection, statement: Update) -> bool:
    """Return whether it has changed a row; the unique index may refuse what was free a moment ago."""
    if not is_postgres(connection):  # nobody else writes between the look and the update
        return connection.execute(statement).rowcount == 1
    try:
        with connection.begin_nested():
            return connection.execute(statement).rowcount == 1
    except IntegrityError:
        return False


def delete_jobs(connection: Connection, ids: Sequence[int], wanted: JobFilter = ALL) -> list[int]:
    """Delete jobs that are not running, and their errors; return the ids concerned."""
    is_meant = jobs.c.id.in_(ids), jobs.c.status != Status.RUNNING, *matching(wanted)
    return [row[0] for row in connection.execute(delete(jobs).where(*is_meant).returning(jobs.c.id))]


def prune(connection: Connection, finished_before: dict[Status, datetime], most: int = BATCH) -> int:
    """Delete up to `most` jobs that ended before their status's moment, the longest ended first; return how many."""
    gone = 0
    for status, moment in finished_before.items():
        if gone < most:
            # Workers prune at the same time; each takes what no other has.
            old = select(jobs.c.id).where(*_ended_before(status, moment)).order_by(jobs.c.finished_at)
            ids = old.limit(most - gone).with_for_update(skip_locked=True)
            gone += connection.execute(delete(jobs).where(is_among(ids))).rowcount
    return gone


def has_prunable(connection: Connection, finished_before: dict[Status, datetime]) -> bool:
    """Return whether `prune` would delete anything."""
    return any(
        connection.execute(select(func.min(jobs.c.finished_at)).where(*_ended_before(status, moment))).scalar()
        for status, moment in finished_before.items()
    )


def _ended_before(status: Status, moment: datetime) -> tuple[ColumnElement[bool], ...]:
    return jobs.c.status == status, jobs.c.finished_at < moment, jobs.c.finished_at.is_not(None)


def count_prunable(connection: Connection, finished_before: dict[Status, datetime]) -> int:
    """Return how many jobs `prune` would delete in all."""
    return sum(
        connection.execute(select(func.count()).select_from(jobs).where(*_ended_before(status, moment))).scalar_one()
        for status, moment in finished_before.items()
    )
