"""The column type of JSON that Python holds as text."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Dialect, Text
from sqlalchemy.types import TypeDecorator, TypeEngine, UserDefinedType


class JsonText(TypeDecorator[str]):
    """JSON as text in Python; in SQLite text, in PostgreSQL `json`.

    `json` keeps the text as it came, as SQLite does, and refuses what is none. `jsonb` would give back other values
    than were put in: 1e16 as an integer, the last of two equal keys. Who searches in args makes an index on
    `(args::jsonb)`.
    """

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(_PlainJson() if dialect.name == "postgresql" else Text())


class _PlainJson(UserDefinedType[str]):
    """PostgreSQL's `json`, without SQLAlchemy's encoding and decoding."""

    cache_ok = True

    def get_col_spec(self, **_options: Any) -> str:
        return "JSON"
