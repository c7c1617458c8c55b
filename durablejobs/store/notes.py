"""What running jobs say about themselves: progress and log lines, each write guarded by the claim token."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection, bindparam, func, insert, select, update

from ..jobs import ClaimedJob, Notes
from ..records import LogLine
from .conditions import IS_HELD
from .hot import HotStatement
from .json_text import JsonText
from .tables import job_logs, jobs

# Also where there is no progress to write: that it finds its row says that the job is still this worker's.
_PROGRESS: Final = HotStatement(
    update(jobs).where(*IS_HELD).values(progress=func.coalesce(bindparam("progress", type_=JsonText), jobs.c.progress))
)
_LINE: Final = HotStatement(
    insert(job_logs).values({name: bindparam(name) for name in ("job_id", "attempt", "at", "level", "message")})
)
# A run before this one, given back, may have had the same number of the attempt.
_WRITTEN_LINES: Final = HotStatement(
    select(func.count().label("lines")).where(
        job_logs.c.job_id == bindparam("job"),
        job_logs.c.attempt == bindparam("attempt"),
        job_logs.c.at >= bindparam("first_at"),
    )
)


def write_notes(connection: Connection, notes: Iterable[Notes]) -> None:
    """Write the notes of jobs that are still this worker's; those of others are dropped."""
    for job, progress, lines, may_be_written in notes:
        values = {"job": job.id, "token": job.claim_token, "progress": progress}
        if not _PROGRESS.run(connection, values).rowcount:
            continue
        if may_be_written and lines:
            lines = lines[_count_written(connection, job, lines[0].at) :]
        for at, level, message in lines:
            line = {"job_id": job.id, "attempt": job.attempt, "at": at, "level": level, "message": message}
            _LINE.run(connection, line)


def _count_written(connection: Connection, job: ClaimedJob, first_at: str) -> int:
    values = {"job": job.id, "attempt": job.attempt, "first_at": first_at}
    written: int = next(iter(_WRITTEN_LINES.run(connection, values)))[0]
    return written


def log_of(connection: Connection, job_id: int) -> list[LogLine]:
    """Return the kept log of a job, oldest first."""
    columns = [job_logs.c[name] for name in LogLine.__slots__]
    rows = connection.execute(select(*columns).where(job_logs.c.job_id == job_id).order_by(job_logs.c.id))
    return [LogLine(*row) for row in rows]
