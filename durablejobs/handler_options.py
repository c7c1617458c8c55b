"""What a handler says about its jobs: where and how they run, how often, and what of them is hidden."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from .backoff import BackoffRule
from .config import check_chosen, checked_integer
from .errors import ConfigurationError
from .running_limits import parse_template


class Mode(StrEnum):
    """How a handler's jobs run."""

    THREAD = "thread"
    ASYNC = "async"
    """On the worker's event loop: each `async def`, by itself."""
    PROCESS = "process"


ExceptionTypes = type[BaseException] | tuple[type[BaseException], ...]


@dataclass(frozen=True, slots=True)
class HandlerOptions:
    """What a handler's jobs get unless their enqueue says otherwise; None: the app's default."""

    queue: str | None = None
    priority: int | None = None
    max_attempts: int | None = None
    backoff: BackoffRule | None = None
    timeout: float | None = None
    mode: str | None = None
    """`thread` (the default) or `process`; an `async def` runs on the event loop by itself."""
    keep_log: bool = False
    """Whether what its runs write with the standard `logging` is kept with their jobs."""
    fresh: bool = False
    """With `mode="process"`: each job gets a new child process."""
    retry_on: ExceptionTypes | None = None
    """Only these exceptions are worth another attempt; any other fails the job at once."""
    fail_on: ExceptionTypes = ()
    """These exceptions fail the job at once."""
    redact: Sequence[str] = ()
    """The names of arguments that are hidden in lists, logs and errors."""
    max_running: int | None = None
    """How many of its jobs run at once, all workers together; None: no limit."""
    running_key: str | None = None
    """A template such as `{kwargs[tenant]}`: `max_running` holds for each key by itself."""

    def __post_init__(self) -> None:
        check_chosen(self.queue, self.priority, self.max_attempts, self.timeout)
        if self.backoff is not None and not callable(self.backoff):
            raise ConfigurationError("backoff", f"must be a Backoff or a function of the attempt, not {self.backoff!r}")
        if self.mode not in (None, Mode.THREAD, Mode.PROCESS):
            raise ConfigurationError("mode", f"must be 'thread' or 'process', not {self.mode!r}")
        for name in ("fresh", "keep_log"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(name, f"must be True or False, not {getattr(self, name)!r}")
        if self.fresh and self.mode != Mode.PROCESS:
            raise ConfigurationError("fresh", "is for mode='process' only: it asks for a new child process")
        if self.retry_on is not None:
            _check_exceptions(self.retry_on, "retry_on")
        _check_exceptions(self.fail_on, "fail_on")
        if isinstance(self.redact, str) or not all(isinstance(name, str) for name in self.redact):
            raise ConfigurationError("redact", f"must be a list of names of arguments, not {self.redact!r}")
        if self.max_running is not None:
            checked_integer(self.max_running, "max_running", 1, 1_000_000)
        if self.running_key is not None:
            parse_template(self.running_key)
            if self.max_running is None:
                raise ConfigurationError("running_key", "says which jobs share max_running; give that too")

    def is_worth_another_attempt(self, error: BaseException) -> bool:
        """Whether `retry_on` and `fail_on` allow another attempt after this exception."""
        if isinstance(error, self.fail_on):
            return False
        return self.retry_on is None or isinstance(error, self.retry_on)


def _check_exceptions(given: object, what: str) -> None:
    kinds = given if isinstance(given, tuple) else (given,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise ConfigurationError(what, f"must be an exception class or a tuple of them, not {given!r}")
