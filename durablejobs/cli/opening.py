"""How commands open the database: to read, to act on jobs, or with the user's handlers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from .loading import load_app, load_default_app
from .settings import database_of, database_or_none, read_settings
from .terminal import say

if TYPE_CHECKING:
    from ..app import DurableJobs
    from ..reading import Reader
    from ..store import Store


@contextmanager
def opened_store(database: str | None) -> Iterator[Store]:
    """Yield the store of a database that must be there; imports no user code."""
    path = database_of(database)
    from ..store import Store

    with closing(Store(path, create=False)) as store:
        yield store


@contextmanager
def opened_reader(database: str | None) -> Iterator[Reader]:
    """Yield a reader of a database that must be there; imports no user code."""
    from ..reading import Reader

    with opened_store(database) as store:
        yield Reader(store)


@contextmanager
def opened_client_app(app: str | None, database: str | None) -> Iterator[DurableJobs]:
    """Yield what to enqueue with: the user's app where one is named, else one that knows no handlers."""
    from ..app import DurableJobs

    chosen = app or read_settings().get("app")
    if chosen is None:
        jobs = DurableJobs(database_of(database))
    else:
        jobs = _with_database(load_app(chosen), database_or_none(database))
    with closing(jobs):
        yield jobs


@contextmanager
def opened_worker_app(app: str | None, database: str | None) -> Iterator[DurableJobs]:
    """Yield what to work with: the user's app, or `handlers.py`; on its own database where none is named."""
    chosen = app or read_settings().get("app")
    path = database_or_none(database)
    jobs = _with_database(load_default_app() if chosen is None else load_app(chosen), path)
    with closing(jobs):
        yield jobs


def _with_database(jobs: DurableJobs, path: str | None) -> DurableJobs:
    if path is not None:
        jobs.move_to(path)
    return jobs


def open_and_say(jobs: DurableJobs) -> None:
    """Open the database, and say so when that created it."""
    is_new = not os.path.exists(jobs.location)  # a URL never does, and is never created unasked
    if jobs.open() and is_new:
        say(f"created {jobs.location}")
