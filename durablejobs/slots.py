"""The threads of a worker that run jobs, several at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Protocol

from .clock import Clock
from .jobs import ClaimedJob
from .outcomes import Outcome
from .store.endings import Ending


class Marks(Protocol):
    """Where the slots note what they run, for those who come after a crash."""

    def mark(self, slot: int, job_id: int) -> None: ...


class ThreadSlots:
    """A fixed number of threads that take claimed jobs in their order and leave endings.

    `wake` is called after each run. The threads are daemons: one that never returns cannot keep the process alive.
    """

    def __init__(
        self,
        count: int,
        run: Callable[[ClaimedJob], Outcome],
        marks: Marks | None,
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        self.count = count
        self._run = run
        self._marks = marks
        self._clock = clock
        self._wake = wake
        self._ready: SimpleQueue[ClaimedJob | None] = SimpleQueue()
        self._running: list[ClaimedJob | None] = [None] * count
        self._finished: deque[Ending] = deque()
        self._unfinished = 0
        self.last_submit = clock.monotonic()
        """When a thread last began a job, or was given one, by the monotonic clock."""
        self._threads = [
            threading.Thread(target=self._serve, args=(slot,), name=f"durablejobs-slot-{slot}", daemon=True)
            for slot in range(count)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def submit(self, claimed: Sequence[ClaimedJob]) -> None:
        """Hand over jobs to run."""
        if claimed:
            self.last_submit = self._clock.monotonic()
        for job in claimed:
            self._unfinished += 1
            self._ready.put(job)

    def take_finished(self) -> list[Ending]:
        """Return the endings that nobody has taken yet."""
        finished = [self._finished.popleft() for _ in range(len(self._finished))]
        self._unfinished -= len(finished)
        return finished

    def take_unstarted(self) -> list[ClaimedJob]:
        """Take back the jobs that no thread has begun."""
        unstarted: list[ClaimedJob] = []
        while True:
            try:
                job = self._ready.get_nowait()
            except Empty:
                self._unfinished -= len(unstarted)
                return unstarted
            if job is not None:
                unstarted.append(job)

    @property
    def unfinished(self) -> int:
        """Jobs handed over whose endings nobody has taken."""
        return self._unfinished

    @property
    def waiting(self) -> int:
        """Jobs that no thread has begun."""
        return self._ready.qsize()

    @property
    def in_flight(self) -> int:
        """Jobs that wait or run."""
        return self._unfinished - len(self._finished)

    def running(self) -> list[ClaimedJob]:
        """Return the jobs that run at this moment."""
        return [job for job in self._running if job is not None]

    def stop(self) -> None:
        """Let each thread end after the job it runs."""
        for _ in self._threads:
            self._ready.put(None)

    def _serve(self, slot: int) -> None:
        mark = self._marks.mark if self._marks is not None else _no_mark
        while (job := self._ready.get()) is not None:
            self._running[slot] = job
            mark(slot, job.id)
            started_at = self._clock.now_text()
            outcome = self._run(job)
            ended_at = self._clock.now_text()
            started_at = min(started_at, ended_at)  # somebody may have set the clock back meanwhile
            mark(slot, 0)
            self._running[slot] = None
            self._finished.append(Ending(job, outcome, started_at, ended_at))
            self._wake()


def _no_mark(slot: int, job_id: int) -> None:
    pass
