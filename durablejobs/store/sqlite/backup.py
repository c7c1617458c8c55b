"""A sound copy of a SQLite file while others write to it.

The copy is one snapshot: a transaction that reads is kept open around SQLite's backup, which would begin again at every
commit of another process otherwise. Writers go on meanwhile; the log cannot be folded in until the copy is done.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from ...errors import BackupError
from .pragmas import integrity_problems, untouched

PAGES_AT_ONCE: Final = 1000


def back_up(source: Path, target: Path, replace: bool, advance: Callable[[int, int], None]) -> None:
    """Copy the database to `target`, complete and checked, or not at all.

    `advance` is told of the pages done and of all pages. Raises `BackupError`.
    """
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        _check_target(source, target, replace)
        os.close(os.open(partial, os.O_CREAT | os.O_RDWR | os.O_TRUNC, 0o600))
        _copy(source, partial, advance)
        problems = integrity_problems(partial)
        if problems:
            raise BackupError(str(target), f"the copy is not sound, and so is the database: {problems[0]}")
        _sync(partial)
        os.replace(partial, target)
        _sync(target.parent)
    except OSError as error:
        raise BackupError(str(target), f"cannot be written: {error.strerror}") from None
    except sqlite3.Error as error:
        raise BackupError(str(target), f"the copy failed: {error}") from error
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            with suppress(OSError):
                os.unlink(f"{partial}{suffix}")


def _check_target(source: Path, target: Path, replace: bool) -> None:
    if target.is_dir():
        raise BackupError(str(target), "is a directory; name a file in it")
    if not target.parent.is_dir():
        raise BackupError(str(target), f"the directory {target.parent} does not exist")
    if os.path.realpath(target) in {os.path.realpath(source) + suffix for suffix in ("", "-wal", "-shm", "-lock")}:
        raise BackupError(str(target), "is the database itself; name another file")
    if target.exists() and not replace:
        raise BackupError(str(target), "is there already; name another file, or say that it may be replaced")


def _copy(source: Path, partial: Path, advance: Callable[[int, int], None]) -> None:
    with untouched(source) as original, closing(sqlite3.connect(partial, isolation_level=None)) as copy:
        copy.execute("PRAGMA synchronous = OFF")  # synced as a whole afterwards
        original.isolation_level = None
        original.execute("BEGIN")
        original.execute("SELECT count(*) FROM sqlite_master").fetchone()  # takes the snapshot
        original.backup(copy, pages=PAGES_AT_ONCE, progress=lambda _status, left, total: advance(total - left, total))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
