"""Signs of life that the kernel keeps: who is alive, and what exactly was running when somebody died.

Time alone is a poor witness: a paused worker looks dead, a dead one looks alive until its lease ends. So each worker
takes a *seat* in a file of its own beside the database, `<database>-lock`:

- a lock on the seat's first byte, which the kernel drops when the process dies, whatever killed it. It works across
  containers that share the volume, needs no clock, and is not fooled by a reused pid;
- the worker's id, so that a free seat in a new file, after somebody removed the old one, proves nothing;
- the ids of the jobs that run at this moment, written into shared memory. They outlive the process, cost no system
  call, and tell the job that killed its worker from those that were only claimed. They need not outlive a power cut:
  then nobody is to blame.

Traps:

- Closing any handle on a file drops all POSIX locks of the process on it, and a map in memory has a duplicate of the
  handle. So there is one handle per file and process, and it is closed, with all maps, when the last of its users has
  given it back: they are counted. A user is a gate through which somebody has written, a taken seat, and whoever asks
  about seats, as long as he asks. Nothing is given back by a finalizer: it could run in the midst of the counting.
- The kernel never reports a process's own locks to itself: the process's own seats are remembered here.
- A forked child inherits the handle but no lock. It opens one of its own, and never closes the inherited one: that
  would drop the child's own locks.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from ..errors import DatabaseError, DatabaseUnusableError, DiskFullError

HAS_LOCKS: Final = find_spec("fcntl") is not None
"""False on Windows: there leases alone decide who is dead."""

if HAS_LOCKS:
    import fcntl

log = logging.getLogger("durablejobs.worker")

_IN_OTHER_HANDS: Final = frozenset({errno.EACCES, errno.EAGAIN, errno.EINTR})
"""What the kernel says of a lock that somebody else holds."""

SEAT_BYTES: Final = (
    32 * 1024
)  # room for three lanes of 1,000 places; a multiple of every usual page size: seats are mapped one by one
_HEADER_BYTES: Final = 8
_ID: Final = struct.Struct("<q")
MOST_SLOTS: Final = (SEAT_BYTES - _HEADER_BYTES) // _ID.size

_files: dict[tuple[int, str], LockFile] = {}
"""The open handles, by process and path; those of a parent process too."""
_files_lock = threading.Lock()
"""For `_files` and the counts of users: a handle is opened, counted and closed by one thread at a time."""

if hasattr(os, "register_at_fork"):  # or a child could inherit it taken, by a thread that it has not
    os.register_at_fork(
        before=_files_lock.acquire, after_in_parent=_files_lock.release, after_in_child=_files_lock.release
    )


class LockFile:
    """The file beside one database: the seats and, far behind them, the writers' gate; get it from `use_lock_file`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._process = os.getpid()
        self._users = 0
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        except OSError as error:
            raise _translated(error, path, "written") from error
        self._held: set[int] = set()
        self._maps: dict[int, mmap.mmap] = {}
        self._lock = threading.Lock()

    def add_user(self) -> None:
        """Count one more user; only for who holds `_files_lock`."""
        self._users += 1

    def give_back(self) -> None:
        """Say that one of the users needs the file no more; the last one closes it."""
        with _files_lock:
            self._users -= 1
            if self._users == 0 and self._process == os.getpid():
                del _files[self._process, str(self.path)]
                self._close()

    def _close(self) -> None:
        for each in self._maps.values():
            each.close()
        os.close(self._descriptor)
        self._descriptor = -1  # its number may be another file's soon

    def take_seat(self, unavailable: Iterable[int]) -> Seat:
        """Take the first free seat that is not among the unavailable ones.

        A dead worker's seat stays unavailable until its jobs are rescued: sitting on it would make it look alive.
        """
        taken = set(unavailable)
        number = 0
        with self._lock:
            while number in taken or number in self._held or not self.try_lock(number * SEAT_BYTES):
                number += 1
            try:
                self._clear(number)
                marks = memoryview(self._mapped(number))
            except OSError as error:
                self.unlock(number * SEAT_BYTES)
                raise _translated(error, self.path, "written") from error
            self._held.add(number)
        with _files_lock:
            self.add_user()
        return Seat(self, number, marks)

    def _clear(self, number: int) -> None:
        # Written, not just mapped: a full disk is an error here, but would end the process at its first mark.
        start, done = number * SEAT_BYTES, 0
        while done < SEAT_BYTES:
            done += os.pwrite(self._descriptor, bytes(SEAT_BYTES - done), start + done)

    def _mapped(self, number: int) -> mmap.mmap:
        # Kept when the seat is left: closing one drops the locks of the others who sit here.
        if number not in self._maps:
            self._maps[number] = mmap.mmap(self._descriptor, SEAT_BYTES, offset=number * SEAT_BYTES)
        return self._maps[number]

    def leave_seat(self, number: int) -> None:
        """Give up a seat of this process."""
        with self._lock:
            self.unlock(number * SEAT_BYTES)
            self._held.discard(number)
        self.give_back()

    def is_taken(self, number: int) -> bool:
        """Return whether a living process sits on this seat."""
        with self._lock:
            if number in self._held:
                return True
            if not self.try_lock(number * SEAT_BYTES):
                return True
            self.unlock(number * SEAT_BYTES)
            return False

    def was_left_by(self, number: int, worker_id: int) -> bool:
        """Return whether this worker sat here and its process is gone.

        A free seat alone is no proof: somebody may have removed the file, or copied the database without it.
        """
        return self.sitter(number) == worker_id and not self.is_taken(number)

    def sitter(self, number: int) -> int:
        """Return the id of the worker that sits here, or sat here last; 0: none."""
        content = self._read(_ID.size, number * SEAT_BYTES)
        return int(_ID.unpack(content)[0]) if len(content) == _ID.size else 0

    def running_jobs(self, number: int) -> frozenset[int]:
        """Return the ids of the jobs that were running on this seat, also after its worker's death."""
        content = self._read(SEAT_BYTES - _HEADER_BYTES, number * SEAT_BYTES + _HEADER_BYTES)
        usable = len(content) - len(content) % _ID.size
        return frozenset(job_id for (job_id,) in _ID.iter_unpack(content[:usable]) if job_id)

    def _read(self, size: int, offset: int) -> bytes:
        try:
            return os.pread(self._descriptor, size, offset)
        except OSError as error:
            raise _translated(error, self.path, "read") from error

    def try_lock(self, offset: int, length: int = 1) -> bool:
        """Lock bytes against other processes; return whether all of them were free.

        Raises `DatabaseUnusableError` where the file system cannot lock: waiting for that would be for ever.
        """
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, length, offset)
        except OSError as error:
            if error.errno in _IN_OTHER_HANDS:
                return False
            raise _translated(error, self.path, "locked") from error
        return True

    def unlock(self, offset: int) -> None:
        """Give one byte back.

        An error is logged and not raised: what was done under the lock is done, and must not look as if it had failed.
        """
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, offset)
        except OSError as error:
            log.error("%s cannot be unlocked (%s): others wait until this process ends", self.path, error.strerror)


def _translated(error: OSError, path: Path, what: str) -> DatabaseError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFullError(str(path))
    return DatabaseUnusableError(str(path), f"cannot be {what}: {error.strerror}")


class Seat:
    """A worker's place in the file: proof of life, and marks of what its slots run."""

    def __init__(self, file: LockFile, number: int, marks: memoryview) -> None:
        self.number = number
        self._file = file
        self._marks = marks

    def sign(self, worker_id: int) -> None:
        """Note who sits here."""
        _ID.pack_into(self._marks, 0, worker_id)

    def mark(self, slot: int, job_id: int) -> None:
        """Note that this slot runs this job; 0: none."""
        _ID.pack_into(self._marks, _HEADER_BYTES + slot * _ID.size, job_id)

    def leave(self) -> None:
        """Give the seat up at a clean end; the signature stays, as proof for who still finds the worker registered."""
        self._marks[_HEADER_BYTES:] = bytes(SEAT_BYTES - _HEADER_BYTES)
        self._marks.release()  # a mark that comes too late is an error, and not on the seat of who sits here next
        self._file.leave_seat(self.number)


def use_lock_file(path: Path) -> LockFile | None:
    """Return this process's one handle on the lock file there; None where the platform has no such locks.

    Whoever gets it is counted as a user, and says once that he needs it no more: by its `give_back`.
    """
    if not HAS_LOCKS:
        return None
    key = (os.getpid(), str(path))
    with _files_lock:
        file = _files.get(key) or LockFile(path)
        file.add_user()
        _files[key] = file
        return file


@contextmanager
def lent(use: Callable[[], LockFile | None]) -> Iterator[LockFile | None]:
    """Use a lock file within the block."""
    file = use()
    try:
        yield file
    finally:
        if file is not None:
            file.give_back()
