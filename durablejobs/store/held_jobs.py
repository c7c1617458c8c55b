"""Jobs that a worker has claimed: their leases are extended, some are to stop, some are given back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import BigInteger, Connection, Subquery, Update, bindparam, case, literal_column, select, update

from .conditions import IS_RUNNING, STILL_RUNS
from .counters import one_less
from .hot import HotStatement
from .json_rows import ROWS, as_json, statement_for_rows
from .moments import Moment
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


_IS_TO_STOP: Final = jobs.c.cancel_requested_at.is_not(None)


def _release(each: Subquery) -> Update:
    return (
        update(jobs)
        .where(jobs.c.id == each.c.id, jobs.c.claim_token == each.c.token, STILL_RUNS)
        .values(
            status=case((_IS_TO_STOP, literal_column("'cancelled'")), else_=literal_column("'pending'")),
            finished_at=case((_IS_TO_STOP, bindparam("now", type_=Moment))),
            attempt=one_less(jobs.c.attempt),
            worker_id=None,
            lease_expires_at=None,
            started_at=None,
        )
        .returning(jobs.c.id)
    )


RELEASE: Final = statement_for_rows({"id": BigInteger(), "token": BigInteger()}, _release)


def release(connection: Connection, claims: Iterable[tuple[int, int]], now: str) -> int:
    """Give back jobs that have not begun, or whose worker stops: their attempt is unspent.

    Each is told by its id and claim token. One whose cancellation was asked for is cancelled. Returns how many were
    still held by these claims.
    """
    return len(RELEASE.run(connection, {ROWS: as_json(claims), "now": now}).fetchall())


ASKED_TO_STOP: Final = HotStatement(
    select(jobs.c.id).where(IS_RUNNING, jobs.c.worker_id == bindparam("worker"), _IS_TO_STOP)
)


def asked_to_stop(connection: Connection, worker_id: int) -> set[int]:
    """Return the ids of the jobs that this worker has claimed and that are to be cancelled."""
    return {row[0] for row in ASKED_TO_STOP.run(connection, {"worker": worker_id})}


CLAIMED_BY: Final = HotStatement(
    select(jobs.c.id, jobs.c.claim_token).where(IS_RUNNING, jobs.c.worker_id == bindparam("worker"))
)


def claimed_by(connection: Connection, worker_id: int) -> dict[int, int]:
    """Return the tokens, by job, of what the rows say this worker has claimed.

    After a failed commit that may be more than it knows.
    """
    return dict(tuple(row) for row in CLAIMED_BY.run(connection, {"worker": worker_id}))
