"""Putting jobs in through the user's own transaction: what both databases have in common; see `unique` for one job."""

from __future__ import annotations

import sys
from typing import Any

from sqlalchemy import Connection

from ..errors import ConfigurationError


def users_connection(given: Any, dialect: str, drivers_own: str) -> Connection:
    """Return the SQLAlchemy connection behind what a user passes; it must lead to this kind of database."""
    connection = given
    orm = sys.modules.get("sqlalchemy.orm")  # not imported for this: who has a Session has imported it
    if orm is not None and isinstance(given, orm.Session):
        connection = given.connection()
    if not isinstance(connection, Connection):
        hint = "; it takes `await ….aenqueue(…)`" if type(given).__name__.startswith("Async") else ""
        raise ConfigurationError(
            "connection",
            f"must be a SQLAlchemy Connection or Session, or {drivers_own}, not {type(given).__name__}{hint}",
        )
    if connection.dialect.name != dialect:
        raise ConfigurationError(
            "connection", f"leads to {connection.dialect.name}, the jobs are in {dialect}: no transaction spans both"
        )
    return connection
