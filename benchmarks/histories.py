"""Files with a past: finished jobs, pending ones in many queues, and future ones of better priority."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from durablejobs import DurableJobs

LARGEST_CHUNK = 500_000

_FINISHED = """
    WITH RECURSIVE numbers(number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < ?)
    INSERT INTO jobs(
        handler, queue, args, status, attempt, claim_token, created_at, run_at, started_at, finished_at, result, error
    )
    SELECT
        'noop', 'queue-' || (number % ?), '[1,2]', iif(number % 100, 'succeeded', 'failed'), 1, 1, moment, moment,
        moment, moment, iif(number % 100, 'null', NULL), iif(number % 100, NULL, 'it broke')
    FROM (
        SELECT number, strftime('%Y-%m-%d %H:%M:%f000', 'now', ((number - ?) * 4.0e5 / ?) || ' seconds') AS moment
        FROM numbers
    )
"""
_WAITING = """
    WITH RECURSIVE numbers(number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < ?)
    INSERT INTO jobs(handler, queue, args, status, priority, run_at)
    SELECT
        'noop', 'queue-' || (number % ?), '[1,2]', ?, ?, strftime('%Y-%m-%d %H:%M:%f000', 'now', ?)
    FROM numbers
"""


def create(path: str) -> None:
    """Make an empty queue."""
    DurableJobs(path).migrate()


def add_finished(path: str, count: int, queues: int) -> None:
    """Add jobs that ended in the last four days and a half, one in a hundred of them failed."""
    while count > 0:
        chunk = min(count, LARGEST_CHUNK)
        _execute(path, _FINISHED, (chunk, queues, chunk, chunk))
        count -= chunk


def add_waiting(path: str, pending: int, future: int, queues: int) -> None:
    """Add jobs that are due, and jobs of better priority that are due in a day."""
    _execute(path, _WAITING, (pending, queues, "pending", 0, "0 seconds"))
    _execute(path, _WAITING, (future, queues, "scheduled", 10, "1 day"))


def _execute(path: str, statement: str, values: tuple[object, ...]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(statement, values)
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
