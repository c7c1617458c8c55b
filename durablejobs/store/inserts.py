"""Putting jobs in: those that share a commit, and through the user's own transaction; see `unique` for a single one."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects.sqlite import insert

from ..errors import ConfigurationError
from ..jobs import NewJob
from .hot import HotStatement
from .tables import KEY_IS_HELD, jobs

_new_row = insert(jobs).values({name: bindparam(name) for name in NewJob._fields})

# The fields of a NewJob are the parameters of these, in their order: a job is its own parameter tuple.
INSERT: Final = HotStatement(_new_row)
# The unique index decides, in the same statement: selecting first would race with other enqueuers.
INSERT_UNLESS_DUPLICATE: Final = HotStatement(
    _new_row.on_conflict_do_nothing(index_elements=[jobs.c.unique_key], index_where=text(KEY_IS_HELD))
)

ROWS_PER_STATEMENT: Final = 100

AnyConnection = Connection | sqlite3.Connection
"""A SQLAlchemy connection, or the standard library's."""


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


def insert_jobs_in(connection: AnyConnection, new_jobs: Iterable[NewJob]) -> int:
    """Insert jobs on a connection of the user's own; return how many rows were stored."""
    if isinstance(connection, sqlite3.Connection):
        return connection.executemany(INSERT_UNLESS_DUPLICATE.sql, new_jobs).rowcount
    stored, remaining = 0, iter(new_jobs)
    while chunk := list(
        islice(remaining, ROWS_PER_STATEMENT)
    ):  # through SQLAlchemy, which has to know of the transaction
        stored += connection.exec_driver_sql(INSERT_UNLESS_DUPLICATE.sql, chunk).rowcount
    return stored


def users_connection(given: Any) -> AnyConnection:
    """Return the connection behind what a user passes: `sqlite3.Connection`, SQLAlchemy `Connection` or `Session`."""
    if isinstance(given, Connection | sqlite3.Connection):
        return given
    orm = sys.modules.get("sqlalchemy.orm")  # not imported for this: who has a Session has imported it
    if orm is not None and isinstance(given, orm.Session):
        return given.connection()  # type: ignore[no-any-return]
    raise ConfigurationError(
        "connection",
        f"must be a SQLAlchemy Connection or Session, or a sqlite3.Connection, not {type(given).__name__}",
    )


def execute(connection: AnyConnection, sql: str, values: tuple[Any, ...]) -> Any:
    """Run a statement on a connection of either kind; return its cursor."""
    if isinstance(connection, sqlite3.Connection):
        cursor = connection.cursor()
        cursor.row_factory = None  # the user's factory may return anything
        return cursor.execute(sql, values)
    return connection.exec_driver_sql(sql, values)
