"""Putting jobs into SQLite: those that share a commit, and through the user's own transaction; see `unique` for one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects.sqlite import insert

from ...errors import ConfigurationError
from ...jobs import NewJob
from ..hot import DriverCursor, HotStatement, Run
from ..inserts import users_connection
from ..tables import KEY_IS_HELD, jobs

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
Execute = Callable[[str, tuple[Any, ...]], DriverCursor]
"""Executes SQL with its parameters."""


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


def refuse_other_file(given: Any, path: Path) -> None:
    """Raise `ConfigurationError` unless the user's connection is to this file: the job would be in another queue."""
    rows = execute_for_user(given)("PRAGMA database_list", ())
    files = [row[2] for row in rows if row[2]]
    if any(Path(file) == path or (Path(file).exists() and path.samefile(file)) for file in files):
        return
    where = files[0] if files else "a database in memory"
    raise ConfigurationError("connection", f"is to {where}, not to {path}; enqueue by a connection to the same file")


def run_for_user(given: Any) -> Run:
    """Return what runs statements on a connection of the user's own."""
    execute = execute_for_user(given)

    def run(statement: HotStatement, values: Mapping[str, Any]) -> DriverCursor:
        compiled = statement.on_sqlite()
        return execute(compiled.sql, compiled.positional(values))

    return run


def execute_for_user(given: Any) -> Execute:
    """Return what executes SQL on a connection of the user's own."""
    connection = _users_connection(given)
    if isinstance(connection, Connection):
        return connection.exec_driver_sql  # through SQLAlchemy, which has to know of the transaction

    def execute(sql: str, values: tuple[Any, ...]) -> DriverCursor:
        cursor = connection.cursor()
        cursor.row_factory = None  # the user's factory may return anything
        return cursor.execute(sql, values)

    return execute


def _users_connection(given: Any) -> AnyConnection:
    return given if isinstance(given, sqlite3.Connection) else users_connection(given, "sqlite", "a sqlite3.Connection")
