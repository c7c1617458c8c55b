"""Many rows for SQLite: one statement for a chunk; what the jobs of one `enqueue_many` share is passed once in it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from functools import lru_cache, partial
from itertools import chain
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, null, select, text, update

from ...jobs import NewJob
from ..bulk import CHUNK, store_as_they_come, store_in_this_thread
from ..hot import HotStatement, driver_of, in_sizes
from ..tables import KEY_IS_HELD, jobs
from .inserts import INSERT_UNLESS_DUPLICATE, Execute, execute_for_user, for_rows

# First, because a statement for many rows does not say which of them it left out.
_RELEASE_EXPIRED: Final = HotStatement(
    update(jobs)
    .where(
        jobs.c.unique_key.in_(select(func.json_each(bindparam("keys")).table_valued("value").c.value)),
        text(KEY_IS_HELD),
        jobs.c.unique_until <= bindparam("now"),
        jobs.c.finished_at.is_not(None),
    )
    .values(unique_until=null())
)
_SIZES: Final = (CHUNK, 128, 32, 8, 1)
_SHARED: Final = tuple(name for name in NewJob._fields if name not in ("args", "kwargs"))


def insert_jobs(connection: Connection, new_jobs: Iterable[NewJob]) -> int:
    """Insert jobs as they come, holding few back; return how many rows were stored.

    Items whose unique key another job holds are left out.
    """
    return store_as_they_come(new_jobs, partial(_insert_jobs, driver_of(connection).execute))


def insert_jobs_in(given: Any, new_jobs: Iterable[NewJob]) -> int:
    """Insert jobs on a connection of the user's own; return how many rows were stored."""
    return store_in_this_thread(new_jobs, partial(_insert_jobs, execute_for_user(given)))


def insert_alike(connection: Connection, template: NewJob, arguments: Iterable[tuple[str, str]]) -> int:
    """Insert jobs that are like the template but for args and kwargs; return how many rows were stored."""
    shared = tuple(getattr(template, name) for name in _SHARED)
    return store_as_they_come(arguments, partial(_insert_alike, driver_of(connection), shared))


def _insert_jobs(execute: Execute, rows: list[NewJob]) -> int:
    stored = 0
    keys = [row.unique_key for row in rows if row.unique_key is not None]
    if keys:
        release = _RELEASE_EXPIRED.on_sqlite()
        execute(release.sql, release.positional({"keys": json.dumps(keys), "now": rows[0].created_at}))
    for some in in_sizes(rows, _SIZES):
        row_values = tuple(chain.from_iterable(some))
        stored += execute(for_rows(INSERT_UNLESS_DUPLICATE, len(some)), row_values).rowcount
    return stored


def _insert_alike(driver: sqlite3.Connection, shared: tuple[object, ...], rows: list[tuple[str, str]]) -> int:
    for some in in_sizes(rows, _SIZES):
        driver.execute(_alike_statement(len(some)), (*shared, *chain.from_iterable(some)))
    return len(rows)


@lru_cache(maxsize=len(_SIZES))
def _alike_statement(count: int) -> str:
    """Return an INSERT of rows that share all but two values: numbered parameters, then two more for each row."""
    shared = ", ".join(f"?{number}" for number in range(1, len(_SHARED) + 1))
    rows = ", ".join([f"({shared}, ?, ?)"] * count)
    return f"INSERT INTO jobs ({', '.join(_SHARED)}, args, kwargs) VALUES {rows}"  # noqa: S608 - our own names
