"""Rows that a statement is told: any number of them, as one JSON text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import JSON, Subquery, bindparam, cast, func, literal_column, select
from sqlalchemy.types import TypeEngine

from .hot import HotStatement, Statement

ROWS: Final = "rows"
"""The parameter of the statement: `as_json` makes its value."""


def statement_for_rows(
    columns: Mapping[str, TypeEngine[Any]], statement: Callable[[Subquery], Statement]
) -> HotStatement:
    """Return a statement about rows of these columns, which it is given as a subquery."""
    return HotStatement(statement(_on_sqlite(columns)), lambda: statement(_in_postgres(columns)))


def as_json(rows: Iterable[Sequence[Any]]) -> str:
    """Return the rows, their values in the order of the columns."""
    return json.dumps(list(rows))


def _on_sqlite(columns: Mapping[str, TypeEngine[Any]]) -> Subquery:
    value = func.json_each(bindparam(ROWS)).table_valued("value").c.value
    return select(
        *(
            func.json_extract(value, literal_column(f"'$[{position}]'"), type_=type_).label(name)
            for position, (name, type_) in enumerate(columns.items())
        )
    ).subquery("each")


def _in_postgres(columns: Mapping[str, TypeEngine[Any]]) -> Subquery:
    told = func.json_array_elements(bindparam(ROWS, type_=JSON)).table_valued("value").render_derived("told")
    return (
        select(
            *(
                cast(literal_column(f"told.value ->> {position}"), type_).label(name)
                for position, (name, type_) in enumerate(columns.items())
            )
        )
        .select_from(told)
        .subquery("each")
    )
