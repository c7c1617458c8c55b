"""Jobs and queues are looked at."""

from __future__ import annotations

from datetime import timedelta

from ...jobs import Job
from ...records import JobError, JobFilter, LimitState, LogLine, QueueState, QueueStatistics
from .. import published_limits, queries, queue_rules
from ..notes import log_of
from .door import Door


class Reads(Door):
    """What is shown to people and programs."""

    def get(self, job_id: int) -> Job | None:
        """Return one job."""
        with self._read() as connection:
            return queries.job_by_id(connection, job_id)

    def get_with_errors(self, job_id: int) -> tuple[Job | None, list[JobError]]:
        """Return one job and its attempts that did not succeed, as of one moment."""
        with self._read() as connection:
            return queries.job_by_id(connection, job_id), queries.errors_of(connection, job_id)

    def log_of(self, job_id: int) -> list[LogLine]:
        """Return the kept log of a job, oldest line first."""
        with self._read() as connection:
            return log_of(connection, job_id)

    def list_jobs(self, wanted: JobFilter, limit: int, before: int | None = None) -> list[Job]:
        """Return jobs that match, newest first."""
        with self._read() as connection:
            return queries.list_jobs(connection, wanted, limit, before)

    def queues(self) -> list[QueueState]:
        """Return the queues that have a rule or jobs that have not ended."""
        with self._read() as connection:
            return queue_rules.states(connection, self._clock.now())

    def limit_state(self, job: Job) -> LimitState | None:
        """Return the places of `max_running` that a job shares with others."""
        with self._read() as connection:
            return published_limits.state(connection, job)

    def statistics(self, minutes: float) -> list[QueueStatistics]:
        """Return counts and rates of each queue."""
        with self._read() as connection:
            return queries.statistics(connection, self._clock.now() - timedelta(minutes=minutes), minutes)
