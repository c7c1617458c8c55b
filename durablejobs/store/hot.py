"""Hot statements: compiled by SQLAlchemy once for each kind of database, run at driver level ever after.

SQLAlchemy's own execution costs some 50 µs a statement and 2 µs a row, which is more than SQLite takes. Times and
JSON are passed as text, to both databases.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import Connection, Delete, Dialect, Insert, Select, Update
from sqlalchemy.dialects import sqlite

Statement = Select[Any] | Insert | Update | Delete

Item = TypeVar("Item")

SQLITE: Final = sqlite.dialect(paramstyle="qmark")


class DriverCursor(Protocol):
    """What both drivers return for a statement."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> Sequence[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class CompiledStatement:
    """SQL text and the order of its parameters."""

    def __init__(self, statement: Statement, dialect: Dialect, schema: str | None = None) -> None:
        translation = {None: schema} if schema else None
        compiled = statement.compile(
            dialect=dialect, schema_translate_map=translation, render_schema_translate=bool(schema)
        )
        self.sql: Final = str(compiled)
        self.names: Final[tuple[str, ...]] = tuple(getattr(compiled, "positiontup", None) or ())
        self._defaults: Final[Mapping[str, Any]] = compiled.params

    def positional(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the values in the order of the statement's parameters."""
        return tuple(values[name] if name in values else self._defaults[name] for name in self.names)


class HotStatement:
    """A statement that is compiled when it is first run on a kind of database.

    `in_postgres` returns the statement for PostgreSQL, where that is another one.
    """

    def __init__(self, statement: Statement, in_postgres: Callable[[], Statement] | None = None) -> None:
        self._statement = statement
        self._in_postgres = in_postgres
        self._on_sqlite: CompiledStatement | None = None
        self._on_postgres: dict[str, CompiledStatement] = {}

    def on_sqlite(self) -> CompiledStatement:
        """Return it as SQLite takes it."""
        if self._on_sqlite is None:
            self._on_sqlite = CompiledStatement(self._statement, SQLITE)
        return self._on_sqlite

    def on_postgres(self, schema: str) -> CompiledStatement:
        """Return it as psycopg takes it, for the tables of this schema."""
        if schema not in self._on_postgres:
            self._on_postgres[schema] = CompiledStatement(self.in_postgres(), _postgres(), schema)
        return self._on_postgres[schema]

    def in_postgres(self) -> Statement:
        """Return the statement as it is for PostgreSQL."""
        return self._statement if self._in_postgres is None else self._in_postgres()

    @property
    def sql(self) -> str:
        """The text for SQLite."""
        return self.on_sqlite().sql

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters for SQLite, in order."""
        return self.on_sqlite().names

    def run(self, connection: Connection, values: Mapping[str, Any]) -> DriverCursor:
        """Execute it once with these values, in the connection's transaction; return the driver's cursor."""
        driver = driver_of(connection)
        if isinstance(driver, sqlite3.Connection):
            compiled = self.on_sqlite()
        else:
            compiled = self.on_postgres(schema_of(connection))
        cursor: DriverCursor = driver.execute(compiled.sql, compiled.positional(values))
        return cursor


Run = Callable[[HotStatement, Mapping[str, Any]], DriverCursor]
"""Runs a statement on one of the connections that it may come from: ours, or one that the user passes."""

RunAlone = Callable[[HotStatement, Mapping[str, Any]], Sequence[Any]]
"""Runs a statement by itself; returns its rows."""


def run_on(connection: Connection) -> Run:
    """Return what runs statements on a connection of ours."""

    def run(statement: HotStatement, values: Mapping[str, Any]) -> DriverCursor:
        return statement.run(connection, values)

    return run


@cache
def _postgres() -> Dialect:
    # Imported when it is needed: it takes as long as opening a SQLite database.
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

    return PGDialect_psycopg(paramstyle="format")  # type: ignore[no-untyped-call]


def driver_of(connection: Connection) -> Any:
    """Return the driver's connection; only for connections whose transactions `Database` opens and ends."""
    driver = connection.connection.driver_connection
    assert driver is not None
    return driver


def is_postgres(connection: Connection) -> bool:
    """Return which of the two this is a connection to."""
    return connection.dialect.name == "postgresql"


def schema_of(connection: Connection) -> str:
    """Return the schema of our tables, for a connection to PostgreSQL."""
    return str(connection.get_execution_options()["schema_translate_map"][None])


def in_sizes(items: list[Item], sizes: tuple[int, ...]) -> Iterator[list[Item]]:
    """Split into the few sizes that statements for many rows are made in: each is compiled once, and kept."""
    start = 0
    for size in sizes:
        while len(items) - start >= size:
            yield items[start : start + size]
            start += size
