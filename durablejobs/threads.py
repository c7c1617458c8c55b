"""Running jobs in the threads of the worker's own process."""

from __future__ import annotations

import threading
from functools import partial

from .executor import Executor
from .interrupts import Guard
from .jobs import ClaimedJob
from .outcomes import JobTimeout, Outcome
from .watchdog import Watchdog, place_of


class ThreadRunner:
    """Runs jobs in the thread that calls `run`.

    A timeout raises `JobTimeout` in the handler; a cancellation is up to the handler, which sees it in its job.
    """

    def __init__(self, executor: Executor, watchdog: Watchdog) -> None:
        self._executor = executor
        self._watchdog = watchdog
        self._guard = Guard()

    def run(self, job: ClaimedJob) -> Outcome:
        """Run a job to its end."""
        timeout = self._executor.timeout_of(job)
        if timeout is None:
            return self._executor.run(job)
        interrupt = partial(self._guard.interrupt, job, JobTimeout)
        self._watchdog.watch(job, timeout, interrupt, partial(place_of, threading.get_ident()))
        try:
            return self._executor.run(job, partial(self._guard.call, job))
        finally:
            self._watchdog.release(job)

    def tidy_up(self, job: ClaimedJob) -> None:
        """Nothing: a thread serves as many runs as come."""

    def cancel(self, job_id: int) -> None:
        """Nothing more: the handler looks for itself."""

    def stop(self) -> None:
        """Nothing: no thread can be made to end."""

    def close(self) -> None:
        """Nothing is left behind."""
