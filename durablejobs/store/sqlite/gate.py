"""A fair gate before the write lock: everybody who wants to write gets a turn.

SQLite lets waiting writers sleep and ask again, ever more seldom; whoever writes in a loop finds the lock free each
time, and five others starve (measured: 1,231 transactions against one each). So our writers pass a turnstile of two
locks first. To write one needs the inner lock, to ask for it the outer one, which is given back as soon as one is in.
Whoever comes out and wants in again finds the outer lock in the hands of the next in line.

The locks are asked for, not waited for, because a wait for a file lock knows no timeout.

Both are byte-range locks, so the kernel opens the gate when a process dies in it. A process that is stopped in it makes
the others wait until their timeout, as SQLite's own lock would.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from ...current import running_job
from ...errors import TransactionError
from ...shielding import Shield
from ..presence import LockFile

OUTER: Final = 1 << 40
INNER: Final = OUTER + 1
"""Offsets of the two bytes, far behind all seats."""

ASK_OUTER: Final = (0.0005, 0.004)
"""Seconds between two questions for the outer lock, at least and at most; between them a quarter of what the asking
process was in for at last. Where turns are long, everybody would ask some tens of times in each: eight workers on two
processors took 65 to 96 µs of processor time a job, and so they take 46 to 56. All who hold it equally long ask equally
often, however long they wait: whoever asked ever more seldom would get in more seldom than those who have just come."""
ASK_INNER: Final = (0.0001, 0.001)
"""The same for the inner lock, which one at a time asks for: ever more seldom."""
_EVER_LONGER: Final = 1.5


class Gate:
    """Lets one writer in at a time: of this process's threads by a lock in memory, of all processes by the file.

    The first who wants in asks for the file by `use_lock_file`: who never writes may lack the right to make one. None
    where the platform has no byte-range locks; then SQLite's own waiting has to do.
    """

    def __init__(self, use_lock_file: Callable[[], LockFile | None]) -> None:
        self._use_lock_file = use_lock_file
        self._file: LockFile | None = None
        self._threads = threading.Lock()
        self._inside: int | None = None
        self._came_in = 0.0
        self._stayed = 0.0
        self._shield = Shield()
        """Of who is in."""

    def enter(self, timeout: float) -> bool:
        """Go in, after at most `timeout` seconds; return whether it worked. No timeout interrupts who is in."""
        shield, entered = Shield(), False
        shield.up()
        try:
            entered = self._enter(timeout)
            if entered:
                self._shield = shield
        finally:
            if not entered:
                shield.down()
        return entered

    def _enter(self, timeout: float) -> bool:
        if not self._threads.acquire(blocking=False):
            self.refuse_write_inside_write()
            if not self._threads.acquire(timeout=timeout):
                return False
        try:
            if self._file is None:
                self._file = self._use_lock_file()
            entered = self._file is None or self._pass_turnstile(self._file, timeout)
        except BaseException:
            self._threads.release()
            raise
        if not entered:
            self._threads.release()
            return False
        self._inside = threading.get_ident()
        self._came_in = time.monotonic()
        return True

    def refuse_write_inside_write(self) -> None:
        """Raise `TransactionError` where the one who is in would have to wait for itself.

        That is its thread, and whatever a job does in other threads while its transaction is open.
        """
        job = running_job()
        if self._inside == threading.get_ident() or (job is not None and job.holds_write_lock):
            raise TransactionError(
                "a write inside a write would wait for itself for ever: enqueue with using(connection=…) of the "
                "transaction; on an event loop where another job has one open, `aenqueue` waits its turn"
            )

    def belongs_to(self, thread: int) -> None:
        """Note which thread is in, if another one went in for it."""
        self._inside = thread

    def leave(self) -> None:
        """Let the next one in."""
        self._inside = None
        self._stayed = time.monotonic() - self._came_in
        shield = self._shield
        try:
            if self._file is not None:
                self._file.unlock(INNER)
        finally:
            self._threads.release()
            shield.down()

    def close(self) -> None:
        """Give the lock file back; not while somebody is inside: he uses the database, whoever closes it."""
        with Shield():
            if self._threads.acquire(blocking=False):
                file, self._file = self._file, None
                self._threads.release()
                if file is not None:
                    file.give_back()

    def unshield(self) -> None:
        """Let the one who is in be interrupted: a handler whose transaction this is."""
        self._shield.down()

    def _pass_turnstile(self, file: LockFile, timeout: float) -> bool:
        if file.try_lock(OUTER, 2):  # nobody there: both in one system call
            file.unlock(OUTER)
            return True
        give_up = time.monotonic() + timeout
        least, most = ASK_OUTER
        pause = min(max(least, self._stayed / 4), most)
        if not _lock(file, OUTER, (pause, pause), give_up):
            return False
        try:
            return _lock(file, INNER, ASK_INNER, give_up)
        finally:
            file.unlock(OUTER)


def _lock(file: LockFile, offset: int, pauses: tuple[float, float], give_up: float) -> bool:
    """Ask until it is locked, after the first of these pauses at first, after the second one at last."""
    pause, longest = pauses
    while not file.try_lock(offset):
        if time.monotonic() >= give_up:
            return False
        time.sleep(pause)
        pause = min(_EVER_LONGER * pause, longest)
    return True
