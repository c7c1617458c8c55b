"""The limit: what the standard library's sqlite3 does with such rows, and no queue around them.

One plain table with one partial index, write-ahead log, `synchronous=FULL`, one connection, one thread. A queue has to
do all of this and more, so nothing that keeps its jobs as safe can be faster.
"""

from __future__ import annotations

import sqlite3
import time

NOW = "2026-01-01 00:00:00.000000"

TABLE = """
    CREATE TABLE jobs (
        id INTEGER PRIMARY KEY,
        queue TEXT NOT NULL DEFAULT 'default',
        handler TEXT NOT NULL,
        args TEXT NOT NULL DEFAULT '[]',
        kwargs TEXT NOT NULL DEFAULT '{}',
        status TEXT NOT NULL DEFAULT 'pending',
        priority INT NOT NULL DEFAULT 0,
        run_at TEXT NOT NULL,
        attempt INT NOT NULL DEFAULT 0,
        max_attempts INT NOT NULL DEFAULT 20,
        created_at TEXT, started_at TEXT, finished_at TEXT, lease_until TEXT, worker TEXT, result TEXT, error TEXT
    )
"""
INDEX = "CREATE INDEX pending ON jobs(queue, priority, run_at, id) WHERE status = 'pending'"
INSERT = "INSERT INTO jobs(handler, args, run_at, created_at) VALUES ('noop', '[1,2]', ?, ?)"
CLAIM = """
    UPDATE jobs SET status = 'running', attempt = attempt + 1, started_at = ?, lease_until = ?, worker = 'w'
    WHERE id IN (
        SELECT id FROM jobs WHERE status = 'pending' AND queue = 'default' AND run_at <= ?
        ORDER BY priority, run_at, id LIMIT ?
    )
    RETURNING id, args
"""
FINISH = "UPDATE jobs SET status = 'succeeded', finished_at = ?, result = 'null' WHERE id = ? AND worker = 'w'"


def _database(path: str) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute(TABLE)
    database.execute(INDEX)
    return database


def insert_single(path: str, count: int) -> float:
    """Insert rows with one commit each; return the rate."""
    database = _database(path)
    start = time.perf_counter()
    for _ in range(count):
        database.execute(INSERT, (NOW, NOW))
    return count / (time.perf_counter() - start)


def commit_times(path: str, gaps: list[float]) -> list[float]:
    """Insert a row after each of these pauses, in seconds; return the milliseconds that each commit took."""
    database = _database(path)
    found = []
    for gap in gaps:
        time.sleep(gap)
        start = time.perf_counter()
        database.execute(INSERT, (NOW, NOW))
        found.append((time.perf_counter() - start) * 1e3)
    return found


def insert_bulk(path: str, count: int) -> float:
    """Insert rows in one transaction; return the rate."""
    database = _database(path)
    start = time.perf_counter()
    _fill(database, count)
    return count / (time.perf_counter() - start)


def claim_finish(path: str, count: int, batch: int = 100) -> float:
    """Claim a batch in one transaction and finish it in the next, until all rows are done; return the rate."""
    database = _database(path)
    _fill(database, count)
    done = 0
    start = time.perf_counter()
    while done < count:
        database.execute("BEGIN IMMEDIATE")
        rows = database.execute(CLAIM, (NOW, NOW, NOW, batch)).fetchall()
        database.execute("COMMIT")
        database.execute("BEGIN IMMEDIATE")
        database.executemany(FINISH, [(NOW, row[0]) for row in rows])
        database.execute("COMMIT")
        done += len(rows)
    return count / (time.perf_counter() - start)


def _fill(database: sqlite3.Connection, count: int) -> None:
    database.execute("BEGIN IMMEDIATE")
    database.executemany(INSERT, ((NOW, NOW) for _ in range(count)))
    database.execute("COMMIT")
