"""Whatever happens to jobs, and in whatever order: legal changes only, and never two endings."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from durablejobs import DurableJobsError, Retention
from durablejobs.clock import to_text
from durablejobs.jobs import ClaimedJob, NewJob
from durablejobs.maintenance import finished_before
from durablejobs.outcomes import Errored, Failure, GaveUp, Outcome, Snoozed, Stopped, Succeeded
from durablejobs.statuses import FINAL, LEGAL_CHANGES, Status
from durablejobs.store import Store
from durablejobs.store.endings import Ending
from durablejobs.store.store import ClaimRequest
from durablejobs.store.workers import Vital
from tests.clocks import ManualClock

FAILURE = Failure("exception", "no")
OUTCOMES: list[Outcome] = [
    Succeeded("1"),
    Errored(FAILURE, 0.0),
    Errored(FAILURE, 30.0),
    GaveUp(FAILURE),
    Snoozed(10.0),
    Stopped(Failure("cancel", "moot")),
]
WORKERS = st.sampled_from([1, 2])


class Jobs(RuleBasedStateMachine):
    """Two workers, a person and time, acting on one file."""

    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.clock = ManualClock()
        self.store = Store(self.directory / "jobs.db", clock=self.clock)
        self.store.open()
        self.watcher = sqlite3.connect(self.directory / "jobs.db")
        self.seen: dict[int, tuple[Status, int]] = {}
        self.owner: dict[int, tuple[int, int]] = {}
        """The worker and token that each running job is claimed by: the model."""

    @rule(delay=st.sampled_from([0, 20]), key=st.sampled_from([None, None, "a", "b"]), most=st.integers(1, 3))
    def enqueue(self, delay: int, key: str | None, most: int) -> None:
        now = self.clock.now()
        status = "scheduled" if delay else "pending"
        run_at = to_text(ManualClock(now).advance(delay))
        self.store.insert(NewJob("mail", "default", "[]", "{}", status, 0, run_at, most, key, None, "{}", to_text(now)))

    @rule(target=claims, worker=WORKERS)
    def claim(self, worker: int) -> ClaimedJob | None:
        claimed = self.store.turn([], ClaimRequest(worker, (), 1, 30.0)).claimed
        for job in claimed:
            assert job.id not in self.owner, "claimed twice"
            assert job.run_at <= to_text(self.clock.now()), "claimed before it was due"
            self.owner[job.id] = (worker, job.claim_token)
        return claimed[0] if claimed else None

    @rule(job=consumes(claims), outcome=st.sampled_from(OUTCOMES), worker=WORKERS)
    def settle(self, job: ClaimedJob | None, outcome: Outcome, worker: int) -> None:
        """By whoever holds the token; a stale one must change nothing."""
        if job is None:
            return
        is_owner = self.owner.get(job.id, (0, 0))[1] == job.claim_token
        now = to_text(self.clock.now())
        lost = self.store.settle(worker, [Ending(job, outcome, now, now)]).lost
        assert bool(lost) != is_owner
        if is_owner:
            del self.owner[job.id]

    @rule(worker=WORKERS, knows=st.booleans(), most=st.integers(1, 3))
    def crash(self, worker: int, knows: bool, most: int) -> None:
        """A worker dies; those who rescue its jobs know what ran, or do not."""
        mine = {job_id for job_id, (owner, _) in self.owner.items() if owner == worker}
        vital = Vital(worker, "w", "h", 1, None, "")
        while self.store.rescue_worker(vital, True, mine if knows else None, most, "its worker died"):
            pass
        for job_id in mine:
            del self.owner[job_id]

    @rule(worker=WORKERS)
    def give_back(self, worker: int) -> None:
        self.store.release_unknown(worker, set())
        self.owner = {job_id: owner for job_id, owner in self.owner.items() if owner[0] != worker}

    @rule(act=st.sampled_from(["cancel", "retry", "delete"]), number=st.integers(1, 12))
    def act(self, act: str, number: int) -> None:
        try:
            getattr(self.store, act)(number)
        except DurableJobsError:
            return
        if act == "delete":
            self.seen.pop(number, None)

    @rule(kept=st.sampled_from([0.0, 60.0]))
    def prune(self, kept: float) -> None:
        while self.store.prune(finished_before(Retention(kept, kept, kept), self.clock.now())):
            pass

    @rule(seconds=st.sampled_from([1, 15, 100]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @invariant()
    def the_rows_are_lawful(self) -> None:
        query = "SELECT id, status, claim_token, worker_id, finished_at FROM jobs"
        rows = {row[0]: row[1:] for row in self.watcher.execute(query)}
        for job_id, (name, token, worker, finished_at) in rows.items():
            status = Status(name)
            assert (status in FINAL) == (finished_at is not None)
            assert (status is Status.RUNNING) == (job_id in self.owner)
            if status is Status.RUNNING:
                assert self.owner[job_id] == (worker, token)
            before, token_before = self.seen.get(job_id, (status, 0))
            assert token >= token_before
            assert status is before or self._is_reachable(before, status), f"{before} to {status}"
            self.seen[job_id] = (status, token)
        self.seen = {job_id: seen for job_id, seen in self.seen.items() if job_id in rows}

    @staticmethod
    def _is_reachable(before: Status, after: Status) -> bool:
        """One turn may promote and claim: two changes between two looks."""
        return after in LEGAL_CHANGES[before] or any(after in LEGAL_CHANGES[each] for each in LEGAL_CHANGES[before])

    def teardown(self) -> None:
        with closing(self.watcher):
            assert self.watcher.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert self.watcher.execute("PRAGMA foreign_key_check").fetchall() == []
            counted = "SELECT queue, status, number FROM job_counts WHERE number > 0 ORDER BY 1, 2"
            scanned = (
                "SELECT queue, status, count(*) FROM jobs WHERE +finished_at IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2"
            )
            assert self.watcher.execute(counted).fetchall() == self.watcher.execute(scanned).fetchall()
        self.store.close()
        shutil.rmtree(self.directory)


TestJobs = Jobs.TestCase
TestJobs.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
