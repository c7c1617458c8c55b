"""The hot statements go through their indexes: a lost index fails here, not at three in the morning.

Each statement is explained on a file with some thousand jobs, most of them ended, without statistics of SQLite's own
(nobody runs ANALYZE) and with them (somebody did).
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Engine, event

from durablejobs import DurableJobs, JobFilter
from durablejobs.statuses import Status
from durablejobs.store import (
    Store,
    claims,
    endings,
    held_jobs,
    peeking,
    pending_queues,
    queue_rules,
    rescues,
    running_limits,
    unique,
)

from ..clocks import START, ManualClock

PRIMARY_KEY = "INTEGER PRIMARY KEY"


class Expected(NamedTuple):
    """What a plan must name, and what it may do besides: sort few rows."""

    indexes: tuple[str, ...]
    may_sort: bool = False


HOT: dict[str, tuple[str, Expected]] = {
    "promote": (claims.PROMOTE.sql, Expected(("ix_jobs_scheduled",))),
    "peek": (peeking.PEEK.sql, Expected(("ix_jobs_pending", "ix_jobs_scheduled"))),
    "pending queues": (pending_queues.PENDING_QUEUES.sql, Expected(("ix_jobs_pending",))),
    "pending queues by their best": (
        pending_queues.BY_THEIR_BEST.sql,
        Expected(("ix_jobs_pending",), may_sort=True),
    ),
    "best of one queue": (claims.found_statement(1).sql, Expected(("ix_jobs_pending", PRIMARY_KEY))),
    "best of five queues": (claims.found_statement(5).sql, Expected(("ix_jobs_pending", PRIMARY_KEY))),
    "best of two queues and two limited ones": (
        claims.found_statement(4, limited_count=2).sql,
        Expected(("ix_jobs_pending", PRIMARY_KEY), may_sort=True),
    ),
    "claim of what was found": (claims.CLAIM_FOUND.sql, Expected((PRIMARY_KEY,))),
    "waiting keys": (running_limits.WAITING_KEYS.sql, Expected(("ix_jobs_pending",))),
    "best of a key": (running_limits.BEST_OF_KEY.sql, Expected(("ix_jobs_pending",))),
    "running jobs of each key": (running_limits.RUNNING.sql, Expected(("ix_jobs_places",))),
    "whether limited jobs wait": (running_limits.ARE_WAITING.sql, Expected(("ix_jobs_places",))),
    "claim of chosen jobs": (running_limits.claim_chosen_statement(8).sql, Expected((PRIMARY_KEY,))),
    "running jobs of a queue": (queue_rules.RUNNING.sql, Expected(("ix_jobs_running",))),
    "extend": (held_jobs.EXTEND.sql, Expected(("ix_jobs_running",))),
    "release": (held_jobs.RELEASE.sql, Expected((PRIMARY_KEY,))),
    "claimed by": (held_jobs.CLAIMED_BY.sql, Expected(("ix_jobs_running",))),
    "succeed one": (endings.succeed_statement(1), Expected((PRIMARY_KEY,))),
    "succeed many": (endings.succeed_statement(64), Expected((PRIMARY_KEY,))),
    "succeed most": (endings.succeed_statement(256), Expected((PRIMARY_KEY,))),
    "holder of a unique key": (unique.HOLDER.sql, Expected(("ix_jobs_unique_key",))),
    "end otherwise": (endings._END_OTHERWISE.sql, Expected((PRIMARY_KEY,))),
    "orphans of a worker": (rescues.ORPHANS_OF_WORKER.sql, Expected(("ix_jobs_running",))),
    "orphans of nobody": (rescues.ORPHANS_OF_NOBODY.sql, Expected(("ix_jobs_running",))),
    "give back": (rescues.GIVE_BACK.sql, Expected((PRIMARY_KEY,))),
}

FINISHED = dict.fromkeys((Status.SUCCEEDED, Status.FAILED, Status.CANCELLED), START)


def listing(*statuses: Status, handler: str | None = None) -> Callable[[Store], Any]:
    return lambda store: store.reads.list_jobs(JobFilter(statuses, handler), 50, None)


# What people ask for; the statements are recorded while the store runs them.
COOL: dict[str, tuple[Callable[[Store], Any], Expected]] = {
    "get": (lambda store: store.reads.get(1), Expected((PRIMARY_KEY,))),
    "errors": (lambda store: store.reads.get_with_errors(1), Expected((PRIMARY_KEY, "ix_job_errors_job_id"))),
    "list all": (listing(), Expected(())),
    "list scheduled": (listing(Status.SCHEDULED), Expected(("ix_jobs_scheduled",), may_sort=True)),
    "list pending": (listing(Status.PENDING), Expected(("ix_jobs_pending",), may_sort=True)),
    "list running": (listing(Status.RUNNING), Expected(("ix_jobs_running",), may_sort=True)),
    "list failed": (listing(Status.FAILED), Expected(("ix_jobs_finished",), may_sort=True)),
    "list failed of a handler": (listing(Status.FAILED, handler="x"), Expected(("ix_jobs_finished",), may_sort=True)),
    "list cancelled": (listing(Status.CANCELLED), Expected(("ix_jobs_finished",), may_sort=True)),
    "count prunable": (lambda store: store.upkeep.count_prunable(FINISHED), Expected(("ix_jobs_finished",))),
    "prune": (lambda store: store.upkeep.prune(FINISHED), Expected(("ix_jobs_finished", PRIMARY_KEY))),
    "statistics": (
        lambda store: store.reads.statistics(5),
        Expected(("ix_jobs_pending", "ix_jobs_scheduled", "ix_jobs_running", "ix_jobs_finished"), may_sort=True),
    ),
    "retry": (lambda store: store.acts.retry(3), Expected((PRIMARY_KEY, "ix_jobs_unique_key"))),
    "delete": (lambda store: store.acts.delete(2), Expected((PRIMARY_KEY,))),
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with jobs of all statuses in five queues; for reading."""
    path = tmp_path_factory.mktemp("plans") / "jobs.db"
    with closing(DurableJobs(path, clock=ManualClock())) as jobs:
        for number in range(5):
            jobs.using(queue=f"q{number}").enqueue_many("mail", ([each] for each in range(1200)))
        jobs.using(delay=60).enqueue_many("mail", ([each] for each in range(500)))
    ended = "finished_at = '2030-01-01 11:00:00'"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE jobs SET status = 'succeeded', {ended} WHERE id % 8 < 5 AND status = 'pending'")
        connection.execute(f"UPDATE jobs SET status = 'failed', {ended} WHERE id % 80 = 5 AND status = 'pending'")
        connection.execute(f"UPDATE jobs SET status = 'cancelled', {ended} WHERE id % 80 = 6 AND status = 'pending'")
        connection.execute(
            "UPDATE jobs SET status = 'running', lease_expires_at = run_at, worker_id = id % 4 "
            "WHERE id % 200 = 7 AND status = 'pending'"
        )
        connection.execute("UPDATE jobs SET unique_key = id WHERE id % 3 = 0")
        counts = dict(connection.execute("SELECT status, count(*) FROM jobs GROUP BY 1"))
    assert counts.keys() == set(Status) - {Status.BLOCKED}
    return path


@pytest.fixture(params=["without ANALYZE", "with ANALYZE"])
def path(request: pytest.FixtureRequest, filled: Path, tmp_path: Path) -> Path:
    """A copy of its own for each test."""
    copy = tmp_path / "jobs.db"
    with closing(sqlite3.connect(filled)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        if request.param == "with ANALYZE":
            target.execute("ANALYZE")
    return copy


def plan(connection: sqlite3.Connection, sql: str, parameters: Any = None) -> list[str]:
    if parameters is None:
        parameters = [None] * sql.count("?")
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]


def faults(lines: list[str], expected: Expected) -> list[str]:
    """What is wrong with a plan: an index that is not used, a table that is read row by row, a sort."""
    text = "\n".join(lines)
    found = [f"no {index}" for index in expected.indexes if index not in text]
    found += [line for line in lines if re.match(r"SCAN (jobs|job_errors|job_workers)\b(?!.* USING )", line)]
    if not expected.may_sort:
        found += [line for line in lines if "TEMP B-TREE" in line]
    return found


@pytest.mark.parametrize("name", HOT)
def test_a_hot_statement_goes_through_its_index_and_sorts_nothing(path: Path, name: str) -> None:
    sql, expected = HOT[name]
    with closing(sqlite3.connect(path)) as connection:
        lines = plan(connection, sql)
    assert faults(lines, expected) == [], lines


@contextmanager
def recorded() -> Iterator[list[tuple[str, Any]]]:
    """Yield a list that fills with the statements that SQLAlchemy runs."""
    statements: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@pytest.mark.parametrize("name", COOL)
def test_what_people_ask_for_goes_through_indexes_too(path: Path, name: str) -> None:
    act, expected = COOL[name]
    with closing(Store(path, clock=ManualClock())) as store:
        store.open()
        with recorded() as statements:
            act(store)
    assert statements
    lines: list[str] = []
    with closing(sqlite3.connect(path)) as connection:
        for sql, parameters in statements:
            lines += plan(connection, sql, parameters)
    if name == "list all":
        assert lines == ["SCAN jobs"]  # backwards along the ids, and stops at the limit
    else:
        assert faults(lines, expected) == [], lines


# The check itself can fail


@pytest.mark.parametrize("name", [name for name, (_, expected) in HOT.items() if expected.indexes != (PRIMARY_KEY,)])
def test_the_check_notices_a_lost_index(filled: Path, tmp_path: Path, name: str) -> None:
    sql, expected = HOT[name]
    lost = next(index for index in expected.indexes if index != PRIMARY_KEY)
    # SQLite does not explain anew what Python keeps compiled.
    copied = sqlite3.connect(tmp_path / "copy.db", cached_statements=0)
    with closing(sqlite3.connect(filled)) as source, closing(copied) as copy:
        source.backup(copy)
        assert faults(plan(copy, sql), expected) == []
        copy.execute(f"DROP INDEX {lost}")
        assert f"no {lost}" in faults(plan(copy, sql), expected)


def test_the_check_notices_a_sort_and_a_scan(filled: Path) -> None:
    """The claim as one would write it first: `queue IN (…) ORDER BY …` sorts all pending jobs of those queues."""
    with closing(sqlite3.connect(filled)) as connection:
        naive = plan(
            connection,
            "SELECT id FROM jobs WHERE status = 'pending' AND queue IN ('q1', 'q2') ORDER BY priority DESC, id LIMIT 5",
        )
        assert faults(naive, Expected(("ix_jobs_pending",))) == ["USE TEMP B-TREE FOR ORDER BY"]
        parameter = plan(connection, "SELECT id FROM jobs WHERE status = ? AND queue = 'q1'")
        assert faults(parameter, Expected(())) == ["SCAN jobs"]
