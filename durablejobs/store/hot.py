"""Hot statements: compiled by SQLAlchemy once, run at driver level ever after.

SQLAlchemy's own execution costs some 50 µs a statement and 2 µs a row, which is more than SQLite takes. Values are
passed as SQLite stores them: times and JSON are text.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Final, TypeVar

from sqlalchemy import Connection
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.compiler import Compiled
from sqlalchemy.sql.elements import ClauseElement

Item = TypeVar("Item")

DIALECT: Final = sqlite.dialect(paramstyle="qmark")


class HotStatement:
    """A statement as SQL text and the order of its parameters; compiled at its first use, few programs need all."""

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement

    @cached_property
    def _compiled(self) -> Compiled:
        return self._statement.compile(dialect=DIALECT)

    @cached_property
    def sql(self) -> str:
        return str(self._compiled)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(self._compiled.positiontup or ())  # type: ignore[attr-defined]

    @cached_property
    def _defaults(self) -> dict[str, Any]:
        return dict(self._compiled.params)

    def positional(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the values in the order of the statement's parameters."""
        return tuple(values[name] if name in values else self._defaults[name] for name in self.names)

    def run(self, connection: Connection, values: Mapping[str, Any]) -> sqlite3.Cursor:
        """Execute it once with these values, in the connection's transaction."""
        return driver_of(connection).execute(self.sql, self.positional(values))


def driver_of(connection: Connection) -> sqlite3.Connection:
    """Return the driver's connection; only for connections whose transactions `Database` opens and ends."""
    driver = connection.connection.driver_connection
    assert driver is not None
    return driver  # type: ignore[no-any-return]


def in_sizes(items: list[Item], sizes: tuple[int, ...]) -> Iterator[list[Item]]:
    """Split into the few sizes that statements for many rows are made in: each is compiled once, and kept."""
    start = 0
    for size in sizes:
        while len(items) - start >= size:
            yield items[start : start + size]
            start += size
