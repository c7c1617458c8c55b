"""All checks of one database, one after another."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from ..errors import DatabaseError
from ..reading import Reader
from ..store import Store
from . import clock, database, files, jobs, library, server
from .findings import Finding, Level, wrong
from .processes import holders

_FATAL: Final = frozenset({"database", "schema"})
"""Without these there are no rows to look at."""

Check = Callable[[], Finding | Iterable[Finding]]


def examine(store: Store, handlers: frozenset[str] | None = None, deep: bool = False) -> Iterator[Finding]:
    """Yield what each check finds; `handlers` are those of the user's app, None: nobody knows.

    A check that cannot be done because of the database is a finding itself. Raises `DatabaseNotFoundError`,
    `DatabaseUnusableError` or `DatabaseUnreachableError` where there is nothing at all to look at.
    """
    if store.database.path is None:
        yield from _of_a_server(store, handlers, deep)
        return
    beside = files.Files.of(store.location)
    if not os.path.isfile(beside.database):  # False, not an error, where nobody may look
        store.schema_report()  # raises
    yield from _all(_outside(store, beside))
    inside = list(_all([lambda: database.check_journal(store), lambda: database.check_schema(store)]))
    yield from inside
    if any(finding.level is Level.WRONG and finding.check in _FATAL for finding in inside):
        return
    yield from _all(_rows(store, beside, handlers))
    if deep:
        yield from _all([lambda: database.check_deep(store)])


def _of_a_server(store: Store, handlers: frozenset[str] | None, deep: bool) -> Iterator[Finding]:
    """What can be asked of a server: its files are its administrator's."""
    yield from server.check_server(store)
    schema = database.check_schema(store)
    yield schema
    if schema.level is Level.WRONG:
        return
    yield from _all(_jobs(store, Reader(store).worker_states(), handlers))
    if deep:
        yield from _all([lambda: database.check_deep(store)])


def examine_surroundings(store: Store) -> list[Finding]:
    """Return what a worker should say when it starts: what is not as it should be around a database file."""
    if store.database.path is None:
        return []
    found = [library.check_version(), files.check_file_system(files.Files.of(store.location))]
    return [finding for finding in found if finding.level is not Level.OK]


def _outside(store: Store, beside: files.Files) -> list[Check]:
    return [
        library.check_version,
        library.check_default_synchronous,
        lambda: database.check_synchronous(store.config.synchronous),
        lambda: library.check_alone(holders([str(path) for path in beside.all])),
        lambda: files.check_file_system(beside),
        lambda: files.check_rights(beside),
        lambda: files.check_space(beside),
        lambda: files.check_log(beside),
    ]


def _rows(store: Store, beside: files.Files, handlers: frozenset[str] | None) -> list[Check]:
    states = Reader(store).worker_states() if beside.beside("-lock").exists() else {}
    return [lambda: clock.check_clock(store, beside), *_jobs(store, states, handlers)]


def _jobs(store: Store, states: dict[int, str], handlers: frozenset[str] | None) -> list[Check]:
    workers = store.workers.records()
    checks: list[Check] = [
        lambda: jobs.check_workers(workers, states),
        lambda: jobs.check_orphans(store.checks.count_strays()),
        lambda: jobs.check_paused(Reader(store).queues()),
        lambda: jobs.check_queues(store.reads.statistics(5.0), workers, states),
    ]
    if handlers is not None:
        checks.append(lambda: jobs.check_handlers(store.checks.waiting_handlers(), handlers))
    return checks


def _all(checks: Iterable[Check]) -> Iterator[Finding]:
    for check in checks:
        try:
            found = check()
            yield from [found] if isinstance(found, Finding) else found
        except DatabaseError as error:
            yield wrong(
                "database",
                str(error),
                "Neither enqueueing nor working is possible like this.",
                'See "When something is wrong" in the operations page.',
            )
            return
