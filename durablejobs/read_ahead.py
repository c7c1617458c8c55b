"""How many jobs a worker claims beyond those it can start at once.

Claiming one by one costs a commit per job. Claiming too many hoards jobs that another worker could run now. So the
read-ahead is measured: as many jobs as the slots get through in a short time, none when jobs are slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .clock import from_text
from .store.endings import Ending

WORK_AHEAD: Final = 0.03
"""Seconds of work that may be claimed ahead."""
MOST_AHEAD: Final = 2000
"""Jobs that may be claimed ahead. What a batch costs whatever its size is shared by more, above all where the jobs
stand in many queues: 500 to 2,000 took no-op jobs of one queue from 41 to 38 µs each, of fifty from 49 to 39, and on
PostgreSQL from 104 to 73."""
_MEMORY: Final = 0.5
"""Weight of the latest batch in the running average."""


class ReadAhead:
    """The running average of what a job takes, and what follows from it."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._average: float | None = None

    def learn(self, finished: Sequence[Ending]) -> None:
        """Take the durations of finished runs into account."""
        if not finished:
            return
        # First and last run of a batch, not each: telling the time apart costs as much as running a small job.
        sample = finished[:: max(1, len(finished) // 8)]
        took = [(from_text(each.ended_at) - from_text(each.started_at)).total_seconds() for each in sample]
        latest = max(sum(took) / len(took), 0.0)
        self._average = latest if self._average is None else _MEMORY * latest + (1 - _MEMORY) * self._average

    def forget(self) -> None:
        """Start again from nothing: what was claimed ahead turned out to wait."""
        self._average = None

    @property
    def jobs(self) -> int:
        """How many jobs to claim ahead now."""
        if self._average is None:
            return 0
        ahead = self._concurrency * WORK_AHEAD / max(self._average, 1e-6)
        return min(int(ahead), MOST_AHEAD) if ahead >= 2 * self._concurrency else 0
