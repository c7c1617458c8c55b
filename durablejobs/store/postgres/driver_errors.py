"""PostgreSQL's errors become ours, by their code, in one sentence each and without a password."""

from __future__ import annotations

import re
from typing import Final

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from ...errors import (
    DatabaseBusyError,
    DatabaseError,
    DatabaseUnreachableError,
    DatabaseUnusableError,
    DiskFullError,
    QueueMovedError,
)
from ..freezing import MARK

_LOCKED: Final = "55P03"
"""lock_not_available: our lock_timeout."""
_CANCELED: Final = "57014"
"""query_canceled: a statement_timeout, ours or the server's own, or somebody who has ended the statement."""
_YIELDED: Final = frozenset(
    {
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
    }
)
_UNREACHABLE: Final = frozenset(
    {
        "25P03",  # idle_in_transaction_session_timeout
        "53300",  # too_many_connections
        "57P01",  # admin_shutdown
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now
        "57P05",  # idle_session_timeout
        "25006",  # read_only_sql_transaction: the old primary after a failover
        "0A000",  # feature_not_supported: so a standby answers when a transaction that writes is begun
    }
)
_TAKEN: Final = frozenset(
    {
        "42701",  # duplicate_column
        "42P07",  # duplicate_table: a view, an index or a sequence, too
        "42710",  # duplicate_object: a type or a trigger
        "42723",  # duplicate_function
    }
)
_UNUSABLE: Final = {
    "28": "the server refuses this user or password",
    "3D": "there is no such database on this server; create it, then run `durablejobs migrate`",
    "3F": "the schema is gone",
}
"""By class of code."""

_REFUSED: Final = re.compile(
    r'FATAL:\s+(?:(?P<database>database ".*" does not exist)|role ".*" (?:does not exist|is not permitted to log in)'
    r"|\w+ authentication failed for user|no pg_hba\.conf entry for)|no password supplied"
)
"""What a server says that will have no connection: no code comes with it. In another language: out of reach."""


def translate(error: BaseException, location: str, busy_timeout: float) -> DatabaseError | None:
    """Return our error for one of PostgreSQL's; None when it is not about the database as a whole."""
    if isinstance(error, PoolTimeoutError):
        return DatabaseBusyError(location, busy_timeout)
    cause = postgres_error(error)
    if cause is None:
        return None
    code = cause.sqlstate or _code_of_refusal(cause)
    if code == _LOCKED:
        return DatabaseBusyError(location, busy_timeout)
    if code == _CANCELED:
        return DatabaseBusyError(location, busy_timeout, f"the server says: {first_line(cause)}")
    if code in _YIELDED:
        return DatabaseBusyError(location, busy_timeout, f"another writer was preferred ({first_line(cause)})")
    if code == "23001" and first_line(cause).startswith(MARK):  # restrict_violation
        return QueueMovedError(location, first_line(cause).removeprefix(MARK))
    if code == "53100":
        return DiskFullError(location)
    if code == "42501":
        return DatabaseUnusableError(location, f"{first_line(cause)}: this user lacks a right")
    if code == "42P01":
        return DatabaseUnusableError(location, f"{first_line(cause)}: the tables are gone")
    if code is not None and code[:2] in _UNUSABLE:
        return DatabaseUnusableError(location, f"{_UNUSABLE[code[:2]]} ({first_line(cause)})")
    if code in _UNREACHABLE or ((code or "08").startswith("08") and isinstance(cause, psycopg.OperationalError)):
        return DatabaseUnreachableError(location, first_line(cause))
    if code is not None and code[:2] in ("53", "58", "XX"):  # out of memory, I/O errors, internal errors
        return DatabaseUnusableError(location, f"the server reports: {first_line(cause)}; nothing was stored")
    return None


def _code_of_refusal(cause: psycopg.Error) -> str | None:
    found = _REFUSED.search(str(cause)) if isinstance(cause, psycopg.OperationalError) else None
    if found is None:
        return None
    return "3D000" if found["database"] else "28000"


def in_the_way(error: Exception) -> str | None:
    """Return what the server says is there already; None when the error says nothing like it."""
    cause = postgres_error(error)
    return first_line(cause) if cause is not None and cause.sqlstate in _TAKEN else None


def postgres_error(error: BaseException) -> psycopg.Error | None:
    """Return the driver's error, also from within SQLAlchemy's."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return cause if isinstance(cause, psycopg.Error) else None


def first_line(error: psycopg.Error) -> str:
    """Return what the server or the driver says, in one line."""
    text = error.diag.message_primary or str(error)
    return text.strip().splitlines()[0] if text.strip() else type(error).__name__
