"""Rows of settings, written whether or not they are there: by one statement, so two writers at once both succeed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import sqlite

from .hot import is_postgres


def upsert(connection: Connection, table: Table, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Write values to the row with this primary key; its other columns stay as they are."""
    if is_postgres(connection):
        from sqlalchemy.dialects import postgresql  # takes as long as opening a SQLite database

        postgres_row = postgresql.insert(table).values(**key, **values)
        connection.execute(postgres_row.on_conflict_do_update(index_elements=list(key), set_=dict(values)))
        return
    row = sqlite.insert(table).values(**key, **values)
    connection.execute(row.on_conflict_do_update(index_elements=list(key), set_=dict(values)))
