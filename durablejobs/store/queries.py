"""Reading jobs for people: one, many, and in numbers. Nothing here is needed to run jobs."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    cast,
    func,
    literal_column,
    select,
    union_all,
)

from ..jobs import Job
from ..records import JobError, JobFilter, QueueStatistics
from ..statuses import FINAL, Status
from .hot import is_postgres
from .tables import job_counts, job_errors, jobs

_INNER_COLUMNS: Final = frozenset({"claim_token", "unique_while", "unique_until", "debounce_until"})
_JOB_COLUMNS: Final = [column for column in jobs.c if column.name not in _INNER_COLUMNS]
_JSON_COLUMNS: Final = ("args", "kwargs", "result", "progress", "meta")


def job_from_row(row: RowMapping) -> Job:
    """Return the record of a row; JSON that Python cannot read is shown as the text it is."""
    values: dict[str, Any] = {str(name): value for name, value in row.items()}
    for name in _JSON_COLUMNS:
        values[name] = _decoded(values[name])
    values["status"] = Status(values["status"])
    return Job(**values)


def _decoded(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def job_by_id(connection: Connection, job_id: int) -> Job | None:
    """Return one job."""
    row = connection.execute(select(*_JOB_COLUMNS).where(jobs.c.id == job_id)).mappings().first()
    return job_from_row(row) if row is not None else None


def errors_of(connection: Connection, job_id: int) -> list[JobError]:
    """Return the attempts of a job that did not succeed, oldest first."""
    columns = [job_errors.c[name] for name in JobError.__slots__]
    rows = connection.execute(select(*columns).where(job_errors.c.job_id == job_id).order_by(job_errors.c.id))
    return [JobError(*row) for row in rows]


def matching(wanted: JobFilter) -> list[ColumnElement[bool]]:
    """Return the conditions of a filter."""
    conditions: list[ColumnElement[bool]] = []
    if wanted.statuses:
        conditions.append(jobs.c.status.in_(wanted.statuses))
    if wanted.handler is not None:
        conditions.append(jobs.c.handler == wanted.handler)
    if wanted.queue is not None:
        conditions.append(jobs.c.queue == wanted.queue)
    return conditions


def list_jobs(connection: Connection, wanted: JobFilter, limit: int, before: int | None) -> list[Job]:
    """Return jobs that match, newest (highest id) first, with ids below `before`."""
    statement = select(*_JOB_COLUMNS).order_by(jobs.c.id.desc())
    if not wanted.statuses:
        statement = statement.where(*matching(wanted), *_below(before)).limit(limit)
        return [job_from_row(row) for row in connection.execute(statement).mappings()]
    # First the ids, then their rows: in one statement SQLite may walk the whole table to find none.
    newest = union_all(*(_newest_of_status(status, wanted, limit, before) for status in wanted.statuses))
    ids = sorted((row[0] for row in connection.execute(newest)), reverse=True)[:limit]
    found: list[Job] = []
    for start in range(0, len(ids), _IDS_PER_STATEMENT):
        some = statement.where(jobs.c.id.in_(ids[start : start + _IDS_PER_STATEMENT]))
        found += (job_from_row(row) for row in connection.execute(some).mappings())
    return found


_IDS_PER_STATEMENT: Final = 500
"""SQLite takes 32,766 parameters, where it was not built for more."""


_RARE: Final = frozenset(Status) - {Status.SUCCEEDED, Status.BLOCKED}
"""Statuses with a partial index that holds few other jobs."""
# With the plus SQLite cannot use the order of ids, and so does not walk all jobs backwards to find three.
_UNORDERED_ID: Final = literal_column("+jobs.id", jobs.c.id.type)


FOUND_AT_A_LOOK: Final = 50_000
"""Ids, in SQLite, where the index that leads to rare jobs is not in the order of ids, and read whole each time."""
FOUND_BY_ID: Final = 500
"""The same in PostgreSQL, which goes on along the ids from look to look: for more it would read the whole table."""


def ids_after(connection: Connection, wanted: JobFilter, eligible: frozenset[Status], after: int) -> list[int]:
    """Return the next ids above `after`, ascending, of the jobs that match and are in an eligible status."""
    statuses = eligible.intersection(wanted.statuses or eligible)
    if not statuses:
        return []
    if is_postgres(connection):
        is_meant = jobs.c.id > after, jobs.c.status.in_(eligible), *matching(wanted)
        return list(connection.scalars(select(jobs.c.id).where(*is_meant).order_by(jobs.c.id).limit(FOUND_BY_ID)))
    next_ids = union_all(*(_next_of_status(status, wanted, after) for status in sorted(statuses)))
    ids: list[Any] = list(connection.execute(next_ids).scalars())
    return sorted(ids)[:FOUND_AT_A_LOOK]


def _next_of_status(status: Status, wanted: JobFilter, after: int) -> Select[tuple[int]]:
    job_id: ColumnElement[int] = _UNORDERED_ID if status in _RARE else jobs.c.id
    conditions = [*_of_status(status, wanted), job_id > after]
    return select(select(jobs.c.id).where(*conditions).order_by(job_id).limit(FOUND_AT_A_LOOK).subquery().c.id)


def _of_status(status: Status, wanted: JobFilter) -> list[ColumnElement[bool]]:
    """Return the conditions of the jobs of one status that match."""
    # A literal, so that SQLite sees that the partial index's condition holds.
    conditions: list[ColumnElement[bool]] = [jobs.c.status == literal_column(f"'{status.value}'")]
    conditions += matching(JobFilter(handler=wanted.handler, queue=wanted.queue))
    if status in FINAL:
        conditions.append(jobs.c.finished_at.is_not(None))
    return conditions


def _newest_of_status(status: Status, wanted: JobFilter, limit: int, before: int | None) -> Select[tuple[int]]:
    """Ids of the newest jobs of one status.

    Succeeded jobs are most of a long history: walking back from the newest id meets them at once. The others are
    rare in it; their own partial index holds just them, and sorting its ids is cheap.
    """
    conditions = _of_status(status, wanted)
    # With a handler asked for, each row is read anyway; a backlog of a million is read faster in the table's order.
    by_index = status in _RARE and not (wanted.handler and status in (Status.PENDING, Status.SCHEDULED))
    job_id: ColumnElement[int] = _UNORDERED_ID if by_index else jobs.c.id
    if before is not None:
        conditions.append(job_id < before)
    newest = select(jobs.c.id).where(*conditions).order_by(job_id.desc()).limit(limit)
    return select(newest.subquery().c.id)  # SQLite takes no ORDER BY inside a UNION ALL


def _below(before: int | None) -> list[ColumnElement[bool]]:
    return [] if before is None else [jobs.c.id < before]


def count_jobs(connection: Connection, wanted: JobFilter, eligible: frozenset[Status]) -> int:
    """Return how many jobs match, among those in an eligible status."""
    conditions = [jobs.c.status.in_(eligible), *matching(wanted)]
    return connection.execute(select(func.count()).select_from(jobs).where(*conditions)).scalar_one()


def statistics(connection: Connection, finished_since: datetime, minutes: float) -> list[QueueStatistics]:
    """Return the counts of each queue, and its endings per minute since the moment given."""
    counts: dict[str, dict[Status, int]] = {}
    for queue, status, number in connection.execute(union_all(*_live_counts(), _ended_counts())):
        counts.setdefault(queue, {})[Status(status)] = number
    oldest: dict[str, datetime] = dict(connection.execute(_oldest_waiting()).all())
    rates: dict[str, dict[Status, float]] = {}
    for queue, status, number in connection.execute(_recent_endings(finished_since)):
        rates.setdefault(queue, {})[Status(status)] = number / minutes
    return [QueueStatistics(queue, counts[queue], oldest.get(queue), rates.get(queue, {})) for queue in sorted(counts)]


def live_counts(connection: Connection) -> dict[str, dict[Status, int]]:
    """Return the counts of the jobs of each queue that have not ended."""
    counts: dict[str, dict[Status, int]] = {}
    for queue, status, number in connection.execute(union_all(*_live_counts())):
        counts.setdefault(queue, {})[Status(status)] = number
    return counts


def _live_counts() -> list[Select[Any]]:
    """Counts by queue and status, each from the index that covers it."""
    return [
        select(jobs.c.queue, literal_column(f"'{status.value}'").label("status"), func.count())
        .where(jobs.c.status == literal_column(f"'{status.value}'"))
        .group_by(jobs.c.queue)
        for status in (Status.PENDING, Status.SCHEDULED, Status.RUNNING)
    ]


def _ended_counts() -> Select[Any]:
    """Counts by queue and status, as triggers keep them."""
    number = cast(func.sum(job_counts.c.number), BigInteger)
    counts = select(job_counts.c.queue, job_counts.c.status, number).group_by(job_counts.c.queue, job_counts.c.status)
    return counts.having(number > 0)


def _oldest_waiting() -> Select[Any]:
    """The moment since which the lowest pending id of each queue has been due."""
    oldest = (
        select(jobs.c.queue, func.min(jobs.c.id).label("id"))
        .where(jobs.c.status == literal_column("'pending'"))
        .group_by(jobs.c.queue)
        .subquery("oldest")
    )
    return select(jobs.c.queue, jobs.c.run_at).join(oldest, jobs.c.id == oldest.c.id)


def _recent_endings(since: datetime) -> Select[Any]:
    return (
        select(jobs.c.queue, jobs.c.status, func.count())
        .where(
            jobs.c.status.in_([Status.SUCCEEDED, Status.FAILED, Status.CANCELLED]),
            jobs.c.finished_at >= since,
            jobs.c.finished_at.is_not(None),
        )
        .group_by(jobs.c.status, jobs.c.queue)
    )


def newest_job(connection: Connection) -> datetime | None:
    """Return when the job with the highest id was created."""
    return connection.execute(select(jobs.c.created_at).order_by(jobs.c.id.desc()).limit(1)).scalar()


def waiting_handlers(connection: Connection) -> dict[str, int]:
    """Return the handlers of pending and scheduled jobs, each with the number of its jobs."""
    waiting = [
        select(jobs.c.handler, func.count().label("number"))
        .where(jobs.c.status == literal_column(f"'{status.value}'"))
        .group_by(jobs.c.handler)
        for status in (Status.PENDING, Status.SCHEDULED)
    ]
    counts: dict[str, int] = {}
    for handler, number in connection.execute(union_all(*waiting)):
        counts[handler] = counts.get(handler, 0) + number
    return counts
