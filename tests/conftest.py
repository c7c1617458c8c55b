"""Fixtures of all tests: real databases, a clock that only moves when it is told to.

The conformance suite, the tests of the store and those that are marked `conformance`, runs on SQLite and on PostgreSQL
through the fixtures `database`, `store`, `jobs` and `timed_jobs`. A test in it that is about SQLite's file asks for
`database_path`, or is marked `sqlite`, or stands in a directory of its own.
"""

from __future__ import annotations

import math
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg.rows import dict_row

from durablejobs import DatabaseConfig, DurableJobs
from durablejobs.clock import to_text
from durablejobs.jobs import ClaimedJob, NewJob
from durablejobs.outcomes import Outcome
from durablejobs.store import Store
from durablejobs.store.doors.claims import ClaimRequest
from durablejobs.store.endings import Ending, Settlement
from durablejobs.store.workers import Registration

from . import postgres
from .clocks import ManualClock

# A loaded machine is no reason to fail; fixtures that a test resets by itself are no danger.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

# A shell starts what runs in its background deaf to Control-C, and so would be every command that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


_STORE: Final = Path(__file__).parent / "store"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own environment changes no test."""
    for name in list(os.environ):
        if name.startswith("DURABLEJOBS_"):
            monkeypatch.delenv(name)


def always_steady() -> float:
    """Say of an observer's heart that it has always beaten in time."""
    return -math.inf


@pytest.fixture
def clock() -> ManualClock:
    """The clock of `store` and `timed_jobs`."""
    return ManualClock()


@pytest.fixture
def database_path(tmp_path: Path) -> Path:
    """Where the test's database is, or will be."""
    return tmp_path / "jobs.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def dialect(request: pytest.FixtureRequest) -> str:
    """Which of the two databases."""
    return str(request.param)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out, for PostgreSQL, what is not in the conformance suite or is about SQLite's file."""
    items[:] = [
        item
        for item in items
        if not _is_for_postgres(item) or (_is_in_conformance_suite(item) and not _is_about_sqlite(item))
    ]


def _is_for_postgres(item: pytest.Item) -> bool:
    call = getattr(item, "callspec", None)
    return call is not None and call.params.get("dialect") == "postgresql"


def _is_in_conformance_suite(item: pytest.Item) -> bool:
    return item.path.is_relative_to(_STORE) or item.get_closest_marker("conformance") is not None


def _is_about_sqlite(item: pytest.Item) -> bool:
    return "database_path" in getattr(item, "fixturenames", ()) or item.get_closest_marker("sqlite") is not None


@pytest.fixture(scope="session")
def postgres_server(testrun_uid: str) -> Iterator[str]:
    """The URL of a PostgreSQL server's administrator."""
    with postgres.server(testrun_uid) as url:
        yield url


@pytest.fixture(scope="session")
def _shared_database(postgres_server: str, worker_id: str) -> Iterator[str]:
    with postgres.database(postgres_server, f"durablejobs_test_{worker_id}_{os.getpid()}") as url:
        yield url


@pytest.fixture
def postgres_url(_shared_database: str) -> str:
    """The URL of a PostgreSQL database with empty tables."""
    postgres.empty(_shared_database)
    return _shared_database


@pytest.fixture
def database(dialect: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What to open: the path of a file that is not there yet, or the URL of a database with empty tables."""
    return str(tmp_path / "jobs.db" if dialect == "sqlite" else request.getfixturevalue("postgres_url"))


@pytest.fixture
def store(database: str, clock: ManualClock) -> Iterator[Store]:
    """An open store, empty, by the manual clock."""
    opened = Store(database, DatabaseConfig(busy_timeout=10), clock)
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
def jobs(database: str) -> Iterator[DurableJobs]:
    """The public object, by the system's clock."""
    app = DurableJobs(database)
    yield app
    app.close()


@pytest.fixture
def timed_jobs(database: str, clock: ManualClock) -> Iterator[DurableJobs]:
    """The public object, by the manual clock; on the same database as `store`."""
    app = DurableJobs(database, clock=clock)
    yield app
    app.close()


class Sql(Protocol):
    def __call__(self, statement: str, *values: Any) -> list[dict[str, Any]]: ...


@pytest.fixture
def sql(dialect: str, database: str) -> Iterator[Sql]:
    """Run one statement on the test's database, as another program would, and commit; return its rows.

    Values stand for `?`. Times and JSON come back as text from both databases.
    """
    with sql_on_sqlite(database) if dialect == "sqlite" else sql_on_postgres(database) as run:
        yield run


@contextmanager
def sql_on_postgres(url: str) -> Iterator[Sql]:
    """Yield what runs statements on PostgreSQL."""
    with postgres.admin(url) as connection:

        def run(statement: str, *values: Any) -> list[dict[str, Any]]:
            query = statement.replace(" NOT INDEXED", "")  # how SQLite is told to look at the rows themselves
            if values:
                query = query.replace("%", "%%").replace("?", "%s")
            cursor = connection.cursor(row_factory=dict_row).execute(query, values or None)
            return cursor.fetchall() if cursor.description else []

        yield run


@contextmanager
def sql_on_sqlite(path: str, timeout: float = 10) -> Iterator[Sql]:
    """Yield what runs statements on a file."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=timeout)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")

        def run(statement: str, *values: Any) -> list[dict[str, Any]]:
            return [dict(row) for row in connection.execute(statement, values)]

        yield run


REFUSED: Final = (sqlite3.IntegrityError, psycopg.IntegrityError)
"""What the drivers raise for a row that breaks a check."""


def new_job(clock: ManualClock, **columns: Any) -> NewJob:
    """A row on its way in; `delay` is seconds from now."""
    delay = columns.pop("delay", 0)
    now = clock.now()
    defaults: dict[str, Any] = {
        "handler": "mail",
        "queue": "default",
        "args": "[]",
        "kwargs": "{}",
        "status": "scheduled" if delay > 0 else "pending",
        "priority": 0,
        "run_at": to_text(ManualClock(now).advance(delay)),
        "max_attempts": 20,
        "unique_key": None,
        "running_key": None,
        "timeout": None,
        "meta": "{}",
        "created_at": to_text(now),
    }
    return NewJob(**(defaults | columns))


class Enqueue(Protocol):
    def __call__(self, **columns: Any) -> int: ...


@pytest.fixture
def enqueue(store: Store, clock: ManualClock) -> Enqueue:
    """Insert a job with these columns (and `delay`); return its id."""

    def insert(**columns: Any) -> int:
        return store.new_jobs.insert(new_job(clock, **columns))[0]

    return insert


class Claim(Protocol):
    def __call__(
        self, most: int = 1, queues: Sequence[str] = (), worker: int = 1, lease: float = 30
    ) -> list[ClaimedJob]: ...


@pytest.fixture
def claim(store: Store) -> Claim:
    """Take one turn of a worker that has nothing to settle; return what it claimed."""

    def take(most: int = 1, queues: Sequence[str] = (), worker: int = 1, lease: float = 30) -> list[ClaimedJob]:
        return store.claims.turn([], ClaimRequest(worker, tuple(queues), most, lease)).claimed

    return take


class Settle(Protocol):
    def __call__(self, job: ClaimedJob, outcome: Outcome, worker: int = 1) -> Settlement: ...


@pytest.fixture
def settle(store: Store, clock: ManualClock) -> Settle:
    """Settle one run that began and ended now."""

    def end(job: ClaimedJob, outcome: Outcome, worker: int = 1) -> Settlement:
        now = to_text(clock.now())
        return store.claims.settle(worker, [Ending(job, outcome, now, now)])

    return end


class Register(Protocol):
    def __call__(self, name: str = "worker", seat: int | None = None) -> int: ...


@pytest.fixture
def register(store: Store) -> Register:
    """Register a worker without a seat; return its id."""

    def add(name: str = "worker", seat: int | None = None) -> int:
        def describe(_seat: int | None, now: str) -> Registration:
            return Registration(name, "host", 1, seat, "all", 1, "0", now, now)

        worker_id, own_seat = store.workers.register(describe)
        if own_seat is not None:
            own_seat.leave()
        return worker_id

    return add


class RunPython(Protocol):
    def __call__(self, code: str, *args: object, timeout: float = 60) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def run_python(tmp_path: Path) -> RunPython:
    """Run Python code in a process of its own, in the test's directory; return what it printed and its exit code."""

    def run(code: str, *args: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", code, *map(str, args)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
