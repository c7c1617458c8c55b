"""Runs one claimed job and returns what it came to. Knows no store.

A run is a pipeline of named steps over one value: resolve the handler, decode the arguments, call, conclude. Every
way out is an `Outcome`; nothing that a handler does or raises escapes as an exception.
"""

from __future__ import annotations

import logging
import traceback
from contextvars import ContextVar
from typing import Any, Final

from .arguments import encode_json
from .backoff import delay_after
from .config import JobDefaults
from .errors import ArgumentsError, UnknownHandlerError
from .jobs import ClaimedJob
from .outcomes import (
    Cancel,
    Errored,
    Fail,
    Failure,
    GaveUp,
    HandlerSignal,
    Outcome,
    Retry,
    Snooze,
    Snoozed,
    Stopped,
    Succeeded,
)
from .registry import HandlerDefinition, Registry

LONGEST_MESSAGE: Final = 10_000
LONGEST_TRACEBACK: Final = 64_000
"""Characters of an error that are kept; what is cut is said."""

log = logging.getLogger("durablejobs.executor")

_current: ContextVar[CurrentJob] = ContextVar("durablejobs_current_job")
_WITHOUT_RESULT: Final = Succeeded(None)


class CurrentJob:
    """The job that runs here, for its handler: `current_job()`."""

    __slots__ = ("_claimed", "args", "kwargs")

    def __init__(self, claimed: ClaimedJob, args: list[Any], kwargs: dict[str, Any]) -> None:
        self._claimed = claimed
        self.args = args
        self.kwargs = kwargs

    @property
    def id(self) -> int:
        return self._claimed.id

    @property
    def handler(self) -> str:
        return self._claimed.handler

    @property
    def queue(self) -> str:
        return self._claimed.queue

    @property
    def priority(self) -> int:
        return self._claimed.priority

    @property
    def attempt(self) -> int:
        """Runs started so far, this one included: 1 = first."""
        return self._claimed.attempt

    @property
    def max_attempts(self) -> int:
        return self._claimed.max_attempts

    @property
    def crashes(self) -> int:
        """Earlier runs that ended with the death of their worker."""
        return self._claimed.crashes

    @property
    def is_last_attempt(self) -> bool:
        """Whether the job fails for good if this attempt fails."""
        return not self._claimed.has_attempt_left

    @property
    def meta(self) -> dict[str, Any]:
        """What the enqueuer gave along."""
        return self._claimed.decoded_meta()

    def __repr__(self) -> str:
        return f"<CurrentJob {self.id} {self.handler} attempt {self.attempt}>"


def current_job() -> CurrentJob:
    """Return the job that this handler runs for. Raises `LookupError` outside of a handler."""
    try:
        return _current.get()
    except LookupError:
        raise LookupError("no job runs here: current_job() is for use inside a handler") from None


class Executor:
    """Runs claimed jobs with the handlers of a registry."""

    def __init__(self, registry: Registry, defaults: JobDefaults) -> None:
        self._registry = registry
        self._defaults = defaults

    def run(self, job: ClaimedJob) -> Outcome:
        """Run the job's handler to its end and return what it came to; never raises."""
        try:
            return self._run(job)
        except BaseException as error:  # noqa: BLE001 - a handler's own signal class that raises when it is read
            failure = Failure("exception", safe_text(error), _safe_traceback(error))
            return Errored(failure, delay_after(self._defaults.backoff, max(1, job.attempt - job.crashes)))

    def _run(self, job: ClaimedJob) -> Outcome:
        definition = self._registry.find(job.handler)
        if definition is None:
            return self._unknown(job)
        try:
            args, kwargs = job.decoded_args(), job.decoded_kwargs()
        except (ValueError, TypeError, RecursionError) as error:
            return GaveUp(Failure("bad_arguments", f"args or kwargs in the row cannot be read: {safe_text(error)}"))
        token = _current.set(CurrentJob(job, args, kwargs))
        try:
            result = definition.function(*args, **kwargs)
        except HandlerSignal as signal:
            return self._obey(signal, job, definition)
        except BaseException as error:  # noqa: BLE001 - SystemExit and all: a job must not end its worker
            return self._judge(error, job, definition, args, kwargs)
        finally:
            _current.reset(token)
        return self._conclude(result, job)

    def _unknown(self, job: ClaimedJob) -> Outcome:
        error = UnknownHandlerError(job.handler, self._registry.names)
        return Errored(Failure("unknown_handler", str(error)), delay_after(self._defaults.backoff, job.attempt))

    def _conclude(self, result: Any, job: ClaimedJob) -> Outcome:
        """The handler has run, so it is never run again for a result that cannot be stored."""
        if result is None:
            return _WITHOUT_RESULT
        try:
            return Succeeded(encode_json(result, "result", self._defaults.result_limit))
        except BaseException as error:  # noqa: BLE001 - a class of the handler's may raise anything when it is read
            reason = _cut(str(error), LONGEST_MESSAGE) if isinstance(error, ArgumentsError) else safe_text(error)
            log.warning("job %d (%s) succeeded, but its result is not stored: %s", job.id, job.handler, reason)
            marker = {"durablejobs": "the result could not be stored", "reason": reason}
            return Succeeded(encode_json(marker, "result", 10 * LONGEST_MESSAGE))

    def _obey(self, signal: HandlerSignal, job: ClaimedJob, definition: HandlerDefinition) -> Outcome:
        """Turn what a handler raised to choose its ending into that ending."""
        match signal:
            case Snooze():
                return Snoozed(signal.delay)
            case Fail():
                return GaveUp(Failure("fail", _cut(_storable(signal.reason), LONGEST_MESSAGE)))
            case Cancel():
                return Stopped(Failure("cancel", _cut(_storable(signal.reason), LONGEST_MESSAGE)))
            case Retry():
                reason = _cut(_storable(signal.reason), LONGEST_MESSAGE) or "the handler asked for another attempt"
                delay = self._backoff(job, definition) if signal.delay is None else signal.delay
                return Errored(Failure("retry", reason), delay)
            case _:
                return Errored(Failure("exception", safe_text(signal)), self._backoff(job, definition))

    def _judge(
        self,
        error: BaseException,
        job: ClaimedJob,
        definition: HandlerDefinition,
        args: list[Any],
        kwargs: dict[str, Any],
    ) -> Outcome:
        if isinstance(error, TypeError):  # did the call itself not fit? then another attempt cannot help
            try:
                definition.check_arguments(args, kwargs)
            except ArgumentsError as mismatch:
                return GaveUp(Failure("bad_arguments", str(mismatch)))
        failure = Failure("exception", safe_text(error), _safe_traceback(error))
        return Errored(failure, self._backoff(job, definition))

    def _backoff(self, job: ClaimedJob, definition: HandlerDefinition) -> float:
        spent = max(1, job.attempt - job.crashes)
        return delay_after(definition.options.backoff or self._defaults.backoff, spent)


def safe_text(error: BaseException) -> str:
    """Return `Type: message` of any exception, even one whose `__str__` raises, fit to be stored and shown."""
    message = _safe_str(error)
    name = type(error).__name__
    return _cut(_storable(f"{name}: {message}" if message else name), LONGEST_MESSAGE)


def _safe_str(value: object) -> str:
    try:
        return str(value)
    except BaseException:  # noqa: BLE001 - its author's mistake must not become the worker's
        return "(its __str__ raised)"


def _safe_traceback(error: BaseException) -> str:
    try:
        # The first frame is the executor's own.
        inner = error.__traceback__.tb_next if error.__traceback__ else None
        text = "".join(traceback.format_exception(type(error), error, inner))
    except BaseException:  # noqa: BLE001 - as above
        text = "(the traceback could not be formatted)"
    return _cut(_storable(text), LONGEST_TRACEBACK)


def _storable(text: object) -> str:
    """Replace what UTF-8 or SQLite's shell cannot carry: lone surrogates and NUL."""
    return _safe_str(text).encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _cut(text: str, most: int) -> str:
    """Keep the beginning and the end, and say how much is left out."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"
