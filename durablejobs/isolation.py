"""Jobs that have nearly crashed too often run alone.

Alone, the next crash is blamed on nobody else, and nobody else is harmed by it. A job that runs in a child process is
contained: when its child dies, nobody doubts who did it. It has to be alone only when it has come to `max_crashes` all
the same, because it ran beside others when whole workers died.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from .jobs import ClaimedJob


class Isolation:
    """Holds suspects back until the slots are empty, then lets one through at a time."""

    def __init__(self, max_crashes: int, is_contained: Callable[[ClaimedJob], bool] = lambda _job: False) -> None:
        self._max_crashes = max_crashes
        self._limit = max(1, max_crashes - 1)
        self._is_contained = is_contained
        self._waiting: deque[ClaimedJob] = deque()
        self._running: ClaimedJob | None = None

    @property
    def is_active(self) -> bool:
        """Whether a suspect waits or runs, so that nothing else may be started."""
        return bool(self._waiting) or self._running is not None

    def hold_back(self, claimed: list[ClaimedJob]) -> list[ClaimedJob]:
        """Keep the suspects; return the others."""
        suspects = [job for job in claimed if self._is_suspect(job)]
        if not suspects:
            return claimed
        self._waiting.extend(suspects)
        return [job for job in claimed if not self._is_suspect(job)]

    def _is_suspect(self, job: ClaimedJob) -> bool:
        if job.crashes < self._limit:
            return False
        return job.crashes >= self._max_crashes or not self._is_contained(job)

    def next_alone(self) -> list[ClaimedJob]:
        """Return the suspect that may run now that nothing else does; empty: none."""
        if not self._waiting:
            return []
        self._running = self._waiting.popleft()
        return [self._running]

    def ended(self, job_ids: Iterable[int]) -> None:
        """Note which jobs have ended."""
        if self._running is not None and self._running.id in job_ids:
            self._running = None

    def take_waiting(self) -> list[ClaimedJob]:
        """Take back the suspects that have not begun."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting
