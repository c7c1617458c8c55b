"""Putting jobs into PostgreSQL: rows come as arrays, one for each column, so that one statement serves any number.

Ids come back by RETURNING, in no promised order; but PostgreSQL numbers the rows of `INSERT … SELECT … ORDER BY` in
that order, so sorted ids belong to the rows as they were given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

import psycopg
from psycopg.rows import tuple_row
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Double,
    Integer,
    Text,
    any_,
    bindparam,
    cast,
    func,
    null,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from ...errors import ConfigurationError
from ...jobs import NewJob
from ..arrays import array_text
from ..bulk import store_as_they_come, store_in_this_thread
from ..hot import DriverCursor, HotStatement, Run, run_on
from ..inserts import users_connection
from ..tables import KEY_IS_HELD, jobs
from ..unique import INSERT as INSERT_ONE
from ..unique import insert_job

_TYPES: Final = {"priority": Integer, "max_attempts": Integer, "timeout": Double}
"""How a column comes in; all others as text, also times and JSON."""
_MOMENTS: Final = frozenset({"run_at", "created_at", "now", "unique_until", "debounce_until"})
"""Parameters that are times."""

_incoming = (
    func.unnest(*(bindparam(name, type_=ARRAY(_TYPES.get(name, Text))) for name in NewJob._fields))
    .table_valued(*NewJob._fields, with_ordinality="position")
    .render_derived("incoming")
)
_rows = select(*(cast(_incoming.c[name], jobs.c[name].type) for name in NewJob._fields)).order_by(_incoming.c.position)
_insert = insert(jobs).from_select(NewJob._fields, _rows)

INSERT: Final = HotStatement(_insert.returning(jobs.c.id))
# The unique index decides, in the same statement: selecting first would race with other enqueuers.
INSERT_MANY: Final = HotStatement(
    _insert.on_conflict_do_nothing(index_elements=[jobs.c.unique_key], index_where=text(KEY_IS_HELD))
)
# First, because a statement for many rows does not say which of them it left out.
_RELEASE_EXPIRED: Final = HotStatement(
    update(jobs)
    .where(
        jobs.c.unique_key == any_(bindparam("keys", type_=ARRAY(Text))),
        text(KEY_IS_HELD),
        jobs.c.unique_until <= bindparam("now"),
        jobs.c.finished_at.is_not(None),
    )
    .values(unique_until=null())
)

_arguments = (
    func.unnest(bindparam("args", type_=ARRAY(Text)), bindparam("kwargs", type_=ARRAY(Text)))
    .table_valued("args", "kwargs", with_ordinality="position")
    .render_derived("arguments")
)


def _shared(name: str) -> ColumnElement[Any]:
    column = _arguments.c[name] if name in ("args", "kwargs") else bindparam(name, type_=jobs.c[name].type)
    return cast(column, jobs.c[name].type)


# Jobs of one `enqueue_many` differ in their arguments alone: what they share is passed once.
INSERT_ALIKE: Final = HotStatement(
    insert(jobs).from_select(
        NewJob._fields, select(*(_shared(name) for name in NewJob._fields)).order_by(_arguments.c.position)
    )
)

RunAtOnce = Callable[[str, Sequence[Any]], list[Any]]
"""Runs a statement that is a transaction of its own; returns its rows."""

_DRIVERS: Final = frozenset({"psycopg", "psycopg_async", "psycopg2"})
"""Drivers of a user's engine that take a statement as ours does."""

_NO_LIMIT: Final = "SET LOCAL idle_in_transaction_session_timeout = 0"
"""The iterable may be slow, and is the user's business: no limit on the pause between two statements."""


def insert_plain(run_at_once: RunAtOnce, schema: str, group: Sequence[NewJob]) -> list[int]:
    """Store jobs without unique keys by one statement that commits itself; return their ids."""
    statement, values = (INSERT_ONE, group[0]._asdict()) if len(group) == 1 else (INSERT, _as_arrays(group))
    compiled = statement.on_postgres(schema)
    return sorted(row[0] for row in run_at_once(compiled.sql, compiled.positional(values)))


def insert_group(connection: Connection, group: Sequence[NewJob]) -> list[tuple[int, bool]]:
    """Insert jobs; return for each its id and True, or the id of the job that holds its unique key and False."""
    run = run_on(connection)
    plain = [job for job in group if job.unique_key is None]
    ids = iter(sorted(row[0] for row in run(INSERT, _as_arrays(plain))) if plain else ())
    # In one order: two processes whose groups share keys would wait for each other otherwise.
    keyed = sorted((job.unique_key, place) for place, job in enumerate(group) if job.unique_key is not None)
    results = {place: insert_job(run, group[place]) for _, place in keyed}
    return [results[place] if place in results else (next(ids), True) for place in range(len(group))]


def insert_jobs(connection: Connection, new_jobs: Iterable[NewJob]) -> int:
    """Insert jobs as they come, holding few back; return how many rows were stored."""
    connection.exec_driver_sql(_NO_LIMIT)
    return store_as_they_come(new_jobs, partial(_insert_chunk, run_on(connection)))


def insert_alike(connection: Connection, template: NewJob, arguments: Iterable[tuple[str, str]]) -> int:
    """Insert jobs that are like the template but for args and kwargs; return how many rows were stored."""
    connection.exec_driver_sql(_NO_LIMIT)
    shared = {name: values[0] for name, values in _columns([template]).items()}

    def insert_chunk(rows: list[tuple[str, str]]) -> int:
        args, kwargs = map(array_text, zip(*rows, strict=True))
        return INSERT_ALIKE.run(connection, shared | {"args": args, "kwargs": kwargs}).rowcount

    return store_as_they_come(arguments, insert_chunk)


def _insert_chunk(run: Run, chunk: list[NewJob]) -> int:
    keys = [job.unique_key for job in chunk if job.unique_key is not None]
    if keys:
        run(_RELEASE_EXPIRED, {"keys": keys, "now": f"{chunk[0].created_at}+00"})
    return run(INSERT_MANY, _as_arrays(chunk)).rowcount


def insert_jobs_in(given: Any, new_jobs: Iterable[NewJob], schema: str) -> int:
    """Insert many jobs on a connection of the user's own; it is not used by another thread meanwhile."""
    return store_in_this_thread(new_jobs, partial(_insert_chunk, run_for_user(given, schema)))


def _as_arrays(new_jobs: Sequence[NewJob]) -> dict[str, str]:
    return {name: array_text(values) for name, values in _columns(new_jobs).items()}


def _columns(new_jobs: Sequence[NewJob]) -> dict[str, list[Any]]:
    columns = dict(zip(NewJob._fields, map(list, zip(*new_jobs, strict=True)), strict=True))
    for name in ("run_at", "created_at"):  # with the zone: a user's connection may have any
        columns[name] = [f"{moment}+00" for moment in columns[name]]
    return columns


def run_for_user(given: Any, schema: str) -> Run:
    """Return what runs statements on a `psycopg.Connection`, a SQLAlchemy `Connection` or `Session`."""
    if isinstance(given, psycopg.Connection):
        run = partial(_run_by_psycopg, given, schema)
    elif isinstance(given, _OnEventLoop):
        run = partial(_run_on_event_loop, given, schema)
    else:
        connection = users_connection(given, "postgresql", "a psycopg.Connection")
        if connection.dialect.driver not in _DRIVERS:
            raise ConfigurationError(
                "connection",
                f"uses the driver {connection.dialect.driver}, which takes statements in another form; "
                "make the engine with postgresql+psycopg://, which serves create_engine and create_async_engine",
            )
        run = partial(_run_by_sqlalchemy, connection, schema)

    def run_with_zone(statement: HotStatement, values: Mapping[str, Any]) -> DriverCursor:
        # A user's connection may have any time zone.
        return run(statement, {name: _with_zone(name, value) for name, value in values.items()})

    return run_with_zone


def _with_zone(name: str, value: Any) -> Any:
    return f"{value}+00" if name in _MOMENTS and isinstance(value, str) and len(value) == 26 else value


def _run_by_psycopg(
    connection: psycopg.Connection[Any], schema: str, statement: HotStatement, values: Mapping[str, Any]
) -> DriverCursor:
    compiled = statement.on_postgres(schema)
    cursor = connection.cursor(row_factory=tuple_row)  # the user's factory may return anything
    return cursor.execute(compiled.sql, compiled.positional(values))


class _OnEventLoop(NamedTuple):
    """A connection that only its event loop may use."""

    connection: psycopg.AsyncConnection[Any]
    loop: asyncio.AbstractEventLoop


@dataclass(frozen=True, slots=True)
class _Fetched:
    """What a statement brought, all of it."""

    rowcount: int
    rows: list[Any]

    def fetchone(self) -> Any:
        return self.rows[0] if self.rows else None

    def fetchall(self) -> list[Any]:
        return self.rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)


def for_threads(given: Any) -> Any:
    """Return what a thread takes for a connection of the running event loop; any other connection as it is."""
    if isinstance(given, psycopg.AsyncConnection):
        return _OnEventLoop(given, asyncio.get_running_loop())
    return given


def _run_on_event_loop(
    given: _OnEventLoop, schema: str, statement: HotStatement, values: Mapping[str, Any]
) -> DriverCursor:
    compiled = statement.on_postgres(schema)

    async def execute() -> _Fetched:
        async with given.connection.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(compiled.sql, compiled.positional(values))
            return _Fetched(cursor.rowcount, await cursor.fetchall() if cursor.description else [])

    return asyncio.run_coroutine_threadsafe(execute(), given.loop).result()


def _run_by_sqlalchemy(
    connection: Connection, schema: str, statement: HotStatement, values: Mapping[str, Any]
) -> DriverCursor:
    # Through SQLAlchemy, which has to know of the transaction.
    compiled = statement.on_postgres(schema)
    return connection.exec_driver_sql(compiled.sql, compiled.positional(values))
