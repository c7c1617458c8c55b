"""A PostgreSQL database with a million jobs, filled once for all processes of a test session; for reading.

Of 50 queues, most jobs have ended. The queue `long` has a backlog of one handler, `common`, and behind it some jobs
of another, `rare`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Final

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from durablejobs.store import Store

from ... import postgres

NOW: Final = "2030-01-01 12:00:00.000000"
QUEUES: Final = tuple(f"q{number}" for number in range(50))

_TIMES: Final = "timestamptz '2030-01-01 12:00+00'"
_ADD: Final = f"""
    INSERT INTO jobs(handler, queue, status, run_at, created_at, finished_at, lease_expires_at, worker_id, attempt,
        unique_key)
    SELECT {{handler}}, {{queue}}, {{status}}, {{run_at}}, {_TIMES} - interval '5 days',
        {{finished_at}}, {{lease_expires_at}}, {{worker_id}}, {{attempt}}, {{unique_key}}
    FROM generate_series(1, {{count}}) AS number
"""
_USUAL: Final = {
    "handler": "'mail'",
    "queue": "'q' || number % 50",
    "run_at": f"{_TIMES} - interval '1 hour'",
    "finished_at": "NULL::timestamptz",
    "lease_expires_at": "NULL::timestamptz",
    "worker_id": "NULL::bigint",
    "attempt": "0",
    "unique_key": "CASE WHEN number % 100 = 0 THEN 'key-' || number END",
}
_ENDED: Final = "CASE WHEN number % 100 = 0 THEN 'failed' WHEN number % 100 = 1 THEN 'cancelled' ELSE 'succeeded' END"
_PARTS: Final = (
    {
        "count": 670_000,
        "status": _ENDED,
        "finished_at": f"{_TIMES} - (670000 - number) * interval '0.6 seconds'",
    },
    {"count": 200_000, "status": "'pending'"},
    {"count": 50_000, "status": "'pending'", "queue": "'long'", "handler": "'common'", "unique_key": "NULL"},
    {"count": 100, "status": "'pending'", "queue": "'long'", "handler": "'rare'", "unique_key": "NULL"},
    {
        "count": 70_000,
        "status": "'scheduled'",
        "unique_key": "NULL",
        "run_at": f"{_TIMES} + (number - 5000) * interval '1 second'",
    },
    {
        "count": 10_000,
        "status": "'running'",
        "unique_key": "NULL",
        "worker_id": "number % 40",
        "attempt": "1",
        "lease_expires_at": f"{_TIMES} + interval '30 seconds'",
    },
)
_INDEXES: Final = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'jobs' AND indexname <> 'pk_jobs'"
_COUNT: Final = """
    INSERT INTO job_counts(queue, status, number)
    SELECT queue, status, count(*) FROM jobs WHERE finished_at IS NOT NULL GROUP BY queue, status
"""


@contextmanager
def database(server_url: str, session: str) -> Iterator[str]:
    """Yield the URL; the last process to leave drops the database."""
    name = f"durablejobs_million_{session[:12]}"
    url = make_url(server_url).set(database=name).render_as_string(hide_password=False)
    with postgres.admin(server_url) as admin:
        admin.execute("SELECT pg_advisory_lock(hashtext(%s))", (name,))
        if admin.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
            admin.execute(sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0").format(sql.Identifier(name)))
            _fill(url)
        with postgres.admin(url):  # while this is open nobody drops it
            admin.execute("SELECT pg_advisory_unlock(hashtext(%s))", (name,))
            yield url
        with suppress(psycopg.errors.ObjectInUse):
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))


def _fill(url: str) -> None:
    with closing(Store(url)) as store:
        store.migrate()
    with postgres.admin(url) as connection:
        connection.execute("SET maintenance_work_mem = '256MB'; SET session_replication_role = replica")  # no triggers
        found = connection.execute(_INDEXES).fetchall()
        for name, _ in found:
            connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
        for part in _PARTS:
            connection.execute(_ADD.format(**(_USUAL | part)))
        for _, definition in found:
            connection.execute(definition)
        connection.execute(_COUNT)
        connection.execute("VACUUM (ANALYZE) jobs")
