"""People cancel, retry, delete and prune while workers run: one wins, the other is told, and every change is legal.

A state machine of hypothesis acts on the public face; two workers run in threads meanwhile. A trigger writes down each
change of a status, whoever makes it.
"""

from __future__ import annotations

import sqlite3
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, multiple, rule, run_state_machine_as_test

from durablejobs import (
    Backoff,
    Cancel,
    DuplicateJobError,
    DurableJobs,
    Fail,
    IllegalActError,
    JobDefaults,
    JobFilter,
    JobNotFoundError,
    Snooze,
    Status,
    current_job,
)
from durablejobs.statuses import FINAL, LEGAL_CHANGES
from durablejobs.store import acts

from .promises import broken_promises

WATCH = """
CREATE TABLE changes(job INTEGER, before TEXT, after TEXT, at REAL DEFAULT (julianday('now')));
CREATE TRIGGER watch_changes AFTER UPDATE OF status ON jobs WHEN OLD.status <> NEW.status
BEGIN INSERT INTO changes(job, before, after) VALUES (NEW.id, OLD.status, NEW.status); END;
"""

HOW = st.sampled_from(["succeed", "succeed", "fail", "give up", "snooze", "cancel", "be slow"])


snoozed: set[tuple[str, int]] = set()
"""Jobs that have snoozed once, by database and id."""


def behave(how: str, path: str = "") -> str:
    """What a job may do."""
    job = (path, current_job().id)
    match how:
        case "fail":
            raise ValueError("as asked")
        case "give up":
            raise Fail("as asked")
        case "snooze" if job not in snoozed:
            snoozed.add(job)
            raise Snooze(0.01)
        case "cancel":
            raise Cancel("as asked")
        case "be slow":
            time.sleep(0.02)
    return how


class PeopleAndWorkers(RuleBasedStateMachine):
    """What people do, one act after another; the workers do not wait for them."""

    enqueued = Bundle("enqueued")

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self.path = Path(self._directory.name) / "jobs.db"
        defaults = JobDefaults(backoff=Backoff(base=0.01, cap=0.02), max_attempts=3)
        self.jobs = DurableJobs(self.path, defaults=defaults)
        self.jobs.handler("behave")(behave)
        self.jobs.open()
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executescript(WATCH)
        self.acts: Counter[tuple[str, int]] = Counter()
        self.deleted: set[int] = set()
        self._workers = [self.jobs.worker(concurrency=2, interval=0.05) for _ in range(2)]
        self._threads = [threading.Thread(target=worker.run) for worker in self._workers]
        for thread in self._threads:
            thread.start()

    @rule(target=enqueued, how=HOW, delay=st.sampled_from([0, 0, 0.02]), priority=st.integers(-1, 1))
    def enqueue(self, how: str, delay: float, priority: int) -> int:
        return self.jobs.using(delay=delay, priority=priority).enqueue("behave", how, str(self.path)).id

    @rule(target=enqueued, hows=st.lists(HOW, max_size=8))
    def enqueue_many(self, hows: list[str]) -> object:
        before = {job.id for job in self.jobs.list_jobs(limit=10_000)}
        assert self.jobs.enqueue_many("behave", [(how, str(self.path)) for how in hows]).count == len(hows)
        return multiple(*({job.id for job in self.jobs.list_jobs(limit=10_000)} - before))

    @rule(target=enqueued, key=st.sampled_from("ab"))
    def enqueue_unique(self, key: str) -> int:
        return self.jobs.using(unique_key=key).enqueue("behave", "be slow").id

    @rule(job_id=enqueued)
    def cancel(self, job_id: int) -> None:
        self._act("cancel", job_id)

    @rule(job_id=enqueued)
    def retry(self, job_id: int) -> None:
        self._act("retry", job_id)

    @rule(job_id=enqueued)
    def delete(self, job_id: int) -> None:
        self._act("delete", job_id)

    def _act(self, act: str, job_id: int) -> None:
        """Do it; what it says must be so."""
        try:
            job = getattr(self.jobs, act)(job_id)
        except JobNotFoundError:
            assert job_id in self.deleted
            return
        except IllegalActError:
            return
        except DuplicateJobError:
            assert act == "retry"
            return
        self.acts[act, job_id] += 1
        if act == "delete":
            self.deleted.add(job_id)
        elif act == "cancel":
            assert job.status in (Status.CANCELLED, Status.RUNNING)
        else:
            assert job.status is Status.PENDING

    @rule()
    def look(self) -> None:
        for job in self.jobs.list_jobs(limit=1000):
            assert job.is_final == (job.finished_at is not None)
        assert sum(self.jobs.statistics()[0].counts.values()) >= 0 if self.jobs.statistics() else True

    @rule()
    def prune(self) -> None:
        """As `durablejobs prune --status cancelled --older-than 0` does."""
        known = {job.id for job in self.jobs.list_jobs(limit=10_000)}
        now = self.jobs.list_jobs(JobFilter(statuses=(Status.CANCELLED,)), limit=1000)
        if now:
            before = max(job.finished_at for job in now if job.finished_at) + timedelta(microseconds=1)
            self.jobs._store.upkeep.prune({Status.CANCELLED: before})
            # Among them may be one that had ended before that moment, and whose ending was committed only now.
            gone = known - {job.id for job in self.jobs.list_jobs(limit=10_000)}
            assert {self._last_status(job_id) for job_id in gone} <= {"cancelled"}
            self.deleted |= gone

    def _last_status(self, job_id: int) -> str:
        with closing(sqlite3.connect(self.path)) as connection:
            last = "SELECT after FROM changes WHERE job = ? ORDER BY rowid DESC LIMIT 1"
            return str(connection.execute(last, [job_id]).fetchone()[0])

    def teardown(self) -> None:
        """Let the workers finish, and look at everything that has happened."""
        with self._directory:
            try:
                give_up = time.monotonic() + 60
                while any(not job.is_final for job in self.jobs.list_jobs(limit=10_000)):
                    assert time.monotonic() < give_up, "a job never ended"
                    time.sleep(0.01)
            finally:
                for worker in self._workers:
                    worker.stop()
                for thread in self._threads:
                    thread.join()
                self.jobs.close()
            with closing(sqlite3.connect(self.path)) as connection:
                assert broken_promises(connection) == []
                self._check_changes(connection.execute("SELECT job, before, after FROM changes").fetchall())

    def _check_changes(self, changes: list[tuple[int, str, str]]) -> None:
        for _job, before, after in changes:
            assert Status(after) in LEGAL_CHANGES[Status(before)], (before, after)
        came_back = Counter(job for job, before, _ in changes if Status(before) in FINAL)
        for job, times in came_back.items():  # an end is an end, unless a person says otherwise
            assert times <= self.acts["retry", job]


PeopleAndWorkers.TestCase.settings = settings(max_examples=1)  # run below, with settings of their own


def race(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        PeopleAndWorkers,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            phases=[Phase.explicit, Phase.reuse, Phase.generate],  # what a race has found does not get smaller
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_people_and_workers_race_and_every_change_is_legal() -> None:
    race(examples=5, steps=20)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_people_and_workers_race_for_long() -> None:
    race(examples=60, steps=50)


def test_the_machine_finds_a_cancel_of_what_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(acts, "LIVE", frozenset(Status))
    machine = PeopleAndWorkers()
    job_id = machine.enqueue("succeed", 0, 0)
    machine.jobs.get(job_id).wait(timeout=30)
    machine.cancel(job_id)
    with pytest.raises(AssertionError):
        machine.teardown()
