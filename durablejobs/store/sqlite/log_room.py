"""Room in the write-ahead log, made at once by who stays.

A commit that makes the log longer waits for the disk twice: for its pages, and for the file system's journal, which
notes the new length. One that overwrites what the log's last round has left behind waits once. So a worker makes the
log at its start as long as it will become anyway.

Zeros will do: SQLite reads a log up to the first frame that is not of the present round, whatever it is. The log has
none of SQLite's locks, which are on the database file and the `-shm` file, so that closing it here drops none.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

_PLENTY: Final = 16
"""How many times the room must be free."""


def log_of(database: str | Path) -> Path:
    """Return the write-ahead log of a database: beside the file itself, not beside a symbolic link to it."""
    return Path(os.path.realpath(database) + "-wal")


def make_room(log: Path, length: int) -> None:
    """Make the log as long as this, if it is shorter; only in a write transaction, when nobody else writes to it.

    Not where that would take what little room others need: on a disk that is nearly full.
    """
    with suppress(OSError), log.open("r+b", buffering=0) as file:  # no room is no harm
        before = file.seek(0, os.SEEK_END)
        missing = length - before
        if missing > 0 and shutil.disk_usage(log.parent).free > _PLENTY * missing:
            written = file.write(bytes(missing))
            if written < missing:  # a quota, say: what was left of it is given back
                file.truncate(before)
