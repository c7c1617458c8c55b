"""Middleware: generators around every run. What stands before the `yield` happens before the handler, the rest after.

    def timed(job):
        since = time.monotonic()
        result = yield          # here the handler runs; what it raises is raised here
        log.info("%s took %g s", job, time.monotonic() - since)

One form serves plain and async handlers. An error in a middleware is logged and never harms the job; only a signal
(`Retry`, `Snooze`, `Fail`, `Cancel`) that it raises decides the run's ending, and so does what stops a run.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from types import TracebackType
from typing import Any, Final

from .coroutines import AnyGenerator, Ended, advance, close, throw
from .current import CurrentJob
from .errors import RegistrationError
from .failures import safe_text
from .line_limit import LineLimit
from .outcomes import HandlerSignal, JobCancelled, JobTimeout

log = logging.getLogger("durablejobs.middleware")

Middleware = Callable[[CurrentJob], Generator[None, Any, None] | AsyncGenerator[None, Any]]


def check_middleware(function: Any) -> None:
    """Raise `RegistrationError` for what is no generator function of the job."""
    if not inspect.isgeneratorfunction(function) and not inspect.isasyncgenfunction(function):
        raise RegistrationError(
            f"a middleware is a generator function of the job, `def around(job): …; yield; …`, not {function!r}"
        )


class Around:
    """The middlewares around one run, the first registered outermost; each is left in the reverse order.

    Coroutines, because those of async handlers may wait; around a plain handler nothing waits.
    """

    def __init__(self, middlewares: Sequence[Middleware], job: CurrentJob, is_async: bool) -> None:
        self._middlewares = [each for each in middlewares if is_async or not inspect.isasyncgenfunction(each)]
        self._job = job
        self._entered: list[AnyGenerator] = []

    async def enter(self) -> BaseException | None:
        """Go through what stands before each `yield`; return the signal that keeps the handler from being called."""
        for middleware in self._middlewares:
            try:
                generator = middleware(self._job)
                await advance(generator)
            except Ended:
                self._note("did not yield", middleware)
            except BaseException as error:  # noqa: BLE001 - its mistake must not harm the job
                if _decides(error):
                    return error
                self._note(safe_text(error), middleware, error)
            else:
                self._entered.append(generator)
        return None

    async def leave(self, result: Any, error: BaseException | None) -> BaseException | None:
        """Go through what stands after each `yield`, innermost first.

        Returns what the run has raised in the end: the handler's own error, or the signal of a middleware.
        """
        for generator in reversed(self._entered):
            error = await self._leave_one(generator, result, error)
        return error

    async def _leave_one(
        self, generator: AnyGenerator, result: Any, error: BaseException | None
    ) -> BaseException | None:
        trace = error.__traceback__ if error is not None else None
        try:
            await (advance(generator, result) if error is None else throw(generator, error))
        except Ended:
            return _with(trace, error)  # an error that it swallows is the run's all the same
        except BaseException as raised:  # noqa: BLE001 - as above
            if _decides(raised):
                return raised
            if error is None or error not in (raised, raised.__cause__):  # StopIteration comes back as a cause
                self._note(safe_text(raised), generator, raised)
            return _with(trace, error)
        self._note("yields more than once", generator)
        await close(generator)
        return error

    def _note(self, problem: str, culprit: Any, error: BaseException | None = None) -> None:
        if _limit.allows():
            name = getattr(culprit, "__name__", culprit)
            log.error("middleware %s around job %d: %s", name, self._job.id, problem, exc_info=error)


def _decides(error: BaseException) -> bool:
    """Whether this is meant for the run: a signal, or what stops a run from outside."""
    return isinstance(error, HandlerSignal | JobTimeout | JobCancelled | asyncio.CancelledError)


def _with(trace: TracebackType | None, error: BaseException | None) -> BaseException | None:
    """Return the handler's error as it was, without its way through a middleware."""
    return None if error is None else error.with_traceback(trace)


def _say_left_out(count: int) -> None:
    log.error("… and %d more errors of middlewares", count)


_limit: Final = LineLimit(_say_left_out)
