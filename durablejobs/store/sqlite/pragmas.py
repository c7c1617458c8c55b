"""Looking at a SQLite file as it is: without creating, converting or locking anything."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote


@contextmanager
def untouched(path: str | Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection that changes no setting of the file, unlike those that work with it."""
    with closing(sqlite3.connect(f"file:{quote(os.fsencode(path))}?mode=rw", uri=True, timeout=5)) as connection:
        yield connection


def journal_mode(path: str | Path) -> str:
    """Return `wal`, or the mode that somebody has set instead."""
    with untouched(path) as connection:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def integrity_problems(path: str | Path) -> list[str]:
    """Return what SQLite's own check of the whole file finds; empty: nothing."""
    with untouched(path) as connection:
        found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
        lost = [
            f"row {row_id} of {table} refers to a row of {parent} that is not there"
            for table, row_id, parent, _ in connection.execute("PRAGMA foreign_key_check")
        ]
    return [*(line for line in found if line != "ok"), *lost]
