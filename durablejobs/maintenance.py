"""What workers do for each other and for the file: rescue the jobs of the dead, prune old ones."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from .clock import Clock
from .config import Retention
from .statuses import Status
from .store import Store
from .store.rescues import Rescued
from .store.workers import Vital

log = logging.getLogger("durablejobs.worker")

_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)


class Rescuer:
    """Finds dead and hung workers and gives their jobs back.

    A worker is dead when the kernel has dropped the lock on its seat: known at once, and never mistaken. It is hung
    when its heartbeat has not changed for the length of a lease *by this observer's monotonic clock*: neither a jump
    of the wall clock nor a wrong one on the other side makes a living worker look hung. Nor does what keeps all of them
    from writing, or stops them all: silence counts only while the observer itself gives its signs of life in time.
    """

    def __init__(
        self,
        store: Store,
        worker_id: int,
        lease: float,
        max_crashes: int,
        clock: Clock,
        steady_since: Callable[[], float],
    ) -> None:
        """`steady_since` says since when that is so, by the monotonic clock."""
        self._store = store
        self._worker_id = worker_id
        self._lease = lease
        self._max_crashes = max_crashes
        self._clock = clock
        self._steady_since = steady_since
        self._seen: dict[int, tuple[str, float]] = {}
        self._claimed: dict[int, frozenset[int]] = {}
        """What a worker had claimed when it was found to be gone, as long as not all of that is given back."""

    def run(self) -> list[Rescued]:
        """Look at all workers once; return what was rescued."""
        rescued: list[Rescued] = []
        vitals = [vital for vital in self._store.workers.vitals() if vital.id != self._worker_id]
        for vital in vitals:
            if self._is_dead(vital):
                rescued += self._rescue(vital, True, "its worker died")
            elif self._is_hung(vital):
                rescued += self._rescue(vital, False, f"its worker gave no sign of life for {self._lease:g} s")
        self._seen = {vital.id: self._seen[vital.id] for vital in vitals if vital.id in self._seen}
        self._claimed = {vital.id: self._claimed[vital.id] for vital in vitals if vital.id in self._claimed}
        while batch := self._store.upkeep.rescue_strays(self._max_crashes, "its worker vanished"):
            rescued += batch
        return rescued

    def _is_dead(self, vital: Vital) -> bool:
        with self._store.workers.presence() as presence:
            return presence is not None and vital.seat is not None and presence.was_left_by(vital.seat, vital.id)

    def _is_hung(self, vital: Vital) -> bool:
        now = self._clock.monotonic()
        heartbeat, since = self._seen.get(vital.id, ("", now))
        if heartbeat != vital.heartbeat_at:
            self._seen[vital.id] = (vital.heartbeat_at, now)
            self._claimed.pop(vital.id, None)
            return False
        return now - max(since, self._steady_since()) > self._lease

    def _running_jobs(self, vital: Vital) -> frozenset[int] | None:
        """Return what the worker has marked as running; None when nobody knows."""
        with self._store.workers.presence() as presence:
            if presence is None or vital.seat is None or presence.sitter(vital.seat) != vital.id:
                return None
            return presence.running_jobs(vital.seat)

    def _rescue(self, vital: Vital, is_dead: bool, cause: str) -> list[Rescued]:
        claimed = self._claimed.pop(vital.id, None) or self._store.upkeep.claimed_by(vital.id)
        started = self._running_jobs(vital)
        if started is None:  # each may have been running, and together with all others
            started = claimed
        rescued: list[Rescued] = []
        while batch := self._store.upkeep.rescue_worker(vital, is_dead, started, self._max_crashes, cause):
            rescued += batch
        if not rescued and not is_dead and vital not in self._store.workers.vitals():
            return []  # it is not gone: it has given a sign of life meanwhile
        is_done = not claimed & self._store.upkeep.claimed_by(vital.id)
        if is_done:
            self._seen[vital.id] = (vital.heartbeat_at, math.inf)  # unless it beats again
        else:  # in PostgreSQL its own session may keep some locked until the server ends it: look again after a lease
            self._seen[vital.id] = (vital.heartbeat_at, self._clock.monotonic())
            self._claimed[vital.id] = claimed
        if rescued or is_done:
            log.warning(
                "worker %s (pid %d on %s) is gone: %d of its jobs go on, %d of them were running",
                vital.name,
                vital.pid,
                vital.host,
                sum(each.status is Status.PENDING for each in rescued),
                sum(each.crashed for each in rescued),
            )
        return rescued


def finished_before(retention: Retention, now: datetime) -> dict[Status, datetime]:
    """Return for each final status the moment before which an ended job is old; kept for ever: no entry."""
    kept = {
        Status.SUCCEEDED: retention.succeeded,
        Status.CANCELLED: retention.cancelled,
        Status.FAILED: retention.failed,
    }
    return {
        status: now - timedelta(seconds=seconds) if seconds < (now - _EARLIEST).total_seconds() else _EARLIEST
        for status, seconds in kept.items()
        if math.isfinite(seconds)
    }


FOLD_EVERY: Final = 10.0
"""Seconds between two times that a worker adds up the parts of the counts."""


class Pruner:
    """Deletes old finished jobs, one small batch at a time, so that no claim waits long for the write lock.

    Adds up the parts of the counts of ended jobs too.
    """

    def __init__(self, store: Store, retention: Retention, interval: float, clock: Clock) -> None:
        self._store = store
        self._retention = retention
        self._interval = interval
        self._clock = clock
        self._next_look = self._next_fold = clock.monotonic()

    def run(self) -> int:
        """Delete one batch if it is time; return how many jobs. More to do is done in the next call."""
        if self._clock.monotonic() >= self._next_fold:
            self._next_fold = self._clock.monotonic() + FOLD_EVERY
            self._store.upkeep.fold_counts()
        if self._clock.monotonic() < self._next_look:
            return 0
        pruned = self._store.upkeep.prune(finished_before(self._retention, self._clock.now()))
        if not pruned:
            self._next_look = self._clock.monotonic() + self._interval
        return pruned
