"""Noticing other connections' commits, of this process and of others, without asking all the time.

`PRAGMA data_version` tells in some microseconds whether somebody else has committed. On Linux the kernel says when it
is worth asking: inotify reports each write to the write-ahead log. Elsewhere, or where inotify is used up, ask every
few milliseconds. Either way the worker's interval stays as the net.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

ASK_EVERY: Final = 0.004
"""Seconds between two questions where nothing reports writes."""
_ASK_FIRST: Final = 0.0001
"""Seconds after a report: the commit becomes visible when it is synced, in 0.1 ms or in 10, and ever longer pauses
lose a part of that time and no more."""
_IN_MODIFY: Final = 0x2


class Watch:
    """A look-out for commits. Its connection is its own: a connection does not see its own commits as news."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], write_ahead_log: Path) -> None:
        self._connection = connect()
        self._seen = self._version()  # reading makes sure that the log is there
        self.descriptor = _watch_writes(write_ahead_log)
        """Readable when the log has been written to; None where the kernel does not report it."""
        self._asks_until = 0.0
        self._ask_in = ASK_EVERY

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def changed(self) -> bool:
        """Return whether another connection has committed since the last call.

        An error is news too, a little later: who is told looks at the database and meets it there.
        """
        try:
            version = self._version()
        except sqlite3.Error:
            time.sleep(ASK_EVERY)
            return True
        changed, self._seen = version != self._seen, version
        if changed:
            self._asks_until = 0.0
        return changed

    def note_write(self) -> None:
        """Take a report of a write: the commit it belongs to becomes visible soon, after its sync."""
        assert self.descriptor is not None
        os.read(self.descriptor, 4096)
        self._asks_until = time.monotonic() + 2.0
        self._ask_in = _ASK_FIRST

    def ask_again_in(self) -> float:
        """Return the seconds after which to ask again though nothing is reported."""
        if self.descriptor is None:
            return ASK_EVERY
        if time.monotonic() > self._asks_until:
            return 3600.0
        self._ask_in = min(1.25 * self._ask_in, ASK_EVERY)
        return self._ask_in

    def close(self) -> None:
        """End the look-out."""
        self._connection.close()
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


def _watch_writes(file: Path) -> int | None:
    """Return a descriptor of the kernel's that is readable when the file has been written to; None if there is none.

    inotify names the file by its path: this opens no handle on it, which SQLite's locks could not bear.
    """
    if not sys.platform.startswith("linux"):
        return None
    import ctypes  # only workers and who waits for jobs come here

    try:
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        if descriptor < 0:
            return None
        if libc.inotify_add_watch(descriptor, os.fsencode(file), _IN_MODIFY) < 0:
            os.close(descriptor)
            return None
    except (OSError, AttributeError):  # a C library without inotify
        return None
    return descriptor
