"""Putting jobs into SQLite: one, those that share a commit, and through the user's own transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import chain, islice
from typing import Any, Final

from sqlalchemy import Connection, bindparam
from sqlalchemy.dialects.sqlite import insert

from ...errors import DuplicateJobError
from ...jobs import NewJob
from ..hot import HotStatement
from ..inserts import LIVE, LIVE_BY_UNIQUE_KEY, users_connection
from ..tables import jobs

_new_row = insert(jobs).values({name: bindparam(name) for name in NewJob._fields})

# The fields of a NewJob are the parameters of these, in their order: a job is its own parameter tuple.
INSERT: Final = HotStatement(_new_row)
# The unique index decides, in the same statement: selecting first would race with other enqueuers.
INSERT_UNLESS_DUPLICATE: Final = HotStatement(
    _new_row.on_conflict_do_nothing(index_elements=[jobs.c.unique_key], index_where=LIVE)
)

ROWS_PER_STATEMENT: Final = 100

AnyConnection = Connection | sqlite3.Connection
"""A SQLAlchemy connection, or the standard library's."""


def insert_job(connection: AnyConnection, job: NewJob) -> tuple[int, bool]:
    """Insert one job; return its id and True, or the id of the live job with its unique key and False."""
    if job.unique_key is None:
        return int(_execute(connection, INSERT.sql, job).lastrowid), True
    cursor = _execute(connection, INSERT_UNLESS_DUPLICATE.sql, job)
    if cursor.rowcount:
        return int(cursor.lastrowid), True
    row = _execute(connection, LIVE_BY_UNIQUE_KEY.sql, (job.unique_key,)).fetchone()
    if row is None:  # it ended in between; only possible outside a write transaction
        raise DuplicateJobError(job.unique_key)
    return int(row[0]), False


def insert_group(write_at_once: Callable[..., sqlite3.Cursor], group: Sequence[NewJob]) -> range:
    """Store plain jobs by one statement that commits itself; return their ids."""
    values = group[0] if len(group) == 1 else tuple(chain.from_iterable(group))
    cursor = write_at_once(for_rows(INSERT, len(group)), values)
    return plain_ids(int(cursor.lastrowid or 0), len(group))


def is_plain(group: Sequence[NewJob]) -> bool:
    """Whether these jobs can be stored by one statement that tells their ids: few, and none has a unique key."""
    return len(group) <= ROWS_PER_STATEMENT and all(job.unique_key is None for job in group)


def plain_ids(last: int, count: int) -> range:
    """Return the ids of the rows of one statement: SQLite numbers them in their order, nobody comes in between."""
    return range(last - count + 1, last + 1)


@lru_cache(maxsize=2 * ROWS_PER_STATEMENT)
def for_rows(statement: HotStatement, count: int) -> str:
    """Return an INSERT of one row as an INSERT of many."""
    one_row = f"({', '.join('?' * len(NewJob._fields))})"
    return statement.sql.replace(one_row, ", ".join([one_row] * count))


def insert_jobs_in(given: Any, new_jobs: Iterable[NewJob]) -> int:
    """Insert jobs on a connection of the user's own; return how many rows were stored."""
    connection = _users_connection(given)
    if isinstance(connection, sqlite3.Connection):
        return connection.executemany(INSERT_UNLESS_DUPLICATE.sql, new_jobs).rowcount
    stored, remaining = 0, iter(new_jobs)
    while chunk := list(
        islice(remaining, ROWS_PER_STATEMENT)
    ):  # through SQLAlchemy, which has to know of the transaction
        stored += connection.exec_driver_sql(INSERT_UNLESS_DUPLICATE.sql, chunk).rowcount
    return stored


def insert_job_in(given: Any, job: NewJob) -> tuple[int, bool]:
    """Insert one job on a connection of the user's own."""
    return insert_job(_users_connection(given), job)


def _users_connection(given: Any) -> AnyConnection:
    return given if isinstance(given, sqlite3.Connection) else users_connection(given, "sqlite", "a sqlite3.Connection")


def _execute(connection: AnyConnection, sql: str, values: tuple[Any, ...]) -> Any:
    if isinstance(connection, sqlite3.Connection):
        cursor = connection.cursor()
        cursor.row_factory = None  # the user's factory may return anything
        return cursor.execute(sql, values)
    return connection.exec_driver_sql(sql, values)
