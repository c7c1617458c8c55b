"""Numbers of a job that are counted up and down, and where they stop.

A program that writes by SQL may have put in the largest number there is, or 0 where there was a run. One more or one
less would be refused, and with it all that is claimed or given back together: so it stays what it is.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Integer, case, literal_column

LARGEST: Final = {
    "attempt": 2_147_483_647,
    "claim_token": 9_223_372_036_854_775_807,
    "crashes": 1_000_000,
    "max_attempts": 1_000_000,
}

_ONE: Final[ColumnElement[int]] = literal_column("1", Integer)


def one_more(column: Column[Any], one: ColumnElement[Any] = _ONE) -> ColumnElement[Any]:
    """Return the number of this column and one more, if it can be more; `one` may be 0."""
    return case((column < literal_column(str(LARGEST[column.name])), column + one), else_=column)


def one_less(column: Column[Any], one: ColumnElement[Any] = _ONE) -> ColumnElement[Any]:
    """Return the number of this column and one less, at least 0; `one` may be 0."""
    return case((column - one >= literal_column("0"), column - one), else_=literal_column("0"))
