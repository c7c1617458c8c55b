"""What people read beside the job itself: its errors and its log, queues, workers and counts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from .errors import ConfigurationError
from .statuses import Status


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs are meant; an empty filter means all of them."""

    statuses: tuple[Status, ...] = ()
    handler: str | None = None
    queue: str | None = None

    def __post_init__(self) -> None:
        try:
            statuses = tuple(dict.fromkeys(Status(status) for status in self.statuses))
        except (TypeError, ValueError):
            raise ConfigurationError(
                "statuses", f"must be some of {', '.join(Status)}, not {self.statuses!r}"
            ) from None
        object.__setattr__(self, "statuses", statuses)
        for name in ("handler", "queue"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or "\0" in value):
                raise ConfigurationError(name, f"must be a name, not {value!r}")

    def __str__(self) -> str:
        parts = [f"status {', '.join(self.statuses)}"] if self.statuses else []
        parts += [f"handler {self.handler}"] if self.handler else []
        parts += [f"queue {self.queue}"] if self.queue else []
        return " and ".join(parts) or "all"


@dataclass(frozen=True, slots=True)
class JobError:
    """One attempt that did not succeed."""

    job_id: int
    attempt: int
    worker_id: int | None
    started_at: datetime | None
    ended_at: datetime
    kind: str
    message: str
    traceback: str | None


Wish = Literal["quiet", "stop"]
"""What a person may ask of a worker: to begin nothing more, or to end."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a job's kept log."""

    job_id: int
    attempt: int
    at: datetime
    level: str
    """`debug`, `info`, `warning`, `error`, `critical`, or a name of your own."""
    message: str


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """A worker that is registered in the database."""

    id: int
    name: str
    host: str
    pid: int
    queues: str
    concurrency: int
    version: str
    started_at: datetime
    heartbeat_at: datetime
    running: int
    """Jobs it has claimed."""
    stuck: list[int]
    """Ids of those that go on although their timeout is over, as of its last heartbeat."""
    asked_to: Wish | None
    """What a person has asked it to do, whether it has heard that yet or not."""


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue as the workers see it: whether its jobs may begin, and how many wait."""

    queue: str
    is_paused: bool
    paused_at: datetime | None
    paused_until: datetime | None
    """None, while it is paused: until somebody resumes it."""
    reason: str | None
    """Why it is paused."""
    max_running: int | None
    """How many of its jobs run at once, all workers together; None: no limit."""
    pending: int
    scheduled: int
    running: int


@dataclass(frozen=True, slots=True)
class LimitState:
    """The places that a job shares with others."""

    group: str
    """Who shares them: `tenant=acme`, or `handler sync`."""
    max_running: int
    running: int


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """Counts of one queue; `counts` maps each status that occurs to its number of jobs."""

    queue: str
    counts: dict[Status, int]
    oldest_waiting: datetime | None
    """`run_at` of the pending job that has waited longest."""
    finished_per_minute: dict[Status, float]
    """Endings per minute, over the window that was asked for."""
