"""Where the workers of one machine keep their signs of life, when the database is elsewhere.

A file in a directory of this user alone. Its name says which queue of which server it belongs to, by what the server
says of itself and not by the address: `localhost` and `127.0.0.1` are one. Workers that do not see each other's file,
on another machine, in another container, of another user, judge each other by heartbeat and lease alone: later, but
never wrongly. A seat proves a death only where the dead worker has signed it, and no two workers of one queue have the
same id.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Final

import psycopg
from sqlalchemy import Connection

from ...errors import DatabaseError
from ..hot import driver_of
from ..presence import HAS_LOCKS, LockFile, use_lock_file

_IDENTITY: Final = """
    SELECT system_identifier::text, (SELECT oid FROM pg_database WHERE datname = current_database())::text
    FROM pg_control_system()
"""


def seats_of(connection: Connection, schema: str) -> Path | None:
    """Return where the lock file of this queue on this machine is; None where there is no safe place for it."""
    directory = _own_directory() if HAS_LOCKS else None
    if directory is None:
        return None
    try:
        identity = driver_of(connection).execute(_IDENTITY).fetchone()
    except psycopg.errors.InsufficientPrivilege:  # a server that keeps its identity to itself
        return None
    return directory / hashlib.sha256(" ".join((*identity, schema)).encode()).hexdigest()[:32]


def use_seats(path: Path | None) -> LockFile | None:
    """Return this process's one handle on that file, to be given back: see `use_lock_file`."""
    try:
        return use_lock_file(path) if path is not None else None
    except DatabaseError:  # no room there, say: the leases decide
        return None


def _own_directory() -> Path | None:
    """Return a directory that belongs to this user and that nobody else may enter."""
    directory = Path(tempfile.gettempdir()) / f"durablejobs-{os.getuid()}"
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
    except OSError:
        return None
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return directory if is_ours else None
