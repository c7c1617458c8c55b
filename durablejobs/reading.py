"""The read verbs, for the command line, the app and whoever looks at jobs. Never imports user code."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import Any, Final

from .config import checked_integer, checked_number, checked_wait, parsed_job_id
from .errors import DatabaseError, JobCancelledError, JobFailedError, JobNotFoundError, WaitTimeoutError
from .jobs import Job
from .records import JobError, JobFilter, LimitState, LogLine, QueueState, QueueStatistics, WorkerRecord
from .statuses import Status
from .store import Store

LOOK_EVERY: Final = 0.01
"""Seconds between two looks of a waiting reader for new commits."""


class Reader:
    """Reads the jobs of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, job_id: int) -> Job:
        """Return one job. Raises `JobNotFoundError`."""
        number = parsed_job_id(job_id)
        job = self._store.reads.get(number) if number is not None else None
        if job is None:
            raise JobNotFoundError(job_id)
        return _with_source(job, self)

    def get_with_errors(self, job_id: int) -> tuple[Job, list[JobError]]:
        """Return one job and its attempts that did not succeed. Raises `JobNotFoundError`."""
        number = parsed_job_id(job_id)
        job, errors = self._store.reads.get_with_errors(number) if number is not None else (None, [])
        if job is None:
            raise JobNotFoundError(job_id)
        return _with_source(job, self), errors

    def list_jobs(self, wanted: JobFilter | None = None, limit: int = 50, before: int | None = None) -> list[Job]:
        """Return jobs that match, newest (highest id) first, with ids below `before`."""
        checked_integer(limit, "limit", 1, 100_000)
        if before is not None:
            checked_integer(before, "before", 0, 2**63 - 1)
        found = self._store.reads.list_jobs(wanted or JobFilter(), limit, before)
        return [_with_source(job, self) for job in found]

    def shown(self, jobs: Iterable[Job]) -> list[Job]:
        """Return jobs as they may be shown: without the arguments that their handlers redact."""
        redactions = self._store.handlers.redactions()

        def show(job: Job) -> Job:
            redaction = redactions.get(job.handler)
            if redaction is None:
                return job
            args, kwargs = redaction.applied(job.args, job.kwargs)
            return replace(job, args=args, kwargs=kwargs)

        return [show(job) for job in jobs]

    def statistics(self, minutes: float = 5.0) -> list[QueueStatistics]:
        """Return counts by queue and status, and endings per minute over the last minutes: 0.1 to 100,000."""
        checked_number(minutes, "minutes", 0.1, 100_000)
        return self._store.reads.statistics(minutes)

    def queues(self) -> list[QueueState]:
        """Return each queue that is paused or limited or has jobs that have not ended."""
        return self._store.reads.queues()

    def limit_state(self, job: Job) -> LimitState | None:
        """Return the places of `max_running` that a job shares with others; None: it is not limited."""
        return self._store.reads.limit_state(job)

    def workers(self) -> list[WorkerRecord]:
        """Return the registered workers."""
        return self._store.workers.records()

    def worker_states(self) -> dict[int, str]:
        """Return which workers are `alive` or `dead`; one that this machine cannot tell of is missing.

        The kernel knows who sits on a seat; no clock is asked.
        """
        with ExitStack() as lending:
            try:
                presence = lending.enter_context(self._store.workers.presence())
            except DatabaseError:  # no right to the file beside the database
                return {}
            if presence is None:
                return {}
            return {
                vital.id: "alive" if presence.is_taken(vital.seat) else "dead"
                for vital in self._store.workers.vitals()
                if vital.seat is not None and presence.sitter(vital.seat) == vital.id
            }

    def log_of(self, job_id: int) -> list[LogLine]:
        """Return the kept log of a job, oldest line first. Raises `JobNotFoundError`."""
        return self._store.reads.log_of(self.get(job_id).id)

    # Waiting

    def wait(self, job_id: int, timeout: float | None) -> Any:
        """Return a job's result once it has ended; see `Job.wait`."""
        return _result(self.wait_for_end(job_id, timeout))

    async def await_result(self, job_id: int, timeout: float | None) -> Any:
        """The same on an event loop, which it does not block."""
        with closing(self._looks(job_id, timeout)) as looks:
            while (job := next(looks)) is None or not job.is_final:
                if job is None:
                    await asyncio.sleep(LOOK_EVERY)
            return _result(job)

    def wait_for_end(self, job_id: int, timeout: float | None, on_look: Callable[[Job], None] | None = None) -> Job:
        """Return the job once it has ended, however; `on_look` gets it each time it may have changed.

        Raises `WaitTimeoutError`.
        """
        with closing(self._looks(job_id, timeout)) as looks:
            while (job := next(looks)) is None or not job.is_final:
                if job is None:
                    time.sleep(LOOK_EVERY)
                elif on_look is not None:
                    on_look(job)
            return job

    def _looks(self, job_id: int, timeout: float | None) -> Generator[Job | None, None, None]:
        """Yield the job each time it may have changed, at last as it has ended; None: pause, then go on."""
        give_up = None if timeout is None else time.monotonic() + checked_wait(timeout)
        with closing(self._store.watch_endings()) as watch:
            while True:
                job = self.get(job_id)
                yield job
                if job.is_final:
                    return
                while True:
                    if give_up is not None and time.monotonic() >= give_up:
                        raise WaitTimeoutError(job.id, timeout or 0.0, job.status)
                    yield None  # also where others commit all the time
                    if watch.changed():
                        break

    @contextmanager
    def changes(self) -> Iterator[Callable[[float], None]]:
        """Yield a function that returns when somebody else has committed, or after so many seconds."""
        with closing(self._store.watch_endings()) as watch:

            def wait(seconds: float) -> None:
                until = time.monotonic() + seconds
                while not watch.changed() and time.monotonic() < until:
                    time.sleep(LOOK_EVERY)

            yield wait


def _result(job: Job) -> Any:
    """Return what a job that has ended has returned, or raise what has happened to it."""
    if job.status is Status.FAILED:
        raise JobFailedError(job.id, job.error)
    if job.status is Status.CANCELLED:
        raise JobCancelledError(job.id, job.error)
    return job.result


def _with_source(job: Job, reader: Reader) -> Job:
    object.__setattr__(job, "source", reader)  # filled in by the reader, as a constructor would
    return job
