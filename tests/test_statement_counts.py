"""What the database is asked to do: few statements and few commits, because each commit is a sync of the disk.

The bounds leave three times the room that is used, so that they fail for a change of habit, not of timing.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from durablejobs import DurableJobs
from durablejobs.store.doors.claims import ClaimRequest
from durablejobs.store.sqlite import SqliteDatabase

from .clocks import ManualClock

WRITING = ("INSERT", "UPDATE", "DELETE")
"""Outside of a transaction, such a statement is one of its own."""


class Recorder:
    """All statements of all connections of this process, as SQLite itself reports them."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.statements: list[str] = []
        self.commits = 0
        """Transactions that wrote; one that only read ends without a sync, by a ROLLBACK."""

    def listen(self, connection: sqlite3.Connection) -> None:
        def note(statement: str) -> None:
            self.statements.append(statement)
            verb = statement.split(maxsplit=1)[0]
            is_commit = verb in WRITING if not connection.in_transaction else verb == "COMMIT"
            self.commits += is_commit

        connection.set_trace_callback(note)

    def kinds(self) -> Counter[str]:
        """How often each statement was run, by its beginning."""
        return Counter(" ".join(statement.split())[:40] for statement in self.statements)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    connect = SqliteDatabase._connect

    def connect_recorded(database: SqliteDatabase) -> sqlite3.Connection:
        connection = connect(database)
        recorder.listen(connection)
        return connection

    monkeypatch.setattr(SqliteDatabase, "_connect", connect_recorded)
    return recorder


@pytest.fixture
def jobs(recorder: Recorder, database_path: Path, clock: ManualClock) -> Iterator[DurableJobs]:
    """The public object, recorded, and open: what opening it takes is not counted.

    Its clock stands still, so that no job looks slow on a loaded machine.
    """
    app = DurableJobs(database_path, clock=clock)

    @app.handler
    def add(number: int = 0) -> int:
        return number + 1

    app.open()
    drop_triggers(database_path)
    app.enqueue("add")
    app.work(burst=True, concurrency=1)
    recorder.clear()
    yield app
    app.close()


def drop_triggers(database: Path) -> None:
    """SQLite reports each step of a trigger as one more run of the statement that set it off."""
    with closing(sqlite3.connect(database)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")


def test_one_enqueue_is_one_statement_that_is_its_own_transaction(jobs: DurableJobs, recorder: Recorder) -> None:
    jobs.enqueue("add", 1)
    assert [statement.split()[0] for statement in recorder.statements] == ["INSERT"]
    assert recorder.commits == 1


def test_a_unique_key_costs_no_commit_more(jobs: DurableJobs, recorder: Recorder) -> None:
    jobs.using(unique_key="welcome:7").enqueue("add", 1)
    assert recorder.commits == 1
    assert [statement.split()[0] for statement in recorder.statements] == ["BEGIN", "INSERT", "COMMIT"]


def test_a_thousand_jobs_at_once_are_one_commit_and_a_statement_for_each_hundred(
    jobs: DurableJobs, recorder: Recorder
) -> None:
    jobs.enqueue_many("add", ([number] for number in range(1000)))
    assert recorder.commits == 1
    assert len(recorder.statements) <= 12


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_thousand_short_jobs_are_drained_in_some_ten_commits(
    jobs: DurableJobs, recorder: Recorder, concurrency: int
) -> None:
    jobs.enqueue_many("add", ([number] for number in range(1000)))
    recorder.clear()
    assert jobs.work(burst=True, concurrency=concurrency).succeeded == 1000
    assert recorder.commits <= 30, recorder.kinds()
    assert len(recorder.statements) <= 250, recorder.kinds()


def test_a_worker_that_finds_nothing_writes_only_that_it_comes_and_goes(jobs: DurableJobs, recorder: Recorder) -> None:
    jobs.work(burst=True, concurrency=4)
    assert recorder.commits == 2, recorder.kinds()
    assert len(recorder.statements) <= 25, recorder.kinds()


def test_one_job_from_registration_to_signing_off_is_four_commits(jobs: DurableJobs, recorder: Recorder) -> None:
    """Registered, claimed, settled, signed off."""
    jobs.enqueue("add", 1)
    recorder.clear()
    assert jobs.work(burst=True, concurrency=1).succeeded == 1
    assert recorder.commits == 4, recorder.kinds()


def test_what_is_given_back_is_given_back_by_one_statement(jobs: DurableJobs, recorder: Recorder) -> None:
    jobs.enqueue_many("add", [()] * 500)
    request = ClaimRequest(1, ("default",), 500, 30.0)
    claimed = jobs._store.claims.turn((), request).claimed
    recorder.clear()
    assert jobs._store.claims.release(claimed) == 500
    assert [statement.split()[0] for statement in recorder.statements] == ["BEGIN", "UPDATE", "COMMIT"]


def test_five_hundred_orphans_that_may_have_crashed_are_three_statements(jobs: DurableJobs, recorder: Recorder) -> None:
    jobs.enqueue_many("add", [()] * 500)
    jobs._store.claims.turn((), ClaimRequest(99, ("default",), 500, -1.0))  # of a worker that nobody knows
    recorder.clear()
    assert len(jobs._store.upkeep.rescue_strays(5, "its worker vanished")) == 500
    verbs = [statement.split()[0] for statement in recorder.statements]
    assert verbs[-5:] == ["BEGIN", "SELECT", "UPDATE", "INSERT", "COMMIT"]
    assert len(jobs._store.reads.get_with_errors(501)[1]) == 1


def test_the_recorder_sees_what_it_is_to_count(jobs: DurableJobs, recorder: Recorder) -> None:
    for number in range(7):
        jobs.enqueue("add", number)
    assert recorder.commits == 7
    recorder.clear()
    jobs.list_jobs()
    assert recorder.commits == 0
    assert len(recorder.kinds()) >= 2
