"""Fixtures of all tests: real SQLite files, a clock that only moves when it is told to."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, settings

from durablejobs import DatabaseConfig, DurableJobs
from durablejobs.clock import to_text
from durablejobs.jobs import ClaimedJob, NewJob
from durablejobs.outcomes import Outcome
from durablejobs.store import Store
from durablejobs.store.endings import Ending, Settlement
from durablejobs.store.store import ClaimRequest
from durablejobs.store.workers import Registration

from .clocks import ManualClock

# A loaded machine is no reason to fail; fixtures that a test resets by itself are no danger.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own environment changes no test."""
    for name in list(os.environ):
        if name.startswith("DURABLEJOBS_"):
            monkeypatch.delenv(name)


@pytest.fixture
def clock() -> ManualClock:
    """The clock of `store` and `timed_jobs`."""
    return ManualClock()


@pytest.fixture
def database_path(tmp_path: Path) -> Path:
    """Where the test's database is, or will be."""
    return tmp_path / "jobs.db"


# The conformance suite: what is tested through `store` holds for each database in this list.
@pytest.fixture(params=["sqlite"])
def store(request: pytest.FixtureRequest, database_path: Path, clock: ManualClock) -> Iterator[Store]:
    """An open store, empty, by the manual clock."""
    assert request.param == "sqlite"
    opened = Store(database_path, DatabaseConfig(busy_timeout=10), clock)
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
def jobs(database_path: Path) -> Iterator[DurableJobs]:
    """The public object, by the system's clock."""
    app = DurableJobs(database_path)
    yield app
    app.close()


@pytest.fixture
def timed_jobs(database_path: Path, clock: ManualClock) -> Iterator[DurableJobs]:
    """The public object, by the manual clock; on the same file as `store`."""
    app = DurableJobs(database_path, clock=clock)
    yield app
    app.close()


class Sql(Protocol):
    def __call__(self, statement: str, *values: Any) -> list[dict[str, Any]]: ...


@pytest.fixture
def sql(database_path: Path) -> Iterator[Sql]:
    """Run one statement on the test's file, as another program would, and commit; return its rows."""
    with closing(sqlite3.connect(database_path, isolation_level=None, timeout=10)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")

        def run(statement: str, *values: Any) -> list[dict[str, Any]]:
            return [dict(row) for row in connection.execute(statement, values)]

        yield run


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
        return store.insert(new_job(clock, **columns))[0]

    return insert


class Claim(Protocol):
    def __call__(
        self, most: int = 1, queues: Sequence[str] = (), worker: int = 1, lease: float = 30
    ) -> list[ClaimedJob]: ...


@pytest.fixture
def claim(store: Store) -> Claim:
    """Take one turn of a worker that has nothing to settle; return what it claimed."""

    def take(most: int = 1, queues: Sequence[str] = (), worker: int = 1, lease: float = 30) -> list[ClaimedJob]:
        return store.turn([], ClaimRequest(worker, tuple(queues), most, lease)).claimed

    return take


class Settle(Protocol):
    def __call__(self, job: ClaimedJob, outcome: Outcome, worker: int = 1) -> Settlement: ...


@pytest.fixture
def settle(store: Store, clock: ManualClock) -> Settle:
    """Settle one run that began and ended now."""

    def end(job: ClaimedJob, outcome: Outcome, worker: int = 1) -> Settlement:
        now = to_text(clock.now())
        return store.settle(worker, [Ending(job, outcome, now, now)])

    return end


class Register(Protocol):
    def __call__(self, name: str = "worker", seat: int | None = None) -> int: ...


@pytest.fixture
def register(store: Store) -> Register:
    """Register a worker without a seat; return its id."""

    def add(name: str = "worker", seat: int | None = None) -> int:
        def describe(_seat: int | None, now: str) -> Registration:
            return Registration(name, "host", 1, seat, "all", 1, "0", now, now)

        worker_id, own_seat = store.register(describe)
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
