"""Putting jobs into PostgreSQL: rows come as arrays, one for each column, so that one statement serves any number.

Ids come back by RETURNING, in no promised order; but PostgreSQL numbers the rows of `INSERT … SELECT … ORDER BY` in
that order, so sorted ids belong to the rows as they were given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final

import psycopg
from psycopg.rows import tuple_row
from sqlalchemy import ARRAY, ColumnElement, Connection, Double, Integer, Text, bindparam, cast, func, select
from sqlalchemy.dialects.postgresql import insert

from ...errors import DuplicateJobError
from ...jobs import NewJob
from ..bulk import CHUNK, store_as_they_come
from ..hot import DriverCursor, HotStatement
from ..inserts import LIVE, LIVE_BY_UNIQUE_KEY, users_connection
from ..tables import jobs

_TYPES: Final = {"priority": Integer, "max_attempts": Integer, "timeout": Double}
"""How a column comes in; all others as text, also times and JSON."""
_MOMENTS: Final = tuple(NewJob._fields.index(name) for name in ("run_at", "created_at"))

_incoming = (
    func.unnest(*(bindparam(name, type_=ARRAY(_TYPES.get(name, Text))) for name in NewJob._fields))
    .table_valued(*NewJob._fields, with_ordinality="position")
    .render_derived("incoming")
)
_rows = select(*(cast(_incoming.c[name], jobs.c[name].type) for name in NewJob._fields)).order_by(_incoming.c.position)
_insert = insert(jobs).from_select(NewJob._fields, _rows)

INSERT: Final = HotStatement(_insert.returning(jobs.c.id))
# The unique index decides, in the same statement: selecting first would race with other enqueuers.
_unless_duplicate = _insert.on_conflict_do_nothing(index_elements=[jobs.c.unique_key], index_where=LIVE)
INSERT_UNLESS_DUPLICATE: Final = HotStatement(_unless_duplicate.returning(jobs.c.id))
INSERT_MANY: Final = HotStatement(_unless_duplicate)

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

Run = Callable[[HotStatement, Mapping[str, Any]], DriverCursor]
"""Runs a statement on one of the connections that it may come from."""

_TRIES: Final = 3
_NO_LIMIT: Final = "SET LOCAL idle_in_transaction_session_timeout = 0"
"""The iterable may be slow, and is the user's business: no limit on the pause between two statements."""


def insert_group(connection: Connection, group: Sequence[NewJob]) -> list[tuple[int, bool]]:
    """Insert jobs; return for each its id and True, or the id of the live job with its unique key and False."""
    run = partial(_run, connection)
    plain = [job for job in group if job.unique_key is None]
    ids = iter(sorted(row[0] for row in run(INSERT, _as_arrays(plain))) if plain else ())
    return [(next(ids), True) if job.unique_key is None else _insert_with_key(run, job) for job in group]


def _insert_with_key(run: Run, job: NewJob) -> tuple[int, bool]:
    for _ in range(_TRIES):
        row = run(INSERT_UNLESS_DUPLICATE, _as_arrays([job])).fetchone()
        if row is not None:
            return int(row[0]), True
        row = run(LIVE_BY_UNIQUE_KEY, {"unique_key": job.unique_key}).fetchone()
        if row is not None:
            return int(row[0]), False
        # It ended in between: the key is free again.
    raise DuplicateJobError(str(job.unique_key))


def insert_jobs(connection: Connection, new_jobs: Iterable[NewJob]) -> int:
    """Insert jobs as they come, holding few back; return how many rows were stored."""
    connection.exec_driver_sql(_NO_LIMIT)
    return store_as_they_come(new_jobs, partial(_insert_chunk, partial(_run, connection)))


def insert_alike(connection: Connection, template: NewJob, arguments: Iterable[tuple[str, str]]) -> int:
    """Insert jobs that are like the template but for args and kwargs; return how many rows were stored."""
    connection.exec_driver_sql(_NO_LIMIT)
    shared = {name: values[0] for name, values in _as_arrays([template]).items()}

    def insert_chunk(rows: list[tuple[str, str]]) -> int:
        args, kwargs = map(list, zip(*rows, strict=True))
        return INSERT_ALIKE.run(connection, shared | {"args": args, "kwargs": kwargs}).rowcount

    return store_as_they_come(arguments, insert_chunk)


def _insert_chunk(run: Run, chunk: list[NewJob]) -> int:
    return run(INSERT_MANY, _as_arrays(chunk)).rowcount


def insert_job_in(given: Any, job: NewJob, schema: str) -> tuple[int, bool]:
    """Insert one job on a connection of the user's own."""
    run = _users(given, schema)
    if job.unique_key is not None:
        return _insert_with_key(run, job)
    return int(run(INSERT, _as_arrays([job])).fetchone()[0]), True


def insert_jobs_in(given: Any, new_jobs: Iterable[NewJob], schema: str) -> int:
    """Insert many jobs on a connection of the user's own; it is not used by another thread meanwhile."""
    run, stored, remaining = _users(given, schema), 0, iter(new_jobs)
    while chunk := list(islice(remaining, CHUNK)):
        stored += _insert_chunk(run, chunk)
    return stored


def _as_arrays(new_jobs: Sequence[NewJob]) -> dict[str, list[Any]]:
    columns = [list(column) for column in zip(*new_jobs, strict=True)]
    for moment in _MOMENTS:  # with the zone: a user's connection may have any
        columns[moment] = [f"{text}+00" for text in columns[moment]]
    return dict(zip(NewJob._fields, columns, strict=True))


def _run(connection: Connection, statement: HotStatement, values: Mapping[str, Any]) -> DriverCursor:
    return statement.run(connection, values)


def _users(given: Any, schema: str) -> Run:
    """Return what runs a statement on a `psycopg.Connection`, a SQLAlchemy `Connection` or `Session`."""
    if isinstance(given, psycopg.Connection):
        return partial(_run_by_psycopg, given, schema)
    connection = users_connection(given, "postgresql", "a psycopg.Connection")
    return partial(_run_by_sqlalchemy, connection, schema)


def _run_by_psycopg(
    connection: psycopg.Connection[Any], schema: str, statement: HotStatement, values: Mapping[str, Any]
) -> DriverCursor:
    compiled = statement.on_postgres(schema)
    cursor = connection.cursor(row_factory=tuple_row)  # the user's factory may return anything
    return cursor.execute(compiled.sql, compiled.positional(values))


def _run_by_sqlalchemy(
    connection: Connection, schema: str, statement: HotStatement, values: Mapping[str, Any]
) -> DriverCursor:
    # Through SQLAlchemy, which has to know of the transaction, and knows the user's driver.
    return connection.execute(
        statement.statement, dict(values), execution_options={"schema_translate_map": {None: schema}}
    )
