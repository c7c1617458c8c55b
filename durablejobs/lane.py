"""A lane: one way in which a worker runs jobs. Threads, the event loop and child processes are such."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence, Set
from typing import Protocol

from .jobs import ClaimedJob
from .store.endings import Ending

Mark = Callable[[int, int], None]
"""Notes, for those who come after a crash, which job (0: none) a place of the lane runs."""
Wake = Callable[[], None]
"""Wakes the worker: a run has ended."""


class Lane(Protocol):
    """Takes claimed jobs in their order, and leaves endings."""

    @property
    def count(self) -> int:
        """Jobs that run at once."""
        ...

    @property
    def last_submit(self) -> float:
        """When it was last given a job, by the monotonic clock."""
        ...

    @property
    def unfinished(self) -> int:
        """Jobs handed over whose endings nobody has taken."""
        ...

    @property
    def waiting(self) -> int:
        """Jobs that have not begun."""
        ...

    @property
    def in_flight(self) -> int:
        """Jobs that wait or run."""
        ...

    def start(self) -> None:
        """Begin to take jobs."""
        ...

    def submit(self, claimed: Sequence[ClaimedJob]) -> None:
        """Hand over jobs to run."""
        ...

    def take_finished(self) -> list[Ending]:
        """Return the endings that nobody has taken yet."""
        ...

    def take_unstarted(self) -> list[ClaimedJob]:
        """Take back the jobs that have not begun."""
        ...

    def running(self) -> list[ClaimedJob]:
        """Return the jobs that run at this moment."""
        ...

    def cancel(self, job_ids: Set[int]) -> None:
        """Make those of these jobs stop that run here."""
        ...

    def look(self) -> None:
        """Report what keeps it from working; called twice a second."""
        ...

    def stop(self) -> None:
        """End, and give up what still runs, where that is possible."""
        ...


class Ledger:
    """What a lane was given, and what of it has ended."""

    def __init__(self) -> None:
        self._finished: deque[Ending] = deque()
        self._unfinished = 0

    def take_finished(self) -> list[Ending]:
        """Return the endings that nobody has taken yet."""
        finished = [self._finished.popleft() for _ in range(len(self._finished))]
        self._unfinished -= len(finished)
        return finished

    @property
    def unfinished(self) -> int:
        """Jobs handed over whose endings nobody has taken."""
        return self._unfinished

    @property
    def in_flight(self) -> int:
        """Jobs that wait or run."""
        return self._unfinished - len(self._finished)

    def look(self) -> None:
        """Nothing can hinder it."""
