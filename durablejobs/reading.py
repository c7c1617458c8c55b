"""The read verbs, for the command line, the app and whoever looks at jobs. Never imports user code."""

from __future__ import annotations

import time
from typing import Any, Final

from .config import checked_integer, parsed_job_id
from .errors import DatabaseError, JobCancelledError, JobFailedError, JobNotFoundError, WaitTimeoutError
from .jobs import Job, JobError, JobFilter, QueueStatistics, WorkerRecord
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
        job = self._store.get(number) if number is not None else None
        if job is None:
            raise JobNotFoundError(job_id)
        return _with_source(job, self)

    def get_with_errors(self, job_id: int) -> tuple[Job, list[JobError]]:
        """Return one job and its attempts that did not succeed. Raises `JobNotFoundError`."""
        number = parsed_job_id(job_id)
        job, errors = self._store.get_with_errors(number) if number is not None else (None, [])
        if job is None:
            raise JobNotFoundError(job_id)
        return _with_source(job, self), errors

    def list_jobs(self, wanted: JobFilter | None = None, limit: int = 50, before: int | None = None) -> list[Job]:
        """Return jobs that match, newest (highest id) first, with ids below `before`."""
        checked_integer(limit, "limit", 1, 100_000)
        if before is not None:
            checked_integer(before, "before", 0, 2**63 - 1)
        found = self._store.list_jobs(wanted or JobFilter(), limit, before)
        return [_with_source(job, self) for job in found]

    def statistics(self, minutes: float = 5.0) -> list[QueueStatistics]:
        """Return counts by queue and status, and endings per minute over the last minutes."""
        return self._store.statistics(minutes)

    def workers(self) -> list[WorkerRecord]:
        """Return the registered workers."""
        return self._store.workers()

    def worker_states(self) -> dict[int, str]:
        """Return which workers are `alive` or `dead`; one that this machine cannot tell of is missing.

        The kernel knows who sits on a seat; no clock is asked.
        """
        try:
            presence = self._store.presence()
        except DatabaseError:  # no right to the file beside the database
            presence = None
        if presence is None:
            return {}
        return {
            vital.id: "alive" if presence.is_taken(vital.seat) else "dead"
            for vital in self._store.vitals()
            if vital.seat is not None and presence.sitter(vital.seat) == vital.id
        }

    def wait(self, job_id: int, timeout: float | None) -> Any:
        """Return a job's result once it has ended; see `Job.wait`."""
        job = self.wait_for_end(job_id, timeout)
        if job.status is Status.FAILED:
            raise JobFailedError(job.id, job.error)
        if job.status is Status.CANCELLED:
            raise JobCancelledError(job.id, job.error)
        return job.result

    def wait_for_end(self, job_id: int, timeout: float | None) -> Job:
        """Return the job once it has ended, however. Raises `WaitTimeoutError`."""
        give_up = None if timeout is None else time.monotonic() + timeout
        watch = self._store.watch_endings()
        try:
            while not (job := self.get(job_id)).is_final:
                while not watch.changed():
                    if give_up is not None and time.monotonic() >= give_up:
                        raise WaitTimeoutError(job.id, timeout or 0.0, job.status)
                    time.sleep(LOOK_EVERY)
            return job
        finally:
            watch.close()


def _with_source(job: Job, reader: Reader) -> Job:
    object.__setattr__(job, "source", reader)  # filled in by the reader, as a constructor would
    return job
