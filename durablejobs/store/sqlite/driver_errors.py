"""The driver's errors become ours, in one sentence each."""

from __future__ import annotations

import re
import sqlite3
from typing import Final

from sqlalchemy.exc import DBAPIError

from ...errors import DatabaseBusyError, DatabaseError, DatabaseUnusableError, DiskFullError, QueueMovedError
from ..freezing import MARK

_IS_THERE: Final = re.compile(r"already exists|^there is already|^duplicate column name")
"""What SQLite says, in English everywhere, of a name that is taken: it has no code of its own."""


def translate(error: BaseException, location: str, busy_timeout: float) -> DatabaseError | None:
    """Return our error for one of SQLite's; None when it is not about the database as a whole."""
    cause = sqlite_error(error)
    if cause is None:
        return None
    code = primary_code(cause)
    # "Locking protocol": it has found the log in others' hands a hundred times.
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
        return DatabaseBusyError(location, busy_timeout)
    if code == sqlite3.SQLITE_FULL:
        return DiskFullError(location)
    if code == sqlite3.SQLITE_CONSTRAINT and str(cause).startswith(MARK):
        return QueueMovedError(location, str(cause).removeprefix(MARK))
    problem = {
        sqlite3.SQLITE_NOTADB: "is not a SQLite database",
        sqlite3.SQLITE_CORRUPT: "the database is damaged; restore a backup",
        sqlite3.SQLITE_READONLY: "cannot be written: check the owner and mode of the file and its directory",
        sqlite3.SQLITE_CANTOPEN: "cannot be opened: check that the path exists and its mode allows it",
        sqlite3.SQLITE_PERM: "cannot be opened: no permission",
        sqlite3.SQLITE_IOERR: f"the disk reports an error ({cause}); nothing was stored",
        sqlite3.SQLITE_NOMEM: "out of memory; nothing was stored",
    }.get(code)
    return DatabaseUnusableError(location, problem) if problem else None


def in_the_way(error: Exception) -> str | None:
    """Return what SQLite says is there already; None when the error says nothing like it."""
    cause = sqlite_error(error)
    return str(cause) if cause is not None and _IS_THERE.search(str(cause)) else None


def sqlite_error(error: BaseException) -> sqlite3.Error | None:
    """Return SQLite's error, also from within SQLAlchemy's."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return cause if isinstance(cause, sqlite3.Error) else None


def primary_code(error: sqlite3.Error) -> int:
    """Return the error's primary result code; the driver gives the extended one."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
