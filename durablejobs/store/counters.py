"""Numbers of a job that only grow, and where they stop.

A program that writes by SQL may have put in the largest number there is. One more would be refused, and with it the
whole claim, with the healthy jobs in it: so it stays what it is.
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
