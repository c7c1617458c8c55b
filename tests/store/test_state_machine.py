"""Whatever happens to jobs, and in whatever order, the rows are what a small model in plain Python says.

Two workers, a person and time act on one file. After every step all rows are compared with the model; a trigger logs
every single change of a status, and each must be in the table of legal changes.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from durablejobs import DatabaseConfig, DuplicateJobError, IllegalActError, JobNotFoundError, Retention
from durablejobs.clock import to_text
from durablejobs.jobs import ClaimedJob
from durablejobs.maintenance import finished_before
from durablejobs.outcomes import Errored, Failure, GaveUp, Outcome, Snoozed, Stopped, Succeeded
from durablejobs.statuses import FINAL, LEGAL_CHANGES, LIVE, Status
from durablejobs.store import Store, endings
from durablejobs.store.acts import RETRYABLE
from durablejobs.store.doors.claims import ClaimRequest
from durablejobs.store.endings import Ending
from durablejobs.store.workers import Vital

from ..clocks import ManualClock
from ..conftest import new_job

LEASE = 30.0
FAILURE = Failure("exception", "boom")
OUTCOMES: list[Outcome] = [
    Succeeded("1"),
    Errored(FAILURE, 0.0),
    Errored(FAILURE, 30.0),
    GaveUp(Failure("fail", "no")),
    Snoozed(10.0),
    Stopped(Failure("cancel", "moot")),
]
WORKERS = st.sampled_from([1, 2])
SECONDS = st.sampled_from([0.0, 1.0, 10.0, 29.0, 31.0, 100.0])
NOBODY = st.just(99)
"""The id of no job."""


@dataclass
class Row:
    """A job as the model has it; the fields are columns of `jobs`."""

    id: int
    queue: str
    priority: int
    unique_key: str | None
    max_attempts: int
    status: Status
    run_at: datetime
    attempt: int = 0
    crashes: int = 0
    claim_token: int = 0
    worker_id: int | None = None
    lease_expires_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    result: str | None = None
    error: str | None = None

    def leave(self, status: Status, now: datetime) -> None:
        """Stop running."""
        self.status = status
        self.finished_at = now if status in FINAL else None
        self.worker_id = self.lease_expires_at = None


def as_text(row: Row) -> dict[str, Any]:
    return {name: to_text(value) if isinstance(value, datetime) else value for name, value in asdict(row).items()}


@cache
def template() -> bytes:
    """A file with an empty queue and a log of the changes of statuses."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "jobs.db"
        with closing(Store(path)) as store:
            store.open()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(
                "CREATE TABLE changes(before TEXT, after TEXT, token_before INTEGER, token_after INTEGER)"
            )
            connection.execute(
                "CREATE TRIGGER log_changes AFTER UPDATE ON jobs BEGIN "
                "INSERT INTO changes VALUES (OLD.status, NEW.status, OLD.claim_token, NEW.claim_token); END"
            )
        return path.read_bytes()


def has(*statuses: Status) -> Callable[[Any], Any]:
    """Let a rule be tried only while there is a job of such a status."""
    return precondition(lambda machine: any(row.status in statuses for row in machine.rows.values()))


class Jobs(RuleBasedStateMachine):
    """The store, and beside it the model."""

    ids: Bundle[int] = Bundle("ids")
    claims: Bundle[ClaimedJob] = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        path = self.directory / "jobs.db"
        path.write_bytes(template())
        self.clock = ManualClock()
        self.store = Store(path, DatabaseConfig(synchronous="NORMAL"), self.clock)
        self.store.open()
        self.watcher = sqlite3.connect(path, isolation_level=None)
        self.watcher.row_factory = sqlite3.Row
        self.rows: dict[int, Row] = {}
        self.errors: list[tuple[int, int, str]] = []
        self.highest_id = 0
        self.claimed: list[ClaimedJob] = []

    @property
    def now(self) -> datetime:
        return self.clock.now()

    def running(self, worker: int) -> list[Row]:
        return [row for row in self.rows.values() if row.status is Status.RUNNING and row.worker_id == worker]

    def held(self) -> list[ClaimedJob]:
        """Return the claims that are not stale."""
        running = {(row.id, row.claim_token) for row in self.rows.values() if row.status is Status.RUNNING}
        return [job for job in self.claimed if (job.id, job.claim_token) in running]

    def live_with_key(self, key: str | None) -> Row | None:
        return next((row for row in self.rows.values() if key and row.unique_key == key and row.status in LIVE), None)

    # The application

    @initialize(target=ids, number=st.integers(0, 4))
    def fill(self, number: int) -> Any:
        """Most histories begin with some jobs, or most steps would find nothing to act on."""
        return multiple(*(self._enqueue(0.0, None, "q1", 0, 2) for _ in range(number)))

    @rule(
        target=ids,
        delay=st.sampled_from([0.0, 0.0, 20.0]),
        key=st.sampled_from([None, None, "a", "b"]),
        queue=st.sampled_from(["q1", "q2"]),
        priority=st.integers(-1, 1),
        most=st.integers(1, 3),
    )
    def enqueue(self, delay: float, key: str | None, queue: str, priority: int, most: int) -> Any:
        other = self.live_with_key(key)
        job_id = self._enqueue(delay, key, queue, priority, most)
        return multiple() if other is not None else job_id

    def _enqueue(self, delay: float, key: str | None, queue: str, priority: int, most: int) -> int:
        job = new_job(self.clock, delay=delay, unique_key=key, queue=queue, priority=priority, max_attempts=most)
        job_id, stored = self.store.new_jobs.insert(job)
        other = self.live_with_key(key)
        assert stored == (other is None)
        if other is not None:
            assert job_id == other.id
            return job_id
        assert job_id > self.highest_id, "an id was used again"
        self.highest_id = job_id
        status = Status.SCHEDULED if delay else Status.PENDING
        self.rows[job_id] = Row(job_id, queue, priority, key, most, status, self.now + timedelta(seconds=delay))
        return job_id

    # The workers

    @has(Status.PENDING, Status.SCHEDULED)
    @rule(
        target=claims,
        worker=WORKERS,
        most=st.integers(1, 3) | st.just(0),
        queues=st.sampled_from([(), (), ("q1",), ("q2", "q1")]),
        is_idle=st.booleans(),
    )
    def claim(self, worker: int, most: int, queues: tuple[str, ...], is_idle: bool) -> Any:
        request = ClaimRequest(worker, queues, most, LEASE)
        door = self.store.claims
        claimed = door.idle_turn(request).claimed if is_idle else door.turn([], request).claimed
        for row in self.rows.values():
            if row.status is Status.SCHEDULED and row.run_at <= self.now:
                row.status = Status.PENDING
        pending = [row for row in self.rows.values() if row.status is Status.PENDING]
        if queues:
            served = [row for row in pending if row.queue in queues]
            order = sorted(served, key=lambda row: (queues.index(row.queue), -row.priority, row.id))
        else:
            order = sorted(pending, key=lambda row: (-row.priority, row.id))
        assert [job.id for job in claimed] == [row.id for row in order[:most]]
        for row in order[:most]:
            row.status = Status.RUNNING
            row.attempt += 1
            row.claim_token += 1
            row.worker_id = worker
            row.started_at = self.now
            row.lease_expires_at = self.now + timedelta(seconds=LEASE)
        self.claimed += claimed
        return multiple(*claimed)

    @has(Status.RUNNING)
    @rule(data=st.data(), outcome=st.sampled_from(OUTCOMES), worker=WORKERS)
    def settle_held(self, data: st.DataObject, outcome: Outcome, worker: int) -> None:
        self.settle(data.draw(st.sampled_from(self.held())), outcome, worker)

    @rule(job=claims, outcome=st.sampled_from(OUTCOMES), worker=WORKERS)
    def settle(self, job: ClaimedJob, outcome: Outcome, worker: int) -> None:
        """By whoever once got the claim, be it still his or not; a stale one must change nothing."""
        now = to_text(self.now)
        settlement = self.store.claims.settle(worker, [Ending(job, outcome, now, now)])
        row = self.rows.get(job.id)
        if row is None or row.claim_token != job.claim_token or row.status is not Status.RUNNING:
            # It succeeded under this token before: a commit had arrived after all, or a child process that settled its
            # own run died before it could say so.
            is_known = row is not None and row.status is Status.SUCCEEDED
            if is_known and row is not None and row.claim_token == job.claim_token:
                assert settlement.lost == []
            else:
                assert settlement.lost == [job]
            assert settlement.statuses == {}
            return
        assert settlement.lost == []
        row.started_at = self.now
        self._end(row, outcome)
        if not isinstance(outcome, Succeeded):
            assert settlement.statuses == {job.id: row.status}

    def _end(self, row: Row, outcome: Outcome) -> None:
        if isinstance(outcome, Errored | GaveUp):
            self.errors.append((row.id, row.attempt, outcome.failure.kind))
        if not isinstance(outcome, Succeeded | Snoozed):
            row.error = outcome.failure.message
        match outcome:
            case Succeeded(result):
                row.result = result
                row.leave(Status.SUCCEEDED, self.now)
            case GaveUp():
                row.leave(Status.FAILED, self.now)
            case Stopped():
                row.leave(Status.CANCELLED, self.now)
            case Errored() if row.attempt - row.crashes >= row.max_attempts:
                row.leave(Status.FAILED, self.now)
            case Errored(_, delay) | Snoozed(delay):
                row.run_at = self.now + timedelta(seconds=delay)
                row.attempt -= isinstance(outcome, Snoozed)
                is_cancelled = row.cancel_requested_at is not None
                row.leave(Status.CANCELLED if is_cancelled else Status.SCHEDULED, self.now)

    @has(Status.RUNNING)
    @rule(worker=WORKERS)
    def beat(self, worker: int) -> None:
        assert self.store.workers.heartbeat(worker, LEASE) is False  # it has claimed, but is in no register
        for row in self.running(worker):
            row.lease_expires_at = self.now + timedelta(seconds=LEASE)

    @rule(job=claims)
    def give_back(self, job: ClaimedJob) -> None:
        """A worker that stops gives back what it has not begun; or tries to, when others have it by now."""
        row = self.rows.get(job.id)
        is_owner = row is not None and row.status is Status.RUNNING and row.claim_token == job.claim_token
        assert self.store.claims.release([job]) == is_owner
        if is_owner and row is not None:
            self._take_back(row)

    @has(Status.RUNNING)
    @rule(data=st.data())
    def give_back_held(self, data: st.DataObject) -> None:
        self.give_back(data.draw(st.sampled_from(self.held())))

    @has(Status.RUNNING)
    @rule(worker=WORKERS, known=st.sets(st.integers(1, 15)), is_older=st.booleans())
    def reconcile(self, worker: int, known: set[int], is_older: bool) -> None:
        """It knows of these jobs; or of an older claim of them alone."""
        running = self.running(worker)
        tokens = {row.id: row.claim_token - is_older for row in running if row.id in known}
        self.store.claims.release_unknown(worker, tokens)
        for row in running:
            if row.id not in known or is_older:
                self._take_back(row)

    def _take_back(self, row: Row) -> None:
        row.attempt -= 1
        row.started_at = None
        row.leave(Status.PENDING if row.cancel_requested_at is None else Status.CANCELLED, self.now)

    # Crashes

    @has(Status.RUNNING)
    @rule(worker=WORKERS, ran=st.sampled_from(["nothing", "first", "all", "unknown"]), most=st.integers(1, 3))
    def crash(self, worker: int, ran: str, most: int) -> None:
        """A worker dies; those who rescue its jobs know what ran, or do not."""
        mine = [row.id for row in self.running(worker)]
        known: dict[str, set[int] | None] = {
            "nothing": set(),
            "first": set(mine[:1]),
            "all": set(mine),
            "unknown": None,
        }
        started = known[ran]
        vital = Vital(worker, "w", "h", 1, None, "")
        while self.store.upkeep.rescue_worker(vital, True, started, most, "it died"):
            pass
        self._rescue(mine, set(mine) if started is None else started, most, "it died")

    @has(Status.RUNNING)
    @rule(most=st.integers(1, 3))
    def lose_leases(self, most: int) -> None:
        """Jobs of workers that nobody knows come back when their lease is over."""
        expired = [
            row.id
            for row in self.rows.values()
            if row.status is Status.RUNNING and row.lease_expires_at is not None and row.lease_expires_at < self.now
        ]
        while self.store.upkeep.rescue_strays(most, "it vanished"):
            pass
        self._rescue(expired, set(expired), most, "it vanished")

    def _rescue(self, ids: list[int], started: set[int], most: int, cause: str) -> None:
        for row in (self.rows[job_id] for job_id in ids):
            if row.id not in started:
                row.attempt -= 1
                row.leave(Status.PENDING if row.cancel_requested_at is None else Status.CANCELLED, self.now)
                continue
            row.crashes += 1
            self.errors.append((row.id, row.attempt, "crash"))
            row.error = f"{cause} while it ran this job (crash {row.crashes})"
            if row.cancel_requested_at is not None:
                row.leave(Status.CANCELLED, self.now)
            elif len(started) == 1 and row.crashes >= most:
                row.error = f"{cause} while it ran this job; stopped after {row.crashes} crashes"
                row.leave(Status.FAILED, self.now)
            else:
                row.leave(Status.PENDING, self.now)

    # A person

    @rule(number=ids | NOBODY, act=st.sampled_from(["cancel", "retry", "delete"]))
    def act(self, number: int, act: str) -> None:
        getattr(self, f"_{act}")(number)

    @has(Status.RUNNING)
    @rule(data=st.data())
    def cancel_held(self, data: st.DataObject) -> None:
        self._cancel(data.draw(st.sampled_from(self.held())).id)

    def _cancel(self, number: int) -> None:
        row = self.rows.get(number)
        if row is None:
            with pytest.raises(JobNotFoundError):
                self.store.acts.cancel(number)
        elif row.status in FINAL:
            with pytest.raises(IllegalActError):
                self.store.acts.cancel(number)
        else:
            self.store.acts.cancel(number)
            row.cancel_requested_at = row.cancel_requested_at or self.now
            if row.status is not Status.RUNNING:
                row.leave(Status.CANCELLED, self.now)

    def _retry(self, number: int) -> None:
        row = self.rows.get(number)
        if row is None:
            with pytest.raises(JobNotFoundError):
                self.store.acts.retry(number)
        elif row.status not in RETRYABLE:
            with pytest.raises(IllegalActError):
                self.store.acts.retry(number)
        elif self.live_with_key(row.unique_key) not in (None, row):
            with pytest.raises(DuplicateJobError):
                self.store.acts.retry(number)
        else:
            self.store.acts.retry(number)
            row.leave(Status.PENDING, self.now)
            row.run_at = self.now
            row.crashes = 0
            row.max_attempts = max(row.max_attempts, row.attempt + 1)
            row.cancel_requested_at = row.result = None

    def _delete(self, number: int) -> None:
        row = self.rows.get(number)
        if row is None:
            with pytest.raises(JobNotFoundError):
                self.store.acts.delete(number)
        elif row.status is Status.RUNNING:
            with pytest.raises(IllegalActError):
                self.store.acts.delete(number)
        else:
            self.store.acts.delete(number)
            self._forget([number])

    @has(Status.SUCCEEDED, Status.FAILED)
    @rule(succeeded=SECONDS, failed=SECONDS)
    def prune(self, succeeded: float, failed: float) -> None:
        retention = Retention(succeeded=succeeded, failed=failed)
        while self.store.upkeep.prune(finished_before(retention, self.now)):
            pass
        kept = {Status.SUCCEEDED: succeeded, Status.FAILED: failed}
        self._forget(
            [
                row.id
                for row in self.rows.values()
                if row.finished_at is not None
                and row.status in kept
                and row.finished_at < self.now - timedelta(seconds=kept[row.status])
            ]
        )

    def _forget(self, ids: list[int]) -> None:
        for job_id in ids:
            del self.rows[job_id]
        self.errors = [error for error in self.errors if error[0] not in ids]

    # Time

    @rule(seconds=SECONDS.filter(bool))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    # The laws

    @invariant()
    def the_rows_are_the_models(self) -> None:
        columns = ", ".join(Row.__dataclass_fields__)
        found = [dict(row) for row in self.watcher.execute(f"SELECT {columns} FROM jobs ORDER BY id")]
        assert found == [as_text(self.rows[job_id]) for job_id in sorted(self.rows)]
        # Only the errors of one job have an order: a rescue takes the jobs in an index's, the model in its own.
        found_errors = self.watcher.execute("SELECT job_id, attempt, kind FROM job_errors ORDER BY job_id, id")
        assert [tuple(row) for row in found_errors] == sorted(self.errors, key=lambda error: error[0])

    @invariant()
    def every_change_was_legal(self) -> None:
        for before, after, token_before, token_after in self.watcher.execute("SELECT * FROM changes"):
            assert before == after or Status(after) in LEGAL_CHANGES[Status(before)], f"{before} to {after}"
            assert token_after - token_before == (after == Status.RUNNING and before != after), "a token went astray"
        self.watcher.execute("DELETE FROM changes")

    @invariant()
    def a_final_status_has_its_time_and_a_live_one_has_none(self) -> None:
        for row in self.rows.values():
            assert (row.status in FINAL) == (row.finished_at is not None)
            assert row.attempt >= row.crashes >= 0

    def teardown(self) -> None:
        with closing(self.watcher):
            for pragma, clean in (("integrity_check", [("ok",)]), ("foreign_key_check", [])):
                assert [tuple(row) for row in self.watcher.execute(f"PRAGMA {pragma}")] == clean
            for status in Status:
                by_index = f"SELECT count(*) FROM jobs WHERE status = '{status}'"
                if status in FINAL:
                    by_index += " AND finished_at IS NOT NULL"
                by_scan = f"SELECT count(*) FROM jobs NOT INDEXED WHERE +status = '{status}'"
                assert self._counted(by_index) == self._counted(by_scan)
            kept = "SELECT queue, status, number FROM job_counts WHERE number <> 0 ORDER BY 1, 2"
            scanned = "SELECT queue, status, count(*) FROM jobs NOT INDEXED WHERE finished_at IS NOT NULL GROUP BY 1, 2"
            assert self._counted(kept) == self._counted(f"{scanned} ORDER BY 1, 2")
        self.store.close()
        shutil.rmtree(self.directory)

    def _counted(self, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.watcher.execute(query)]


BRIEF = settings(max_examples=50, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))


def test_the_rows_are_what_the_model_says() -> None:
    run_state_machine_as_test(Jobs, settings=BRIEF)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_rows_are_what_the_model_says_for_long() -> None:
    run_state_machine_as_test(Jobs, settings=settings(BRIEF, max_examples=400, stateful_step_count=60))


# A checker that cannot fail proves nothing: one with a planted bug in the store


def a_stale_ending() -> None:
    """Run the machine by hand: a job is given back, claimed by another, and then the first worker ends it."""
    machine = Jobs()
    try:
        machine.enqueue(delay=0, key=None, queue="q1", priority=0, most=3)
        (job,) = machine.store.claims.turn([], ClaimRequest(1, (), 1, LEASE)).claimed
        machine.store.claims.release([job])
        machine.rows[job.id].claim_token = 1
        machine.claim(worker=2, most=1, queues=(), is_idle=False)
        machine.settle(job=job, outcome=Succeeded("1"), worker=1)
        machine.the_rows_are_the_models()
        machine.every_change_was_legal()
    finally:
        machine.teardown()


def test_a_stale_ending_changes_nothing() -> None:
    a_stale_ending()


def test_the_machine_finds_an_ending_that_ignores_the_claim_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bug that most queues have: an ending is written whoever has the job by now."""
    right = endings.succeed_statement

    def wrong(count: int) -> str:
        statement = right(count).replace("AND jobs.claim_token = ended.column2", "")
        assert statement != right(count)
        return statement

    monkeypatch.setattr(endings, "succeed_statement", wrong)
    with pytest.raises(AssertionError):
        a_stale_ending()
