"""The SQLite library: is it one of the bad ones, and is it alone in its process?"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Final

from .findings import Finding, advice, ok, wrong
from .processes import sqlite_libraries

_RESET_BUG_BEGINS: Final = (3, 7, 0)
_RESET_BUG_MENDED: Final = (3, 51, 3)
_BACKPORTS: Final = {(3, 44): (3, 44, 6), (3, 50): (3, 50, 7)}
"""Releases of older lines that have the mending too."""


def has_reset_bug(version: tuple[int, int, int]) -> bool:
    """Return whether this SQLite has the "WAL-reset bug"."""
    backport = _BACKPORTS.get(version[:2])
    if backport is not None and version >= backport:
        return False
    return _RESET_BUG_BEGINS <= version < _RESET_BUG_MENDED


def check_version() -> Finding:
    """Compare the version with the bad ones."""
    version = sqlite3.sqlite_version
    if has_reset_bug(sqlite3.sqlite_version_info):
        return advice(
            "SQLite version",
            f"SQLite {version} has the WAL-reset bug",
            "If two connections checkpoint and a third commits at the wrong instant, commits can be lost. durablejobs' "
            "own writers wait for each other at their gate and do not meet like that; other programs, and your own "
            "transactions, do not pass the gate.",
            "Prefer SQLite 3.51.3 or newer (or the backports 3.50.7 and 3.44.6): a newer distribution, or a Python "
            "that is built with it.",
        )
    return ok("SQLite version", f"SQLite {version}, none of the bad ones")


def check_default_synchronous() -> Finding:
    """Look at what a connection gets that sets nothing: programs that enqueue by plain SQL."""
    with closing(sqlite3.connect(":memory:")) as connection:
        options = {option for (option,) in connection.execute("PRAGMA compile_options")}
    level = next((each[-1] for each in options if each.startswith("DEFAULT_WAL_SYNCHRONOUS=")), "2")
    if level in ("2", "3"):
        return ok("SQLite's default", "connections that set nothing write with synchronous=FULL")
    return advice(
        "SQLite's default",
        f"this SQLite was built with synchronous={level} as its default in WAL mode",
        "durablejobs sets FULL itself. Programs that enqueue by plain SQL, and your own transactions, do not: their "
        "last commits before a power cut may be lost.",
        "Run `PRAGMA synchronous = FULL` on each connection of your own.",
    )


def check_alone(holders: dict[int, str]) -> Iterator[Finding]:
    """Look for processes that have loaded a second SQLite library, among this one and those that use the database."""
    found = False
    for pid, name in holders.items():
        libraries = sqlite_libraries(pid)
        if len(libraries) > 1:
            found = True
            yield wrong(
                "one SQLite",
                f"{name} (process {pid}) has loaded {len(libraries)} SQLite libraries: {', '.join(sorted(libraries))}",
                "Two libraries in one process do not know of each other's locks: when one closes the file, the "
                "kernel drops the locks of both, and acknowledged commits can be lost.",
                "Open the database through one library only: drop the other package, or keep it in another process.",
            )
    if not found:
        yield ok("one SQLite", "no process that uses the database has loaded a second SQLite library")
