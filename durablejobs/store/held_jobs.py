"""Jobs that a worker has claimed: their leases are extended, some are to stop, some are given back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, bindparam, literal_column, select, update

from ..jobs import ClaimedJob
from .conditions import IS_HELD, IS_RUNNING
from .hot import HotStatement
from .tables import jobs

# What the worker is settling at this moment needs no longer lease, and must not be waited for.
EXTEND: Final = HotStatement(
    update(jobs)
    .where(
        jobs.c.id.in_(
            select(jobs.c.id)
            .where(IS_RUNNING, jobs.c.worker_id == bindparam("worker"))
            .with_for_update(skip_locked=True)
        )
    )
    .values(lease_expires_at=bindparam("lease"))
)


def extend_leases(connection: Connection, worker_id: int, lease: str) -> int:
    """Extend the lease of every job that this worker has claimed; return how many."""
    return EXTEND.run(connection, {"worker": worker_id, "lease": lease}).rowcount


# A job that was claimed but never started, or handed back by a stopping worker, keeps its attempt.
RELEASE: Final = HotStatement(
    update(jobs)
    .where(*IS_HELD)
    .values(
        status=literal_column("CASE WHEN cancel_requested_at IS NULL THEN 'pending' ELSE 'cancelled' END"),
        finished_at=literal_column("cancel_requested_at"),
        attempt=jobs.c.attempt - literal_column("1"),
        worker_id=None,
        lease_expires_at=None,
        started_at=None,
    )
)


def release(connection: Connection, claimed: Sequence[ClaimedJob]) -> int:
    """Give claimed jobs back, their attempt unspent; return how many were still ours."""
    released = 0
    for job in claimed:
        released += RELEASE.run(connection, {"job": job.id, "token": job.claim_token}).rowcount
    return released


ASKED_TO_STOP: Final = HotStatement(
    select(jobs.c.id).where(
        IS_RUNNING, jobs.c.worker_id == bindparam("worker"), jobs.c.cancel_requested_at.is_not(None)
    )
)


def asked_to_stop(connection: Connection, worker_id: int) -> set[int]:
    """Return the ids of the jobs that this worker has claimed and that are to be cancelled."""
    return {row[0] for row in ASKED_TO_STOP.run(connection, {"worker": worker_id})}


CLAIMED_BY: Final = HotStatement(
    select(*(jobs.c[name] for name in ClaimedJob._fields)).where(IS_RUNNING, jobs.c.worker_id == bindparam("worker"))
)


def claimed_by(connection: Connection, worker_id: int) -> list[ClaimedJob]:
    """Return what the rows say this worker has claimed, which after a failed commit may be more than it knows."""
    return [ClaimedJob._make(row) for row in CLAIMED_BY.run(connection, {"worker": worker_id})]
