"""The files: what they lie on, who may do what with them, whether there is room, how long the log is."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..file_systems import IN_MEMORY, NETWORK, file_system_of
from .findings import Finding, advice, ok, size, wrong
from .processes import lock_owners, name_of

LOG_IS_LONG: Final = 100 * 1024 * 1024
"""Bytes; after a checkpoint 64 MiB are kept at most."""
LOG_IS_TOO_LONG: Final = 1024 * 1024 * 1024
_ROOM_WANTED: Final = 64 * 1024 * 1024
_FIRST_READ_LOCK, _LAST_READ_LOCK = 123, 127
"""The bytes of the -shm file that readers lock while their transaction lasts (SQLite's file format)."""
_LOOK_TWICE: Final = 0.3
"""Seconds between two looks: who holds a lock both times reads for long."""


@dataclass(frozen=True, slots=True)
class Files:
    """The database's file and those beside it; nothing is opened, only asked for by name."""

    database: Path

    @classmethod
    def of(cls, location: str) -> Files:
        return cls(Path(os.path.realpath(location)))

    def beside(self, suffix: str) -> Path:
        return Path(f"{self.database}{suffix}")

    @property
    def all(self) -> list[Path]:
        """Those that are there."""
        return [path for suffix in ("", "-wal", "-shm", "-lock") if (path := self.beside(suffix)).exists()]

    @property
    def log_bytes(self) -> int:
        try:
            return self.beside("-wal").stat().st_size
        except OSError:
            return 0


def check_file_system(files: Files) -> Finding:
    """Name file systems that SQLite cannot trust."""
    kind = file_system_of(files.database)
    if kind is None:
        return ok("file system", "this platform does not tell its kind")
    if kind in NETWORK:
        return wrong(
            "file system",
            f"{files.database} lies on {kind}, which is shared with other machines",
            "SQLite's locks and its shared memory do not work there reliably: two writers can damage the file, and a "
            "dead worker is not noticed.",
            "Move the file to a local disk, or use PostgreSQL for more than one machine.",
        )
    if kind in IN_MEMORY:
        return advice(
            "file system",
            f"{files.database} lies on {kind}, in memory",
            "All jobs are gone at the next start of the machine.",
            "Move the file to a disk.",
        )
    return ok("file system", kind)


def check_rights(files: Files) -> Iterator[Finding]:
    """Look at modes and owners, and at the directory."""
    problems = [*_open_to_others(files), *_of_several_owners(files), *_not_writable(files), *_linked_twice(files)]
    yield from problems
    if not problems:
        mode = stat.S_IMODE(files.database.stat().st_mode)
        yield ok("rights", f"mode {mode:04o}, owner {_owner(files.database)}, nobody else may read or write")


def _open_to_others(files: Files) -> Iterator[Finding]:
    for path in files.all:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & stat.S_IRWXO:
            yield wrong(
                "rights",
                f"{path} has mode {mode:04o}: every user of this machine may "
                + ("write it" if mode & stat.S_IWOTH else "read it"),
                "Who can write the file decides which handlers run with which args; who can read it reads all args, "
                "results and errors.",
                f"chmod o= '{path}'",
            )
    mode = files.database.parent.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        yield wrong(
            "rights",
            f"every user of this machine may write the directory {files.database.parent}",
            "They can put another file in the database's place.",
            f"chmod o-w '{files.database.parent}'",
        )


def _of_several_owners(files: Files) -> Iterator[Finding]:
    owners = {_owner(path) for path in files.all}
    if len(owners) > 1:
        yield wrong(
            "rights",
            f"the files beside {files.database.name} have several owners: {', '.join(sorted(owners))}",
            "Some program ran as another user, often as root by hand; workers may not be able to write any more.",
            f"chown {_owner(files.database)} '{files.database}'-*",
        )


def _not_writable(files: Files) -> Iterator[Finding]:
    for path in [*files.all, files.database.parent]:
        if not os.access(path, os.R_OK | os.W_OK):
            yield wrong(
                "rights",
                f"this user may not read and write {path}",
                "Enqueueing and working need both; SQLite also creates files in the directory.",
                f'Run as {_owner(files.database)}, or see "Rights" in the operations page.',
            )


def _linked_twice(files: Files) -> Iterator[Finding]:
    links = files.database.stat().st_nlink
    if links > 1:
        yield wrong(
            "rights",
            f"{files.database} has {links} names (hard links)",
            "The log and the locks lie beside the name that is used: two programs that use two names do not see each "
            "other's commits and damage the file.",
            "Remove the other names, or make them symbolic links.",
        )


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except KeyError:  # a user without a name, in a container
        return str(path.stat().st_uid)


def check_space(files: Files) -> Finding:
    """Compare the free space with what a checkpoint may need."""
    free, log = shutil.disk_usage(files.database.parent).free, files.log_bytes
    wanted = max(_ROOM_WANTED, 2 * log)
    if free < wanted:
        return wrong(
            "free space",
            f"{size(free)} are free, the log has {size(log)}",
            "To fold the log into the database may need as much again. On a full disk nothing can be enqueued, and "
            "workers end when they could not write for the length of a lease.",
            f"Make room for {size(wanted)} or more: delete, prune and VACUUM with the workers stopped, a larger disk.",
        )
    return ok("free space", f"{size(free)} are free")


def check_log(files: Files) -> Finding:
    """Look at the length of the write-ahead log and at who keeps it from being folded in."""
    log = files.log_bytes
    if log < LOG_IS_LONG:
        return ok("write-ahead log", size(log))
    readers = long_readers(files)
    who = ", ".join(f"{name_of(pid)} (process {pid})" for pid in sorted(readers)) or "nobody just now"
    report = wrong if log >= LOG_IS_TOO_LONG else advice
    return report(
        "write-ahead log",
        f"it has {size(log)}; a transaction that reads is kept open by {who}",
        "While somebody reads an old state, SQLite cannot fold the log into the database: it grows, and reading slows.",
        "End that transaction: a forgotten BEGIN in a shell, a report, a backup. The next commits cut the log.",
    )


def long_readers(files: Files) -> set[int]:
    """Return the processes that keep a reading transaction open, as far as this user can see."""
    index = str(files.beside("-shm"))
    first = lock_owners(index, _FIRST_READ_LOCK, _LAST_READ_LOCK)
    if not first:
        return set()
    time.sleep(_LOOK_TWICE)
    return first & lock_owners(index, _FIRST_READ_LOCK, _LAST_READ_LOCK)
