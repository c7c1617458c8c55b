"""Settings: frozen values with documented defaults, checked once, passed explicitly.

Every number is in seconds unless its name says otherwise.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Final

from .backoff import LONGEST_DELAY, Backoff, BackoffRule
from .errors import ConfigurationError
from .spelling import nearest

DAY: Final = 24 * 3600.0
FOREVER: Final = math.inf
"""A retention that never ends."""

_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,200}")
_LARGEST_INTEGER: Final = 2**63 - 1


def checked_name(value: object, what: str) -> str:
    """Return a handler's or queue's name: 1-200 of `A-Z a-z 0-9 _ . : -`; the database checks the same."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    shown = repr(value) if len(repr(value)) <= 60 else f"{str(value)[:50]!r}… ({len(str(value)):,} characters)"
    raise ConfigurationError(what, f"must be 1-200 of A-Z a-z 0-9 _ . : - , not {shown}")


def checked_number(value: object, what: str, low: float, high: float) -> float:
    """Return a number within bounds; NaN, text and booleans are refused."""
    if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise ConfigurationError(what, f"must be a number from {low:g} to {high:g}, not {value!r}")


def checked_integer(value: object, what: str, low: int, high: int) -> int:
    """Return a whole number within bounds."""
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise ConfigurationError(what, f"must be a whole number from {low} to {high}, not {value!r}")


def checked_priority(value: object) -> int:
    """Return a priority: any whole number of 32 bits; higher runs sooner."""
    return checked_integer(value, "priority", -(2**31), 2**31 - 1)


def checked_max_attempts(value: object) -> int:
    """Return max_attempts: 1 to 1,000,000."""
    return checked_integer(value, "max_attempts", 1, 1_000_000)


def checked_timeout(value: object) -> float:
    """Return a timeout: a thousandth of a second to 366 days."""
    return float(checked_number(value, "timeout", 0.001, LONGEST_DELAY))


def checked_wait(value: object) -> float:
    """Return how long to wait: any number of seconds; NaN, text and booleans are refused."""
    if isinstance(value, int | float) and not isinstance(value, bool) and -FOREVER <= value <= FOREVER:
        return value if value <= LONGEST_DELAY else FOREVER
    raise ConfigurationError("timeout", f"must be a number of seconds, or None to wait for ever, not {value!r}")


def check_chosen(queue: object, priority: object, max_attempts: object, timeout: object) -> None:
    """Check what an enqueue and a handler may both choose for a job; None chooses nothing."""
    if queue is not None:
        checked_name(queue, "queue")
    if priority is not None:
        checked_priority(priority)
    if max_attempts is not None:
        checked_max_attempts(max_attempts)
    if timeout is not None:
        checked_timeout(timeout)


def checked_text(value: object, what: str) -> str:
    """Return a text that both databases can hold: without NUL and lone surrogates."""
    if isinstance(value, str) and "\0" not in value and not any("\ud800" <= each <= "\udfff" for each in value):
        return value
    raise ConfigurationError(what, f"must be a text without NUL and lone surrogates, not {value!r}")


def checked_reason(value: object) -> str:
    """Return a reason: a text of at most 500 characters."""
    text = checked_text(value, "reason")
    if len(text) > 500:
        raise ConfigurationError("reason", f"must be at most 500 characters, not {len(text):,}")
    return text


def checked_unique_key(value: object) -> str:
    """Return a unique key: 1-500 characters, no control characters."""
    if isinstance(value, str) and 1 <= len(value) <= 500 and value.isprintable():
        return value
    raise ConfigurationError("unique_key", f"must be 1-500 printable characters, not {str(value)[:60]!r}")


def checked_moment(value: object, what: str) -> datetime:
    """Return a moment, in UTC: a datetime that says its time zone."""
    if not isinstance(value, datetime):
        raise ConfigurationError(what, f"must be a datetime, not {value!r}")
    if value.utcoffset() is None:
        raise ConfigurationError(what, f"{value} has no time zone; write for example {value.replace(tzinfo=UTC)!r}")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ConfigurationError(what, f"{value} is outside of the years 1 to 9999 in UTC") from None


def parsed_job_id(value: object) -> int | None:
    """Return a job id from a number or its plain decimal text; None when no job can have such an id."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LARGEST_INTEGER:
        return value
    return None


@dataclass(frozen=True, slots=True)
class DatabaseConfig:
    """How the database is opened."""

    busy_timeout: float = 30.0
    """How long a write waits for another writer before it says that the database is busy."""
    synchronous: str = "FULL"
    """SQLite: `FULL`: a returned commit survives a power cut. `NORMAL`: faster single commits; the last ones before a
    power cut may be lost (a killed process still loses nothing)."""
    schema: str | None = None
    """PostgreSQL: the schema of the tables, `public` unless it is named here or in the URL (`?schema=jobs`)."""
    listen: bool = True
    """PostgreSQL: wake workers by LISTEN and NOTIFY, and prepare statements. Switch it off (or `?listen=no`) behind
    PgBouncer in transaction mode; then the worker's interval says how soon a job is noticed."""
    connections: int = 10
    """PostgreSQL: most connections of one process, besides a worker's one for LISTEN."""

    def __post_init__(self) -> None:
        checked_number(self.busy_timeout, "busy_timeout", 0, 3600)
        if self.synchronous not in ("FULL", "NORMAL", "EXTRA"):
            raise ConfigurationError("synchronous", f"must be FULL, EXTRA or NORMAL, not {self.synchronous!r}")
        checked_integer(self.connections, "connections", 2, 1000)


@dataclass(frozen=True, slots=True)
class JobDefaults:
    """What a job gets when neither its handler nor its enqueue says otherwise."""

    queue: str = "default"
    priority: int = 0
    max_attempts: int = 20
    """Runs in all, the first one included; crashes of the worker are not counted."""
    backoff: BackoffRule = field(default_factory=Backoff)
    timeout: float | None = None
    """How long a run may take; None: as long as it likes."""
    args_limit: int = 1024 * 1024
    """Most bytes of JSON for args, kwargs, and meta, each."""
    result_limit: int = 1024 * 1024
    """Most bytes of JSON for a result; a larger one is replaced by a marker, the job stays succeeded."""

    def __post_init__(self) -> None:
        checked_name(self.queue, "queue")
        checked_priority(self.priority)
        checked_max_attempts(self.max_attempts)
        if self.timeout is not None:
            checked_timeout(self.timeout)
        checked_integer(self.args_limit, "args_limit", 2, 512 * 1024 * 1024)
        checked_integer(self.result_limit, "result_limit", 2, 512 * 1024 * 1024)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long finished jobs are kept; 0 deletes at the next prune, `FOREVER` never."""

    succeeded: float = 7 * DAY
    cancelled: float = 7 * DAY
    failed: float = 90 * DAY

    def __post_init__(self) -> None:
        for each in fields(self):
            checked_number(getattr(self, each.name), f"retention {each.name}", 0, math.inf)


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """How a worker works."""

    concurrency: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Jobs that run at once in threads; 1 runs one after another, by priority, then id."""
    async_concurrency: int = 100
    """Jobs of `async def` handlers that run at once on the event loop."""
    process_concurrency: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Jobs of `mode="process"` handlers that run at once, each in a child process."""
    runs_per_child: int | None = None
    """A child process is replaced by a new one after so many runs; None: never."""
    kill_after: float = 5.0
    """How long a child process may take to stop when it is asked to, before it is killed."""
    queues: str | None = None
    """`mail,default`: strict order; `mail=3,default=1`: weighted; None: all queues."""
    interval: float = 1.0
    """The poll: the net for what no other signal reported."""
    burst: bool = False
    """End when nothing is left to run."""
    max_jobs: int | None = None
    """End after this many runs."""
    grace: float = 30.0
    """How long running jobs may take to finish after the first signal."""
    lease: float = 30.0
    """A hung worker's jobs are given to others after this; a dead worker's are noticed at once."""
    heartbeat: float = 8.0
    """How often the lease is extended; less than a third of it."""
    max_crashes: int = 5
    """A job that has killed its worker this often is stopped as failed."""
    retention: Retention = field(default_factory=Retention)
    prune_interval: float = 60.0
    """How often the worker deletes old finished jobs."""
    name: str | None = None
    """Shown in `job_workers` and logs; default: host and pid."""

    def __post_init__(self) -> None:
        checked_integer(self.concurrency, "concurrency", 1, 1000)
        checked_integer(self.async_concurrency, "async_concurrency", 1, 1000)
        checked_integer(self.process_concurrency, "process_concurrency", 1, 1000)
        if self.runs_per_child is not None:
            checked_integer(self.runs_per_child, "runs_per_child", 1, _LARGEST_INTEGER)
        checked_number(self.kill_after, "kill_after", 0, 3600)
        checked_number(self.interval, "interval", 0.01, 3600)
        checked_number(self.grace, "grace", 0, 7 * DAY)
        checked_number(self.lease, "lease", 1, DAY)
        checked_number(self.heartbeat, "heartbeat", 0.05, DAY)
        if self.heartbeat > self.lease / 3:
            raise ConfigurationError(
                "heartbeat",
                f"{self.heartbeat:g} s is more than a third of the lease, {self.lease:g} s: a late one "
                f"would lose the jobs; take {self.lease / 3:g} s or less",
            )
        checked_integer(self.max_crashes, "max_crashes", 1, 1_000_000)
        checked_number(self.prune_interval, "prune_interval", 0.05, DAY)
        if self.max_jobs is not None:
            checked_integer(self.max_jobs, "max_jobs", 1, _LARGEST_INTEGER)
        if self.name is not None:
            checked_name(self.name, "worker name")


def checked_options(cls: type[Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return the keyword options if the dataclass has them all; name the nearest match otherwise."""
    known = [each.name for each in fields(cls)]
    for name in given:
        if name not in known:
            near = nearest(name, known)
            raise ConfigurationError(name, "is not a known option" + (f"; did you mean {near}?" if near else ""))
    return given
