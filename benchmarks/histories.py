"""Databases with a past: finished jobs, pending ones in many queues, and future ones of better priority."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from durablejobs import DurableJobs

LARGEST_CHUNK = 500_000

_FINISHED = """
    WITH RECURSIVE numbers(number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < :count)
    INSERT INTO jobs(
        handler, queue, args, status, attempt, claim_token, created_at, run_at, started_at, finished_at, result, error
    )
    SELECT
        'noop', 'queue-' || (number % :queues), '[1,2]', iif(number % 100, 'succeeded', 'failed'), 1, 1, moment,
        moment, moment, moment, iif(number % 100, 'null', NULL), iif(number % 100, NULL, 'it broke')
    FROM (
        SELECT
            number, strftime('%Y-%m-%d %H:%M:%f000', 'now', ((number - :count) * 4.0e5 / :count) || ' seconds')
            AS moment
        FROM numbers
    )
"""
_WAITING = """
    WITH RECURSIVE numbers(number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < :count)
    INSERT INTO jobs(handler, queue, args, status, priority, run_at)
    SELECT
        'noop', 'queue-' || (number % :queues), '[1,2]', :status, :priority,
        strftime('%Y-%m-%d %H:%M:%f000', 'now', :days || ' days')
    FROM numbers
"""
_FINISHED_IN_POSTGRES = """
    INSERT INTO jobs(
        handler, queue, args, status, attempt, claim_token, created_at, run_at, started_at, finished_at, result, error
    )
    SELECT
        'noop', 'queue-' || number %% %(queues)s, '[1,2]', CASE WHEN fails THEN 'failed' ELSE 'succeeded' END, 1, 1,
        moment, moment, moment, moment, CASE WHEN NOT fails THEN 'null'::json END, CASE WHEN fails THEN 'it broke' END
    FROM (
        SELECT
            number, number %% 100 = 0 AS fails,
            now() + (number - %(count)s::int) * interval '400000 seconds' / %(count)s::int AS moment
        FROM generate_series(1, %(count)s::int) AS number
    ) AS numbered
"""
_WAITING_IN_POSTGRES = """
    INSERT INTO jobs(handler, queue, args, status, priority, run_at)
    SELECT
        'noop', 'queue-' || number %% %(queues)s, '[1,2]', %(status)s, %(priority)s,
        now() + %(days)s * interval '1 day'
    FROM generate_series(1, %(count)s::int) AS number
"""


def create(path: str) -> None:
    """Make an empty queue; `path` may be the URL of a PostgreSQL database."""
    DurableJobs(path).migrate()


def add_finished(path: str, count: int, queues: int) -> None:
    """Add jobs that ended in the last four days and a half, one in a hundred of them failed."""
    while count > 0:
        chunk = min(count, LARGEST_CHUNK)
        _execute(path, _FINISHED, _FINISHED_IN_POSTGRES, count=chunk, queues=queues)
        count -= chunk


def add_waiting(path: str, pending: int, future: int, queues: int) -> None:
    """Add jobs that are due, and jobs of better priority that are due in a day."""
    kinds = {"pending": (pending, 0, 0), "scheduled": (future, 10, 1)}
    for status, (count, priority, days) in kinds.items():
        values = {"count": count, "queues": queues, "status": status, "priority": priority, "days": days}
        _execute(path, _WAITING, _WAITING_IN_POSTGRES, **values)


def _execute(path: str, in_sqlite: str, in_postgres: str, **values: object) -> None:
    if path.startswith("postgresql://"):
        _execute_in_postgres(path, in_postgres, values)
        return
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(in_sqlite, values)
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _execute_in_postgres(url: str, statement: str, values: dict[str, object]) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement, values)
        connection.execute("VACUUM (ANALYZE) jobs")
        connection.execute("CHECKPOINT")
