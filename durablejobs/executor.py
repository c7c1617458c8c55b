"""Runs one claimed job and returns what it came to. Knows no store.

A run is a pipeline of named steps over one value: prepare (resolve the handler, decode the arguments), call,
conclude. Every way out is an `Outcome`; nothing that a handler does or raises escapes as an exception.
"""

from __future__ import annotations

import logging
from typing import Any, Final, NamedTuple

from . import current
from .arguments import encode_json
from .backoff import delay_after
from .config import JobDefaults
from .current import CurrentJob
from .errors import ArgumentsError, UnknownHandlerError
from .failures import LONGEST_MESSAGE, cut, safe_text, safe_traceback, storable
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

log = logging.getLogger("durablejobs.executor")

_WITHOUT_RESULT: Final = Succeeded(None)


class Run(NamedTuple):
    """A job that is ready to be called: its handler is known, its arguments are decoded."""

    job: ClaimedJob
    definition: HandlerDefinition
    current: CurrentJob


class Executor:
    """Runs claimed jobs with the handlers of a registry."""

    def __init__(self, registry: Registry, defaults: JobDefaults) -> None:
        self._registry = registry
        self._defaults = defaults

    def run(self, job: ClaimedJob) -> Outcome:
        """Run the job's handler to its end and return what it came to; never raises."""
        try:
            prepared = self._prepare(job)
            return self._call(prepared) if isinstance(prepared, Run) else prepared
        except BaseException as error:  # noqa: BLE001 - a handler's own signal class that raises when it is read
            failure = Failure("exception", safe_text(error), safe_traceback(error))
            return Errored(failure, delay_after(self._defaults.backoff, max(1, job.attempt - job.crashes)))

    def _prepare(self, job: ClaimedJob) -> Run | Outcome:
        """Return the run, or the outcome of a job that cannot be called."""
        definition = self._registry.find(job.handler)
        if definition is None:
            error = UnknownHandlerError(job.handler, self._registry.names)
            return Errored(Failure("unknown_handler", str(error)), delay_after(self._defaults.backoff, job.attempt))
        try:
            args, kwargs = job.decoded_args(), job.decoded_kwargs()
        except (ValueError, TypeError, RecursionError) as error:
            return GaveUp(Failure("bad_arguments", f"args or kwargs in the row cannot be read: {safe_text(error)}"))
        return Run(job, definition, CurrentJob(job, args, kwargs))

    def _call(self, run: Run) -> Outcome:
        token = current.enter(run.current)
        try:
            result = run.definition.function(*run.current.args, **run.current.kwargs)
        except BaseException as error:  # noqa: BLE001 - SystemExit and all: a job must not end its worker
            return self._ended_by(error, run)
        finally:
            current.leave(token)
        return self._returned(result, run)

    def _returned(self, result: Any, run: Run) -> Outcome:
        """The handler has run, so it is never run again for a result that cannot be stored."""
        if result is None:
            return _WITHOUT_RESULT
        try:
            return Succeeded(encode_json(result, "result", self._defaults.result_limit))
        except BaseException as error:  # noqa: BLE001 - a class of the handler's may raise anything when it is read
            reason = cut(str(error)) if isinstance(error, ArgumentsError) else safe_text(error)
            log.warning("job %d (%s) succeeded, but its result is not stored: %s", run.job.id, run.job.handler, reason)
            marker = {"durablejobs": "the result could not be stored", "reason": reason}
            return Succeeded(encode_json(marker, "result", 10 * LONGEST_MESSAGE))

    def _ended_by(self, error: BaseException, run: Run) -> Outcome:
        """Turn what the handler raised into an ending."""
        match error:
            case Snooze():
                return Snoozed(error.delay)
            case Fail():
                return GaveUp(Failure("fail", cut(storable(error.reason))))
            case Cancel():
                return Stopped(Failure("cancel", cut(storable(error.reason))))
            case Retry():
                reason = cut(storable(error.reason)) or "the handler asked for another attempt"
                return Errored(Failure("retry", reason), self._backoff(run) if error.delay is None else error.delay)
            case HandlerSignal():
                return Errored(Failure("exception", safe_text(error)), self._backoff(run))
            case _:
                return self._failed_by(error, run)

    def _failed_by(self, error: BaseException, run: Run) -> Outcome:
        if isinstance(error, TypeError):  # did the call itself not fit? then another attempt cannot help
            try:
                run.definition.check_arguments(run.current.args, run.current.kwargs)
            except ArgumentsError as mismatch:
                return GaveUp(Failure("bad_arguments", str(mismatch)))
        return Errored(Failure("exception", safe_text(error), safe_traceback(error)), self._backoff(run))

    def _backoff(self, run: Run) -> float:
        spent = max(1, run.job.attempt - run.job.crashes)
        return delay_after(run.definition.options.backoff or self._defaults.backoff, spent)
