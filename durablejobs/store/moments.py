"""The column type of every time."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Dialect, Text
from sqlalchemy.types import TypeDecorator

from ..clock import from_text, to_text


class Moment(TypeDecorator[datetime]):
    """An aware UTC datetime in Python, sortable UTC text in SQLite.

    Text, not SQLAlchemy's `DateTime`: that one refuses to read what other programs may lawfully write, such as
    `2026-01-31 12:00`.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        return None if value is None else to_text(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        try:
            return from_text(value)
        except (TypeError, ValueError):  # forced in by SQL where no check looks: no list of jobs may fail for it
            return None
