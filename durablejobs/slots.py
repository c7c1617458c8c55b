"""The threads of a worker that run jobs, several at once: by themselves, or each with a child process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence, Set
from queue import Empty, SimpleQueue
from typing import Final, Protocol

from .clock import Clock
from .executor import CANCELLED
from .failures import safe_text, safe_traceback
from .jobs import ClaimedJob
from .lane import Ledger, Mark, Wake
from .outcomes import Errored, Failure, Outcome
from .store.endings import Ending

log = logging.getLogger("durablejobs.worker")

_AFTER_ACCIDENT: Final = 10.0
"""Seconds until a job is tried again that something of our own has kept from running."""


class Runner(Protocol):
    """Runs the jobs of one slot, one after another, in its thread."""

    def run(self, job: ClaimedJob) -> Outcome | None:
        """Run a job to its end; None: it could not be begun."""
        ...

    def tidy_up(self, job: ClaimedJob) -> None:
        """Do after the run of this job, whose ending has been left, what may take its time."""
        ...

    def cancel(self, job_id: int) -> None:
        """Make the job stop, if it is the one that runs; called from another thread."""
        ...

    def stop(self) -> None:
        """Give up what runs, where that is possible; called from another thread."""
        ...

    def close(self) -> None:
        """Clean up after the last job."""
        ...


class ThreadSlots(Ledger):
    """A fixed number of threads, each with its runner, that take claimed jobs in their order and leave endings.

    `wake` is called after each run. The threads are daemons: one that never returns cannot keep the process alive.
    Jobs whose ids are in `cancellations` when their turn comes are not begun. `patience` is how long `stop` waits.
    """

    def __init__(
        self,
        runners: Sequence[Runner],
        mark: Mark,
        clock: Clock,
        wake: Wake,
        cancellations: Set[int] = frozenset(),
        patience: float = 0.0,
    ) -> None:
        super().__init__()
        self.count: Final = len(runners)
        self._runners = runners
        self._mark = mark
        self._clock = clock
        self._wake = wake
        self._cancellations = cancellations
        self._patience = patience
        self._ready: SimpleQueue[ClaimedJob | None] = SimpleQueue()
        self._running: list[ClaimedJob | None] = [None] * self.count
        self._is_stopped = False
        self.last_submit = clock.monotonic()
        """When a thread was last given a job, by the monotonic clock."""
        self._threads = [
            threading.Thread(target=self._serve, args=(slot,), name=f"durablejobs-slot-{slot}", daemon=True)
            for slot in range(self.count)
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
    def waiting(self) -> int:
        """Jobs that no thread has begun."""
        return self._ready.qsize()

    def running(self) -> list[ClaimedJob]:
        """Return the jobs that run at this moment."""
        return [job for job in self._running if job is not None]

    def cancel(self, job_ids: Set[int]) -> None:
        """Make those that run stop."""
        for job, runner in zip(self._running, self._runners, strict=True):
            if job is not None and job.id in job_ids:
                runner.cancel(job.id)

    def stop(self) -> None:
        """Let each thread end after the job it runs; what can be stopped is stopped."""
        if self._is_stopped:
            return
        self._is_stopped = True
        for runner in self._runners:
            self._ready.put(None)
            runner.stop()
        until = time.monotonic() + self._patience
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))

    def _serve(self, slot: int) -> None:
        run, mark, now_text = self._runners[slot].run, self._mark, self._clock.now_text
        while (job := self._ready.get()) is not None:
            self._running[slot] = job
            mark(slot, job.id)
            started_at = now_text()
            outcome = self._outcome(run, job)
            ended_at = now_text()
            if started_at > ended_at:  # somebody has set the clock back meanwhile
                started_at = ended_at
            mark(slot, 0)
            self._running[slot] = None
            if outcome is not None:
                self._finished.append(Ending(job, outcome, started_at, ended_at))
            else:
                self._ready.put(job)
            self._wake()
            if outcome is None:
                break
            self._runners[slot].tidy_up(job)
        self._runners[slot].close()

    def _outcome(self, run: Callable[[ClaimedJob], Outcome | None], job: ClaimedJob) -> Outcome | None:
        if job.id in self._cancellations:
            return CANCELLED
        try:
            return run(job)
        except BaseException as error:
            log.exception("job %d (%s) could not be run", job.id, job.handler)
            return Errored(Failure("exception", safe_text(error), safe_traceback(error)), _AFTER_ACCIDENT)
