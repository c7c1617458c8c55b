"""What an enqueue may say about its job: where, when, how often, and what its unique key means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from .backoff import LONGEST_DELAY
from .clock import from_text, to_text
from .config import check_chosen, checked_moment, checked_number, checked_unique_key
from .errors import ConfigurationError
from .jobs import UniqueRule


@dataclass(frozen=True, slots=True)
class EnqueueOptions:
    """What `using(…)` takes. None: the handler's, else the app's default."""

    queue: str | None = None
    priority: int | None = None
    """Higher runs sooner."""
    max_attempts: int | None = None
    timeout: float | None = None
    """How long a run may take, in seconds. None: what the handler says when it runs."""
    delay: float | timedelta | None = None
    """Not before so many seconds from now."""
    run_at: datetime | None = None
    """Not before this moment; aware."""
    unique_key: str | None = None
    """At most one job holds it."""
    on_conflict: str = "skip"
    """What happens when another job holds the unique key. `skip`: that one is returned. `error`: `DuplicateJobError`.
    `replace`: if it waits to be run, it gets what is new here: args, time, priority and so on. `debounce`: the same,
    and its time is put off no further than `debounce_limit`."""
    unique_while: str = "live"
    """How long a job holds its key. `live`: until it has ended. `waiting`: until a worker takes it to run it."""
    unique_for: float | timedelta | None = None
    """It holds its key for so many seconds from its enqueue in any case, also when it has ended."""
    debounce_limit: float | timedelta | None = None
    """How many seconds after its first enqueue a debounced job is due at the latest."""
    meta: Mapping[str, Any] | None = None
    """A JSON object that travels with the job."""
    connection: Any = None
    """Enqueue in your own transaction: a SQLAlchemy Connection or Session, or a `sqlite3.Connection`. Of a duplicate
    just the id is the holder's then; `refresh()` reads it, once it is committed."""
    check: bool = True
    """Whether the handler must be known here, when this process knows handlers at all."""

    def __post_init__(self) -> None:
        check_chosen(self.queue, self.priority, self.max_attempts, self.timeout)
        if self.unique_key is not None:
            checked_unique_key(self.unique_key)
        _check_choice(self.on_conflict, "on_conflict", ("skip", "error", "replace", "debounce"))
        _check_choice(self.unique_while, "unique_while", ("live", "waiting"))
        for name in ("unique_for", "debounce_limit"):
            if getattr(self, name) is not None:
                checked_number(_seconds(getattr(self, name)), name, 0, LONGEST_DELAY)
        if self.delay is not None and self.run_at is not None:
            raise ConfigurationError("delay", "and run_at exclude each other; give one of them")
        if self.run_at is not None:
            checked_moment(self.run_at, "run_at")
        if self.delay is not None:
            checked_number(_seconds(self.delay), "delay", 0, LONGEST_DELAY)
        if self.meta is not None and not isinstance(self.meta, Mapping):
            raise ConfigurationError("meta", f"must be a dict, not {type(self.meta).__name__}")

    @property
    def is_due_at_once(self) -> bool:
        """Whether the job may run as soon as it is stored."""
        return self.delay is None and self.run_at is None

    def due(self, now: datetime) -> datetime:
        """Return the moment before which the job does not run."""
        if self.run_at is not None:
            return self.run_at.astimezone(UTC)
        if self.delay is None:
            return now
        return now + timedelta(seconds=_seconds(self.delay))

    @property
    def has_unique_rule(self) -> bool:
        """Whether the unique key means something else than usual."""
        rule = (self.on_conflict, self.unique_while, self.unique_for, self.debounce_limit)
        return rule != ("skip", "live", None, None)

    def unique_rule(self, now: str) -> UniqueRule:
        """Return what the unique key means for a job that is enqueued now."""
        if self.unique_key is None:
            raise ConfigurationError("unique_key", "is needed by on_conflict, unique_while and unique_for; give one")
        if self.on_conflict == "debounce" and self.is_due_at_once:
            raise ConfigurationError("on_conflict", "'debounce' puts a job off: give a delay or run_at")
        if self.debounce_limit is not None and self.on_conflict != "debounce":
            raise ConfigurationError("debounce_limit", "is for on_conflict='debounce'")
        return UniqueRule(
            self.on_conflict,
            None if self.unique_while == "live" else self.unique_while,
            _later(now, self.unique_for),
            _later(now, self.debounce_limit),
        )


def _seconds(length: float | timedelta) -> float:
    return length.total_seconds() if isinstance(length, timedelta) else length


def _later(now: str, length: float | timedelta | None) -> str | None:
    return None if length is None else to_text(from_text(now) + timedelta(seconds=_seconds(length)))


def _check_choice(value: object, what: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigurationError(what, f"must be {', '.join(choices[:-1])} or {choices[-1]}, not {value!r}")
