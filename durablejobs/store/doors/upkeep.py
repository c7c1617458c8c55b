"""What a worker does for all of them now and then: rescue the jobs of the dead, prune what is old."""

from __future__ import annotations

from collections.abc import Set
from datetime import datetime

from ...statuses import Status
from .. import acts, held_jobs, rescues, workers
from ..rescues import Rescued
from ..workers import Vital
from .door import Door


class Upkeep(Door):
    """What keeps the rows in order."""

    def rescue_worker(
        self, worker: Vital, is_dead: bool, started: Set[int] | None, max_crashes: int, cause: str
    ) -> list[Rescued]:
        """Give back a batch of a dead or hung worker's jobs; a dead one is removed after the last batch.

        The next batch is due as long as something comes back. Nothing does if a hung one has given a sign of life since
        it was looked at: it may have waited for the same write lock.
        """
        with self._write() as connection:
            if not is_dead and not workers.is_silent_since(connection, worker):
                return []
            orphans = rescues.orphans_of_worker(connection, worker.id)
            # In PostgreSQL another may be rescuing some at this moment: their worker stays registered till they are.
            if not orphans and is_dead and not held_jobs.claimed_by(connection, worker.id):
                workers.unregister(connection, worker.id)
            now = self._clock.now_text()
            return rescues.rescue(connection, orphans, started, max_crashes, now, cause)

    def claimed_by(self, worker_id: int) -> frozenset[int]:
        """Return the ids of the jobs that this worker has claimed."""
        with self._read() as connection:
            return frozenset(held_jobs.claimed_by(connection, worker_id))

    def rescue_strays(self, max_crashes: int, cause: str) -> list[Rescued]:
        """Give back a batch of running jobs whose lease has expired and whose worker is not even registered."""
        now = self._clock.now_text()
        with self._read() as connection:
            if not rescues.has_orphans_of_nobody(connection, now):
                return []
        with self._write() as connection:
            orphans = rescues.orphans_of_nobody(connection, now)
            return rescues.rescue(connection, orphans, None, max_crashes, now, cause)

    def prune(self, finished_before: dict[Status, datetime]) -> int:
        """Delete a batch of jobs that ended before their status's moment; return how many, 0 at the end."""
        if not finished_before:
            return 0
        with self._read() as connection:  # mostly nothing is old enough: then no writer has to wait
            if not acts.has_prunable(connection, finished_before):
                return 0
        with self._write() as connection:
            return acts.prune(connection, finished_before)

    def count_prunable(self, finished_before: dict[Status, datetime]) -> int:
        """Return how many jobs `prune` would delete in all."""
        with self._read() as connection:
            return acts.count_prunable(connection, finished_before)

    def fold_counts(self) -> None:
        """Add up the parts of the counts of ended jobs, where they are kept in parts."""
        self._open()
        self._database.fold_counts()
