"""The column type of every time, and the moment of a statement."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import TIMESTAMP, Dialect, Text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ColumnElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from ..clock import from_text, to_text


class Moment(TypeDecorator[datetime]):
    """An aware UTC datetime in Python; in SQLite text that sorts, in PostgreSQL a timestamp with time zone.

    In SQLite text and not SQLAlchemy's `DateTime`: that one refuses to read what other programs may lawfully write,
    such as `2026-01-31 12:00`. In PostgreSQL no text and no timestamp without zone: `now() + interval '1 hour'` in
    another program's INSERT must mean that moment whatever time zone its session has.
    """

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(TIMESTAMP(timezone=True))
        return dialect.type_descriptor(Text())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return to_text(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if isinstance(value, datetime):
            return value
        try:  # our own connections give text in both databases: see `postgres.connecting`
            return from_text(value)
        except (TypeError, ValueError):  # None, or forced in by SQL where no check looks: no list may fail for it
            return None


class StatementMoment(ColumnElement[datetime]):
    """The moment of the statement by the database's clock; the same in all columns of a row."""

    type = Moment()
    inherit_cache = True


@compiles(StatementMoment, "sqlite")
def _in_sqlite(_element: StatementMoment, _compiler: Any, **_options: Any) -> str:
    return "(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')"  # as `clock.to_text` writes it; SQLite knows milliseconds


@compiles(StatementMoment, "postgresql")
def _in_postgresql(_element: StatementMoment, _compiler: Any, **_options: Any) -> str:
    return "statement_timestamp()"


class EarliestMoment(FunctionElement[datetime]):
    """The earliest time that a process may write down for what happens at this moment.

    On PostgreSQL processes know the server's time as exactly as its answers are fast: see `postgres.server_clock`.
    """

    type = Moment()
    inherit_cache = True


@compiles(EarliestMoment, "sqlite")
def _earliest_in_sqlite(element: EarliestMoment, compiler: Any, **options: Any) -> str:
    return str(compiler.process(element.clauses, **options))


@compiles(EarliestMoment, "postgresql")
def _earliest_in_postgresql(element: EarliestMoment, compiler: Any, **options: Any) -> str:
    return f"({compiler.process(element.clauses, **options)} - interval '1 second')"
