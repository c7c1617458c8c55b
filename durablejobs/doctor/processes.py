"""What Linux tells about processes: who has a file open, which libraries it has loaded, who holds which lock.

Elsewhere, and for the processes of other users, there is nothing to be seen; the checks then say nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_STANDARD_LIBRARY_NEEDS: Final = b"libsqlite3.so"


def name_of(pid: int) -> str:
    """Return the short name of a process."""
    try:
        return (_PROC / str(pid) / "comm").read_text(errors="surrogateescape").strip()
    except OSError:
        return "?"


def holders(files: Sequence[str]) -> dict[int, str]:
    """Return the processes that have one of these files open, with their short names; this one comes first."""
    own = os.getpid()
    found = {own: name_of(own)}
    wanted = {os.path.realpath(file) for file in files}
    for pid in _process_ids():
        if pid != own and wanted & set(_open_files(pid)):
            found[pid] = name_of(pid)
    return found


def _process_ids() -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(_PROC) if name.isdigit())
    except OSError:
        return []


def _open_files(pid: int) -> Iterator[str]:
    directory = _PROC / str(pid) / "fd"
    try:
        descriptors = os.listdir(directory)
    except OSError:  # another user's, or gone
        return
    for descriptor in descriptors:
        try:
            yield os.readlink(directory / descriptor)
        except OSError:
            continue


def sqlite_libraries(pid: int) -> set[str]:
    """Return the files that a process has loaded and that hold a SQLite library of their own."""
    try:
        lines = (_PROC / str(pid) / "maps").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return set()
    files = {line.split(maxsplit=5)[5] for line in lines if line.count("/")}
    return {file for file in files if _holds_sqlite(file)}


def _holds_sqlite(file: str) -> bool:
    name = os.path.basename(file).lower()
    if name.startswith("libsqlite3"):
        return True
    if name.startswith(("_sqlite3", "_pysqlite", "apsw", "libqsqlite", "_sqlcipher")):
        return not _needs_shared_library(file)
    return False


@cache
def _needs_shared_library(file: str) -> bool:
    """Whether an extension module is linked to the system's SQLite instead of holding its own."""
    try:
        return _STANDARD_LIBRARY_NEEDS in Path(file).read_bytes()
    except OSError:
        return True


def lock_owners(file: str, first: int, last: int) -> set[int]:
    """Return the processes that hold a lock on one of these bytes of a file."""
    try:
        inode = os.stat(file).st_ino
        lines = (_PROC / "locks").read_text().splitlines()
    except OSError:
        return set()
    owners = set()
    for line in lines:
        fields = line.split()  # 1: POSIX ADVISORY READ 1234 fe:00:5678 124 124
        if len(fields) != 8 or fields[1] != "POSIX" or int(fields[5].rpartition(":")[2]) != inode:
            continue
        start, end = int(fields[6]), float("inf") if fields[7] == "EOF" else int(fields[7])
        if start <= last and end >= first:
            owners.add(int(fields[4]))
    return owners
