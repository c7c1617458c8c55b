"""Runs one claimed job and returns what it came to. Knows no store, no thread and no process.

A run is a pipeline of named steps over one value: prepare (resolve the handler, decode the arguments), call,
conclude. Every way out is an `Outcome`; nothing that a handler does or raises escapes as an exception. Where it runs
differs in the call alone, which the lanes bring along: one that can be interrupted, or one that is awaited.
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, NamedTuple

from . import current
from .arguments import encode_json
from .backoff import delay_after
from .config import JobDefaults
from .coroutines import finished
from .current import NOWHERE, CurrentJob, Transaction, Workplace
from .errors import ArgumentsError, UnknownHandlerError
from .events import Listeners
from .failures import LONGEST_MESSAGE, cut, safe_text, safe_traceback, storable
from .handler_options import Mode
from .jobs import ClaimedJob
from .middleware import Around
from .outcomes import (
    Cancel,
    Crashed,
    Errored,
    Fail,
    Failure,
    GaveUp,
    HandlerSignal,
    JobCancelled,
    JobTimeout,
    Outcome,
    Retry,
    Settled,
    Snooze,
    Snoozed,
    Stopped,
    Succeeded,
)
from .redaction import Redaction
from .registry import HandlerDefinition, Registry
from .resources import ResourceDefinition, inject
from .running_limits import RunningLimit

log = logging.getLogger("durablejobs.executor")

_WITHOUT_RESULT: Final = Succeeded(None)
CANCELLED: Final = Stopped(Failure("cancel", "stopped because it was asked to"))
"""The outcome of a run that stopped, or never began, because somebody asked for it."""

Call = Callable[[Callable[..., Any], Sequence[Any], Mapping[str, Any]], Any]
"""Calls a function with its arguments, in a way that can be interrupted."""
AsyncCall = Callable[[Callable[..., Awaitable[Any]], Sequence[Any], Mapping[str, Any]], Awaitable[Any]]
Attempt = Callable[[], Awaitable[tuple[Any, BaseException | None]]]
"""Calls a handler; returns its result, or what it has raised."""


class Run(NamedTuple):
    """A job that is ready to be called: its handler is known, its arguments are decoded."""

    job: ClaimedJob
    definition: HandlerDefinition
    current: CurrentJob
    args: Sequence[Any]
    """With what is injected."""
    kwargs: Mapping[str, Any]


class Executor:
    """Runs claimed jobs with the handlers of a registry."""

    def __init__(
        self,
        registry: Registry,
        defaults: JobDefaults,
        workplace: Workplace = NOWHERE,
        listeners: Listeners | None = None,
    ) -> None:
        self._registry = registry
        self._defaults = defaults
        self._listeners = listeners or Listeners()
        self.cancellations: set[int] = set()
        """The ids of the jobs that are to stop; their handlers see it in `current_job().cancelled`."""
        self.resources: Mapping[Any, Any] = {}
        """What is injected into handlers, by its type."""
        self._workplace = workplace._replace(cancellations=self.cancellations)

    def run(self, job: ClaimedJob, call: Call | None = None) -> Outcome:
        """Run the job's handler to its end and return what it came to; never raises.

        A process that the handler has forked, and that comes back from it, ends here.
        """
        generation = _generation
        prepared: Run | Outcome | None = None
        try:
            prepared = self._prepare(job)
            if not isinstance(prepared, Run):
                return prepared
            outcome = self._call(prepared, call)
            _end_if_forked(generation, job)
            transaction = prepared.current.end()
            return outcome if transaction is None else finished(self._settled(prepared, transaction, outcome))
        except BaseException as error:  # noqa: BLE001 - a handler's own signal class that raises when it is read
            return self._unforeseen(error, job, prepared)

    async def run_async(self, job: ClaimedJob, call: AsyncCall) -> Outcome:
        """The same for a handler that is awaited."""
        generation = _generation
        prepared: Run | Outcome | None = None
        try:
            prepared = self._prepare(job)
            if not isinstance(prepared, Run):
                return prepared
            outcome = await self._await(prepared, call)
            _end_if_forked(generation, job)
            transaction = prepared.current.end()
            return outcome if transaction is None else await self._settled(prepared, transaction, outcome)
        except BaseException as error:  # noqa: BLE001 - as above
            return self._unforeseen(error, job, prepared)

    def tell_started(self, job: ClaimedJob) -> None:
        """Tell who listens that the handler of this job is about to be called."""
        if self._listeners.want("started"):
            self._listeners.tell(
                "started", datetime.now(UTC), job_id=job.id, handler=job.handler, queue=job.queue, attempt=job.attempt
            )

    def redactions(self) -> dict[str, Redaction]:
        """Return what is hidden of the handlers' arguments."""
        return self._registry.redactions

    def running_limits(self) -> dict[str, RunningLimit]:
        """Return how many jobs run at once of the handlers that are limited."""
        return self._registry.running_limits

    def handler_names(self) -> list[str]:
        """Return the names of all handlers."""
        return self._registry.names

    def handlers_of(self, mode: Mode) -> list[HandlerDefinition]:
        """Return the handlers that run like this."""
        return self._registry.of_mode(mode)

    @property
    def keeps_logs(self) -> bool:
        """Whether there are handlers whose logs are kept."""
        return self._registry.keeps_logs

    def wants_fresh_child(self, job: ClaimedJob) -> bool:
        """Whether this job is to have a child process for itself."""
        definition = self._registry.find(job.handler)
        return definition is not None and definition.options.fresh

    def resources_of(self, *modes: Mode) -> list[ResourceDefinition]:
        """Return the resources that the handlers of these modes want. Raises `ResourceError`."""
        return self._registry.resources_of(*modes)

    def timeout_of(self, job: ClaimedJob) -> float | None:
        """Return how long a run of this job may take: the job's own word, else its handler's, else the default."""
        if job.timeout is not None:
            return job.timeout
        definition = self._registry.find(job.handler)
        own = definition.options.timeout if definition is not None else None
        return self._defaults.timeout if own is None else own

    def timed_out(self, job: ClaimedJob, how: str = "", traceback: str | None = None) -> Outcome:
        """Return the outcome of a run that took too long; `how` tells what came of that."""
        failure = Failure("timeout", f"ran longer than its timeout of {self.timeout_of(job):g} s{how}", traceback)
        return Errored(failure, self._backoff(job))

    def crashed(self, job: ClaimedJob, cause: str, max_crashes: int, traceback: str | None) -> Outcome:
        """Return the outcome of a run whose child process died."""
        crashes = job.crashes + 1
        gives_up = crashes >= max_crashes
        count = f"; stopped after {crashes} crashes" if gives_up else f" (crash {crashes})"
        return Crashed(Failure("crash", f"{cause} while it ran this job{count}", traceback), gives_up)

    def _unforeseen(self, error: BaseException, job: ClaimedJob, prepared: Run | Outcome | None) -> Outcome:
        if isinstance(prepared, Run) and (transaction := prepared.current.end()) is not None:
            transaction.roll_back()
        failure = Failure("exception", safe_text(error), safe_traceback(error))
        return Errored(failure, delay_after(self._defaults.backoff, _spent(job)))

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
        self.tell_started(job)
        own = CurrentJob(job, args, kwargs, self._workplace, definition.options.keep_log)
        if definition.injections:
            args, kwargs = inject(definition.injections, args, kwargs, self.resources)
        return Run(job, definition, own, args, kwargs)

    def _call(self, run: Run, call: Call | None) -> Outcome:
        token = current.enter(run.current)
        try:
            if self._registry.middlewares:
                return finished(self._call_inside(run, partial(_attempt, run, call)))
            function = run.definition.function
            result = function(*run.args, **run.kwargs) if call is None else call(function, run.args, run.kwargs)
        except BaseException as error:  # noqa: BLE001 - SystemExit and all: a job must not end its worker
            return self._ended_by(error, run)
        finally:
            current.leave(token)
        return self._returned(result, run)

    async def _await(self, run: Run, call: AsyncCall) -> Outcome:
        token = current.enter(run.current)
        try:
            if self._registry.middlewares:
                return await self._call_inside(run, partial(_attempt_async, run, call))
            result = await call(run.definition.function, run.args, run.kwargs)
        except BaseException as error:  # noqa: BLE001 - as above
            return self._ended_by(error, run)
        finally:
            current.leave(token)
        return self._returned(result, run)

    async def _call_inside(self, run: Run, attempt: Attempt) -> Outcome:
        """Call the handler inside of its middlewares."""
        around = Around(self._registry.middlewares, run.current, run.definition.mode is Mode.ASYNC)
        result, error = None, await around.enter()
        if error is None:
            result, error = await attempt()
        error = await around.leave(result, error)
        return self._returned(result, run) if error is None else self._ended_by(error, run)

    def _returned(self, result: Any, run: Run) -> Outcome:
        """The handler has run, so it is never run again for a result that cannot be stored."""
        if result is None:
            return _WITHOUT_RESULT
        if inspect.iscoroutine(result):
            result.close()
            reason = "the handler returned a coroutine that nobody awaits; register the async def itself"
            return GaveUp(Failure("not_awaited", reason))
        try:
            return Succeeded(encode_json(result, "result", self._defaults.result_limit))
        except BaseException as error:  # noqa: BLE001 - a class of the handler's may raise anything when it is read
            reason = cut(str(error)) if isinstance(error, ArgumentsError) else safe_text(error)
            log.warning("job %d (%s) succeeded, but its result is not stored: %s", run.job.id, run.job.handler, reason)
            marker = {"durablejobs": "the result could not be stored", "reason": reason}
            return Succeeded(encode_json(marker, "result", 10 * LONGEST_MESSAGE))

    async def _settled(self, run: Run, transaction: Transaction, outcome: Outcome) -> Outcome:
        """End the run's own transaction: with the job's ending in it, or rolled back for all but a success."""
        if not isinstance(outcome, Succeeded):
            transaction.roll_back()
            return outcome
        try:
            was_open = await transaction.settle(outcome, self._workplace.monotonic() - run.current.began)
        except BaseException as error:  # noqa: BLE001 - all that it wrote is rolled back: a failed attempt
            return self._ended_by(error, run)
        return Settled(outcome.result) if was_open else outcome

    def _ended_by(self, error: BaseException, run: Run) -> Outcome:
        """Turn what the handler raised into an ending, without the arguments that are to be hidden."""
        outcome = self._ending_of(error, run)
        redaction = run.definition.redaction
        if redaction is None or isinstance(outcome, Snoozed | Succeeded | Settled):
            return outcome

        def hide(text: str) -> str:
            return redaction.in_text(text, run.current.args, run.current.kwargs)

        message, trace = outcome.failure.message, outcome.failure.traceback
        failure = replace(outcome.failure, message=hide(message), traceback=None if trace is None else hide(trace))
        return replace(outcome, failure=failure)

    def _ending_of(self, error: BaseException, run: Run) -> Outcome:
        match error:
            case Snooze():
                return Snoozed(error.delay)
            case Fail():
                return GaveUp(Failure("fail", cut(storable(error.reason))))
            case Cancel():
                return Stopped(Failure("cancel", cut(storable(error.reason))))
            case Retry():
                reason = cut(storable(error.reason)) or "the handler asked for another attempt"
                return Errored(Failure("retry", reason), self._backoff(run.job) if error.delay is None else error.delay)
            case HandlerSignal():
                return Errored(Failure("exception", safe_text(error)), self._backoff(run.job))
            case JobCancelled():
                return CANCELLED
            case _:
                return self._failed_by(error, run)

    def _failed_by(self, error: BaseException, run: Run) -> Outcome:
        if _is_from_timeout(error) and self.timeout_of(run.job) is not None:
            return self.timed_out(run.job, traceback=safe_traceback(error))
        if isinstance(error, TypeError):  # did the call itself not fit? then another attempt cannot help
            try:
                run.definition.check_arguments(run.current.args, run.current.kwargs)
            except ArgumentsError as mismatch:
                return GaveUp(Failure("bad_arguments", str(mismatch)))
        failure = Failure("exception", safe_text(error), safe_traceback(error))
        if not run.definition.options.is_worth_another_attempt(error):
            return GaveUp(failure)
        return Errored(failure, self._backoff(run.job))

    def _backoff(self, job: ClaimedJob) -> float:
        definition = self._registry.find(job.handler)
        own = definition.options.backoff if definition is not None else None
        return delay_after(own or self._defaults.backoff, _spent(job))


async def _attempt(run: Run, call: Call | None) -> tuple[Any, BaseException | None]:
    """Call the handler; return what it has returned or raised.

    Nothing is raised, because a `StopIteration` that leaves a coroutine becomes another error.
    """
    function = run.definition.function
    try:
        return function(*run.args, **run.kwargs) if call is None else call(function, run.args, run.kwargs), None
    except BaseException as raised:  # noqa: BLE001 - SystemExit and all: a job must not end its worker
        return None, raised


async def _attempt_async(run: Run, call: AsyncCall) -> tuple[Any, BaseException | None]:
    """The same for a handler that is awaited."""
    try:
        return await call(run.definition.function, run.args, run.kwargs), None
    except BaseException as raised:  # noqa: BLE001 - as above
        return None, raised


def _spent(job: ClaimedJob) -> int:
    return max(1, job.attempt - job.crashes)


def _is_from_timeout(error: BaseException | None) -> bool:
    """Whether this is a `JobTimeout`, or what a handler's cleaning up, or a library, made of one."""
    for _ in range(100):  # a chain may be a ring
        if error is None or isinstance(error, JobTimeout):
            return error is not None
        error = error.__cause__ or error.__context__
    return False


_generation = 0
"""How many forks lie between this process and the first; to count them costs no system call at each run."""


def _note_fork() -> None:
    global _generation
    _generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def _end_if_forked(generation: int, job: ClaimedJob) -> None:
    """End a process that the handler has forked: it would settle the run, and then run what is its parent's to run."""
    if generation == _generation:
        return
    log.error(
        "job %d (%s): a process that its handler has forked came back from the handler, and is ended; "
        "end it in the handler, by os._exit()",
        job.id,
        job.handler,
    )
    os._exit(1)
