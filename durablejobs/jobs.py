"""A job as people see it, as it is put in, and as a worker claims it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from .bridge import in_thread
from .clock import from_text
from .statuses import FINAL, Status


class JobSource(Protocol):
    """Where a `Job` looks itself up again."""

    def get(self, job_id: int) -> Job: ...

    def wait(self, job_id: int, timeout: float | None) -> Any: ...

    async def await_result(self, job_id: int, timeout: float | None) -> Any: ...


@dataclass(frozen=True)
class Job:
    """One job as it stood when it was read; `refresh()` reads it again.

    Times are aware datetimes in UTC. `args`, `kwargs`, `result`, `meta` are what the JSON text in the row says.
    """

    id: int
    handler: str
    queue: str
    args: list[Any]
    kwargs: dict[str, Any]
    status: Status
    priority: int
    run_at: datetime
    attempt: int
    """Runs started so far; 1 while the first one runs."""
    max_attempts: int
    crashes: int
    """Runs that ended with the death of their worker; they do not spend attempts."""
    worker_id: int | None
    lease_expires_at: datetime | None
    cancel_requested_at: datetime | None
    unique_key: str | None
    running_key: str | None
    """Which jobs it shares the places of `max_running` with: `handler`, or `handler/key`."""
    timeout: float | None
    result: Any
    error: str | None
    """The last error, short; all of them, with tracebacks, are in `job_errors`."""
    progress: Any
    meta: dict[str, Any]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    is_duplicate: bool = False
    """Only on what `enqueue` returns: a job that holds this unique key was there already; no row was added."""
    source: JobSource | None = field(default=None, repr=False, compare=False)

    @classmethod
    def just_stored(cls, job_id: int, row: NewJob, is_duplicate: bool, source: JobSource) -> Job:
        """Return the record of a row that was just stored, without reading it again.

        Most who enqueue look at its id at most. So the rest is taken from the row when somebody asks for it: to fill
        in and decode all fields took a fifth of the time that an enqueue took beside its commit.
        """
        job: Job = object.__new__(cls)
        vars(job).update(_NOT_RUN_YET, id=job_id, is_duplicate=is_duplicate, source=source, _row=row)
        return job

    if not TYPE_CHECKING:  # a type checker knows the fields, and should complain of all else

        def __getattr__(self, name: str) -> Any:
            # Only called for what is not there: fields of a job that was just stored.
            row = vars(self).get("_row")
            if row is None or name not in NewJob._fields:
                raise AttributeError(f"'Job' has no attribute '{name}'")
            text = getattr(row, name)
            value = vars(self)[name] = _DECODE[name](text) if name in _DECODE else text
            return value

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self.status in FINAL

    @property
    def spent_attempts(self) -> int:
        """Attempts that count against `max_attempts`: crashes of the worker do not."""
        return max(0, self.attempt - self.crashes)

    def refresh(self) -> Job:
        """Read the job again. Raises `JobNotFoundError` when it was deleted meanwhile."""
        return self._source().get(self.id)

    arefresh = in_thread(refresh)

    def wait(self, timeout: float | None = None) -> Any:
        """Return the job's result once it has ended.

        Waits at most `timeout` seconds (None: for ever). Raises `JobFailedError`, `JobCancelledError`,
        `WaitTimeoutError`, or `JobNotFoundError` when the job is deleted meanwhile.
        """
        return self._source().wait(self.id, timeout)

    async def await_result(self, timeout: float | None = None) -> Any:
        """Return the job's result once it has ended, without blocking the event loop. Raises what `wait` raises."""
        return await self._source().await_result(self.id, timeout)

    def _source(self) -> JobSource:
        if self.source is None:
            raise RuntimeError("this Job was not read from a database")
        return self.source


_NOT_RUN_YET: Final[dict[str, Any]] = {
    "attempt": 0,
    "crashes": 0,
    "worker_id": None,
    "lease_expires_at": None,
    "cancel_requested_at": None,
    "result": None,
    "error": None,
    "progress": None,
    "started_at": None,
    "finished_at": None,
}


class NewJob(NamedTuple):
    """A checked job on its way in; the fields are the columns, JSON and times already text."""

    handler: str
    queue: str
    args: str
    kwargs: str
    status: str
    priority: int
    run_at: str
    max_attempts: int
    unique_key: str | None
    running_key: str | None
    timeout: float | None
    meta: str
    created_at: str

    # Three ways to fill in a blank row, each ten times faster than `_replace`.

    def filled(self, args: str, kwargs: str, status: str, run_at: str, created_at: str) -> NewJob:
        """Return the same job with other arguments and times."""
        return NewJob(
            self.handler,
            self.queue,
            args,
            kwargs,
            status,
            self.priority,
            run_at,
            self.max_attempts,
            self.unique_key,
            self.running_key,
            self.timeout,
            self.meta,
            created_at,
        )

    def at(self, status: str, run_at: str, created_at: str) -> NewJob:
        """Return the same job with other times."""
        return self.filled(self.args, self.kwargs, status, run_at, created_at)

    def with_arguments(self, args: str, kwargs: str) -> NewJob:
        """Return the same job with other args and kwargs."""
        return NewJob._make((*self[:2], args, kwargs, *self[4:]))


class UniqueRule(NamedTuple):
    """What a job's unique key means, where that is not the usual: times are text, as in the row."""

    on_conflict: str = "skip"
    unique_while: str | None = None
    unique_until: str | None = None
    debounce_until: str | None = None

    @property
    def replaces(self) -> bool:
        """Whether a holder of the key that waits to be run gets what is new in this job."""
        return self.on_conflict in ("replace", "debounce")

    @property
    def is_debounced(self) -> bool:
        """Whether the holder's `debounce_until` is the latest time that it may get."""
        return self.on_conflict == "debounce"


_DECODE: Final[dict[str, Callable[[str], Any]]] = {
    "args": json.loads,
    "kwargs": json.loads,
    "meta": json.loads,
    "status": Status,
    "run_at": from_text,
    "created_at": from_text,
}
"""How the text of a row becomes the value of a record, where they differ."""


class ClaimedJob(NamedTuple):
    """A job that this worker has claimed: what a run needs, JSON and times still text as in the row.

    `claim_token` is the proof of the claim: every write about the job carries it.
    """

    id: int
    claim_token: int
    handler: str
    queue: str
    args: str
    kwargs: str
    priority: int
    run_at: str
    attempt: int
    max_attempts: int
    crashes: int
    timeout: float | None
    meta: str

    @property
    def has_attempt_left(self) -> bool:
        """Whether another attempt is allowed after this one has failed."""
        return self.attempt - self.crashes < self.max_attempts

    def decoded_args(self) -> list[Any]:
        return list(_decoded(self.args))

    def decoded_kwargs(self) -> dict[str, Any]:
        return dict(_decoded(self.kwargs)) if self.kwargs != "{}" else {}

    def decoded_meta(self) -> dict[str, Any]:
        return dict(_decoded(self.meta)) if self.meta != "{}" else {}


_scan: Final[Callable[[str, int], tuple[Any, int]]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


def _decoded(text: str) -> Any:
    """Return what `json.loads` returns, in a quarter of the time where no white space surrounds the value."""
    try:
        value, end = _scan(text, 0)
    except (ValueError, TypeError, StopIteration):
        return json.loads(text)
    return value if end == len(text) else json.loads(text)


class LogEntry(NamedTuple):
    """A line of a job's log on its way in; the time is text."""

    at: str
    level: str
    message: str


class Notes(NamedTuple):
    """What a running job has said about itself: its progress as JSON text, and lines of its log."""

    job: ClaimedJob
    progress: str | None
    lines: list[LogEntry]
    may_be_written: bool = False
    """Whether another process has been told the lines, and may have written the first of them."""


@dataclass(frozen=True, slots=True)
class EnqueuedBatch:
    """What `enqueue_many` stored, all in one transaction."""

    count: int
    """Jobs stored."""
    duplicates: int = 0
    """Items left out because another job holds their unique key."""
