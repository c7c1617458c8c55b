"""Checks of the promises that need nothing but a database file; used on what a fault has left."""

from __future__ import annotations

import sqlite3
from typing import Final

from durablejobs.store.hot import SQLITE
from durablejobs.store.soundness import RULES

RULES_AS_SQL: Final = [
    (
        f"{rule.promise}: {rule.text}",
        str(rule.offenders.compile(dialect=SQLITE, compile_kwargs={"literal_binds": True})),
    )
    for rule in RULES
]


def broken_promises(connection: sqlite3.Connection) -> list[str]:
    """Return what is wrong with a database, in sentences: SQLite's own checks, and all rules of `verify`."""
    found = [row[0] for row in connection.execute("PRAGMA integrity_check")]
    problems = [f"I10: {text}" for text in found if text != "ok"]
    problems += [
        f"I10: a reference of {row[0]} leads nowhere" for row in connection.execute("PRAGMA foreign_key_check")
    ]
    if problems:
        return problems  # what a damaged file says about its rows means little
    for text, offenders in RULES_AS_SQL:
        rows = connection.execute(offenders).fetchmany(5)
        if rows:
            problems.append(f"{text}, broken by {[row[0] for row in rows]}")
    return problems
