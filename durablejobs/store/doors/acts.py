"""What a person does: to a job, to many at once, to a queue."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import Connection

from ...errors import DuplicateJobError, IllegalActError, JobNotFoundError
from ...jobs import Job
from ...records import JobFilter
from .. import acts, freezing, queries, queue_rules
from .door import Door

_ELIGIBLE = {"cancel": acts.CANCELLABLE, "retry": acts.RETRYABLE, "delete": acts.DELETABLE}


class Acts(Door):
    """A person's acts."""

    def cancel(self, job_id: int) -> Job:
        """Cancel a live job, or ask for it where it runs. Raises `JobNotFoundError`, `IllegalActError`."""
        with self._write() as connection:
            done = acts.cancel(connection, [job_id], self._clock.now())
            return self._acted(connection, "cancel", job_id, bool(done))

    def retry(self, job_id: int) -> Job:
        """Make an ended or scheduled job pending. Raises `JobNotFoundError`, `IllegalActError`, `DuplicateJobError`."""
        with self._write() as connection:
            done = acts.retry(connection, [job_id], self._clock.now())
            return self._acted(connection, "retry", job_id, bool(done))

    def delete(self, job_id: int) -> None:
        """Delete a job that is not running. Raises `JobNotFoundError`, `IllegalActError`."""
        with self._write() as connection:
            if not acts.delete_jobs(connection, [job_id]):
                self._acted(connection, "delete", job_id, False)

    def _acted(self, connection: Connection, act: str, job_id: int, done: bool) -> Job:
        job = queries.job_by_id(connection, job_id)
        if job is None:
            raise JobNotFoundError(job_id)
        if not done:
            freezing.refuse_if_moved(connection, self._database.location)
            if act == "retry" and job.status in acts.RETRYABLE and job.unique_key is not None:
                raise DuplicateJobError(job.unique_key)
            raise IllegalActError(act, job_id, job.status)
        return job

    def count(self, act: str, wanted: JobFilter) -> int:
        """Return how many jobs `cancel`, `retry` or `delete` of this filter would concern."""
        with self._read() as connection:
            return queries.count_jobs(connection, wanted, _ELIGIBLE[act])

    def on_batches(self, act: str, wanted: JobFilter) -> Iterator[int]:
        """Cancel, retry or delete all matching jobs, in small transactions; yield how many each has changed."""
        after = 0
        while ids := self._matching(act, wanted, after):
            for start in range(0, len(ids), acts.BATCH):
                yield self._on_batch(act, wanted, ids[start : start + acts.BATCH])
            after = ids[-1]

    def _matching(self, act: str, wanted: JobFilter, after: int) -> list[int]:
        """Return the next ids; without the write lock, for it may be a long look."""
        with self._read() as connection:
            return queries.ids_after(connection, wanted, _ELIGIBLE[act], after)

    def _on_batch(self, act: str, wanted: JobFilter, ids: list[int]) -> int:
        with self._write() as connection:
            if act == "cancel":
                done = acts.cancel(connection, ids, self._clock.now(), wanted)
            elif act == "retry":
                done = acts.retry(connection, ids, self._clock.now(), wanted)
            else:
                done = acts.delete_jobs(connection, ids, wanted)
            if not done:
                freezing.refuse_if_moved(connection, self._database.location)
        return len(done)

    def pause(self, queue: str, until: datetime | None, reason: str | None) -> None:
        """Let no job of this queue begin, until it is resumed or this moment has come."""
        with self._write() as connection:
            freezing.refuse_if_moved(connection, self._database.location)
            queue_rules.pause(connection, queue, self._clock.now(), until, reason)

    def resume(self, queue: str) -> bool:
        """Let jobs of this queue begin again; return whether it was paused."""
        with self._write() as connection:
            freezing.refuse_if_moved(connection, self._database.location)
            return queue_rules.resume(connection, queue, self._clock.now())

    def limit(self, queue: str, max_running: int | None) -> None:
        """Let so many jobs of this queue run at once, all workers together; None: no limit."""
        with self._write() as connection:
            freezing.refuse_if_moved(connection, self._database.location)
            queue_rules.limit(connection, queue, max_running)
