"""How an attempt ends in the rows.

Every statement carries the claim token: a worker that lost its claim changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import lru_cache
from itertools import chain
from typing import Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Connection,
    Integer,
    Text,
    bindparam,
    case,
    cast,
    func,
    insert,
    literal_column,
    select,
    update,
)

from ..clock import from_text, to_text
from ..jobs import ClaimedJob
from ..outcomes import Crashed, Errored, Failure, GaveUp, Outcome, Settled, Snoozed, Stopped, Succeeded, failure_of
from ..statuses import FINAL, Status
from .arrays import array_text
from .conditions import IS_HELD, STILL_RUNS
from .counters import one_less, one_more
from .hot import DriverCursor, HotStatement, driver_of, in_sizes, is_postgres
from .json_text import JsonText
from .moments import Moment
from .tables import job_errors, jobs

ERROR_SHOWN: Final = 500
"""Characters of the last error that the job's own row keeps."""


class Ending(NamedTuple):
    """One run that has ended: what it came to, and when it began and ended (text, as in the row)."""

    job: ClaimedJob
    outcome: Outcome
    started_at: str
    ended_at: str


class Settlement(NamedTuple):
    """What settling came to."""

    lost: list[ClaimedJob]
    """Jobs whose claim was gone: their endings changed nothing."""
    statuses: dict[int, Status]
    """The new status of each job that did not succeed."""


_SIZES: Final = (2000, 500, 100, 20, 4, 1)
"""The largest is what a worker with short jobs has claimed ahead."""


@lru_cache(maxsize=len(_SIZES))
def succeed_statement(count: int) -> str:
    """Return the statement that ends so many jobs as succeeded.

    One statement for many rows, because each step of a statement gives the interpreter lock away and has to get it
    back: row by row would wait for busy handlers once per row, with the write lock in hand. The rows are a subquery
    and not a WITH, because the driver counts changed rows only for statements that begin with UPDATE; SQLite names
    the columns of VALUES column1 and so on.
    """
    rows = ", ".join(["(?, ?, ?, ?, ?)"] * count)
    return f"""
        UPDATE jobs SET
            status = 'succeeded',
            started_at = ended.column3,
            finished_at = ended.column4,
            result = ended.column5,
            worker_id = NULL,
            lease_expires_at = NULL
        FROM (VALUES {rows}) AS ended
        WHERE jobs.id = ended.column1 AND jobs.claim_token = ended.column2 AND jobs.status = 'running'
    """  # noqa: S608 - only placeholders are formatted in


def settle(connection: Connection, worker_id: int, endings: Sequence[Ending]) -> Settlement:
    """Write the endings of runs, each guarded by its claim token."""
    succeeded = [ending for ending in endings if type(ending.outcome) is Succeeded]
    lost = succeed(connection, succeeded)
    statuses: dict[int, Status] = {}
    if len(succeeded) < len(endings):
        for ending in endings:
            if type(ending.outcome) in (Succeeded, Settled):
                continue
            status = _end_otherwise(connection, worker_id, ending)
            if status is None:
                lost += _not_settled(connection, [ending])
            else:
                statuses[ending.job.id] = status
    return Settlement(lost, statuses)


def succeed(connection: Connection, endings: list[Ending]) -> list[ClaimedJob]:
    """Write the endings of runs that succeeded; return the jobs whose claim was gone."""
    lost: list[ClaimedJob] = []
    for chunk in _together(connection, endings):
        if _succeed(connection, chunk) < len(chunk):
            lost += _not_settled(connection, chunk)
    return lost


def _together(connection: Connection, endings: list[Ending]) -> Iterable[list[Ending]]:
    """Split into what one statement takes: in PostgreSQL all, however many; each statement fires the triggers once."""
    if is_postgres(connection):
        return [endings] if endings else []
    return in_sizes(endings, _SIZES)


_array_of_texts = ARRAY(Text)
_array_of_numbers = ARRAY(BigInteger)
_ended = (
    func.unnest(
        bindparam("ids", type_=_array_of_numbers),
        bindparam("tokens", type_=_array_of_numbers),
        bindparam("started", type_=_array_of_texts),
        bindparam("finished", type_=_array_of_texts),
        bindparam("results", type_=_array_of_texts),
    )
    .table_valued("id", "token", "started_at", "finished_at", "result")
    .render_derived("ended")
)

# Any number of rows as arrays, and so one statement that is prepared once.
SUCCEED_IN_POSTGRES: Final = HotStatement(
    update(jobs)
    .where(
        jobs.c.id == _ended.c.id,
        jobs.c.claim_token == _ended.c.token,
        STILL_RUNS,
    )
    .values(
        status=literal_column("'succeeded'"),
        started_at=cast(_ended.c.started_at, Moment),
        finished_at=cast(_ended.c.finished_at, Moment),
        result=cast(_ended.c.result, JsonText),
        worker_id=None,
        lease_expires_at=None,
    )
)


def _succeed(connection: Connection, endings: list[Ending]) -> int:
    rows = [
        (job.id, job.claim_token, started_at, ended_at, outcome.result)  # type: ignore[union-attr]
        for job, outcome, started_at, ended_at in endings
    ]
    if is_postgres(connection):
        columns = map(array_text, zip(*rows, strict=True))
        values = dict(zip(("ids", "tokens", "started", "finished", "results"), columns, strict=True))
        return SUCCEED_IN_POSTGRES.run(connection, values).rowcount
    cursor: DriverCursor = driver_of(connection).execute(succeed_statement(len(rows)), list(chain.from_iterable(rows)))
    return cursor.rowcount


_IS_SETTLED: Final = HotStatement(
    select(jobs.c.id).where(
        jobs.c.id == bindparam("job"),
        jobs.c.claim_token == bindparam("token"),
        jobs.c.status == literal_column("'succeeded'"),
    )
)


def _not_settled(connection: Connection, endings: list[Ending]) -> list[ClaimedJob]:
    """Return the jobs that are not ours any more.

    One that stands there as succeeded under our token is ours: a commit that reported an error had arrived after all,
    or a child process that has settled its run died before it could say so.
    """
    return [
        job
        for job, *_ in endings
        if _IS_SETTLED.run(connection, {"job": job.id, "token": job.claim_token}).fetchone() is None
    ]


# A cancel that was requested while the job ran wins over another run.
_is_cancelled: Final = jobs.c.cancel_requested_at.is_not(None) & bindparam("status", type_=Text).in_(
    [literal_column("'scheduled'"), literal_column("'pending'")]
)

_END_OTHERWISE: Final = HotStatement(
    update(jobs)
    .where(*IS_HELD)
    .values(
        status=case((_is_cancelled, literal_column("'cancelled'")), else_=bindparam("status", type_=Text)),
        finished_at=case(
            (_is_cancelled, bindparam("ended_at", type_=Moment)), else_=bindparam("finished_at", type_=Moment)
        ),
        attempt=one_less(jobs.c.attempt, bindparam("unspent", type_=Integer)),
        crashes=one_more(jobs.c.crashes, bindparam("crashed", type_=Integer)),
        run_at=bindparam("run_at"),
        error=func.coalesce(bindparam("error", type_=Text), jobs.c.error),
        started_at=bindparam("started_at"),
        worker_id=None,
        lease_expires_at=None,
    )
    .returning(jobs.c.status)
)


def _end_otherwise(connection: Connection, worker_id: int, ending: Ending) -> Status | None:
    """Write an ending that is not a success; return the new status, or None when the claim was lost."""
    job, outcome, started_at, ended_at = ending
    status, delay = _consequence(job, outcome)
    failure = failure_of(outcome)
    row = _END_OTHERWISE.run(
        connection,
        {
            "job": job.id,
            "token": job.claim_token,
            "status": status.value,
            "ended_at": ended_at,
            "finished_at": ended_at if status in FINAL else None,
            "crashed": 1 if isinstance(outcome, Crashed) else 0,
            "unspent": 1 if isinstance(outcome, Snoozed) else 0,
            "run_at": job.run_at if delay is None else _later(ended_at, delay),
            "error": failure.message[:ERROR_SHOWN] if failure else None,
            "started_at": started_at,
        },
    ).fetchone()
    if row is None:
        return None
    if failure is not None and not isinstance(outcome, Stopped):
        record_error(connection, job.id, job.attempt, worker_id, started_at, ended_at, failure)
    return Status(row[0])


def _consequence(job: ClaimedJob, outcome: Outcome) -> tuple[Status, float | None]:
    """Return the status that follows from an outcome, and the delay where the job comes back."""
    match outcome:
        case Snoozed(delay):
            return Status.SCHEDULED, delay
        case Errored(_, delay) if job.has_attempt_left:
            return Status.SCHEDULED, delay
        case Crashed(_, gives_up):
            return (Status.FAILED if gives_up else Status.PENDING), None
        case Errored() | GaveUp():
            return Status.FAILED, None
        case Stopped():
            return Status.CANCELLED, None
        case Succeeded() | Settled():
            return Status.SUCCEEDED, None


def _later(moment: str, delay: float) -> str:
    return to_text(from_text(moment) + timedelta(seconds=delay))


_RECORD_ERROR: Final = HotStatement(
    insert(job_errors).values(
        {
            name: bindparam(name)
            for name in ("job_id", "attempt", "worker_id", "started_at", "ended_at", "kind", "message", "traceback")
        }
    )
)


def record_error(
    connection: Connection,
    job_id: int,
    attempt: int,
    worker_id: int | None,
    started_at: str | None,
    ended_at: str,
    failure: Failure,
) -> None:
    """Keep one attempt that did not succeed."""
    _RECORD_ERROR.run(
        connection,
        {
            "job_id": job_id,
            "attempt": attempt,
            "worker_id": worker_id,
            "started_at": started_at,
            "ended_at": ended_at,
            "kind": failure.kind,
            "message": failure.message,
            "traceback": failure.traceback,
        },
    )
