"""The lane of the `async def` handlers: one event loop in a thread of its own, many jobs at once."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence, Set
from contextlib import suppress
from functools import partial
from typing import Any, Final

from .clock import Clock
from .escaping import escaped
from .executor import CANCELLED, Executor
from .interrupts import Interruption
from .jobs import ClaimedJob
from .lane import Ledger, Mark, Wake
from .outcomes import JobCancelled, JobTimeout
from .store.endings import Ending
from .watchdog import REPORT_EVERY, Watchdog, place_in, place_of

log = logging.getLogger("durablejobs.worker")

BLOCKED_AFTER: Final = 2.0
"""Seconds after which a loop that does not answer is reported."""
_RESOURCE_PATIENCE: Final = 60.0
"""Seconds that a resource may take to be set up or taken down."""
_PATIENCE: Final = 2.0
"""Seconds that `stop` waits for handlers that are cancelled."""


class _Run:
    """One job on the loop; only the loop's thread changes it."""

    def __init__(self, job: ClaimedJob) -> None:
        self.job: Final = job
        self.task: asyncio.Task[None] | None = None
        self._is_called = False
        self._interruption: Interruption | None = None

    def interrupt(self, how: Interruption) -> None:
        """Cancel the handler, once."""
        if self._interruption is None:
            self._interruption = how
            if self._is_called and self.task is not None:
                self.task.cancel()

    async def call(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Await the handler; what its cancellation meant is raised instead of `CancelledError`."""
        if self._interruption is not None:
            raise self._interruption
        self._is_called = True
        try:
            return await function(*args, **kwargs)
        except asyncio.CancelledError as error:
            if self._interruption is None:
                raise
            raise self._interruption from error
        finally:
            self._is_called = False  # what follows, a commit perhaps, is not interrupted

    def place(self) -> str:
        """Return where the handler waits: `file.py:12 (function)`."""
        awaited: Any = self.task.get_coro() if self.task is not None else None
        frame = None
        while (inner := getattr(awaited, "cr_frame", None)) is not None:
            frame, awaited = inner, awaited.cr_await
        return place_in(frame)


class EventLoop(Ledger):
    """Runs up to `count` jobs at once on one event loop; each begins as soon as the loop gets to it."""

    def __init__(
        self, count: int, executor: Executor, watchdog: Watchdog, mark: Mark, clock: Clock, wake: Wake
    ) -> None:
        super().__init__()
        self.count: Final = count
        self._executor = executor
        self._watchdog = watchdog
        self._mark = mark
        self._clock = clock
        self._wake = wake
        self._ready: deque[ClaimedJob] = deque()
        self._free_places = list(range(count))
        self._runs: dict[int, _Run] = {}
        self._asked_at: float | None = None
        self._stopper = ""
        self._context = contextvars.copy_context()
        self._loop = asyncio.new_event_loop()
        self._is_over = asyncio.Event()
        self._thread = threading.Thread(target=self._turn, name="durablejobs-event-loop", daemon=True)
        self.last_submit = clock.monotonic()

    # The lane, called by the worker

    def start(self) -> None:
        """Start the loop."""
        self._thread.start()

    def submit(self, claimed: Sequence[ClaimedJob]) -> None:
        """Hand over jobs to run."""
        self.last_submit = self._clock.monotonic()
        self._unfinished += len(claimed)
        self._ready.extend(claimed)
        self._soon(self._begin)

    def take_unstarted(self) -> list[ClaimedJob]:
        """Take back the jobs that the loop has not begun."""
        unstarted: list[ClaimedJob] = []
        while self._ready:
            try:
                unstarted.append(self._ready.pop())
            except IndexError:  # the loop was faster
                break
        self._unfinished -= len(unstarted)
        return unstarted[::-1]

    @property
    def waiting(self) -> int:
        """Jobs that the loop has not begun."""
        return len(self._ready)

    def running(self) -> list[ClaimedJob]:
        """Return the jobs that run at this moment."""
        return [run.job for run in list(self._runs.values())]

    def cancel(self, job_ids: Set[int]) -> None:
        """Cancel the tasks of these jobs."""
        for run in list(self._runs.values()):
            if run.job.id in job_ids:
                self._soon(run.interrupt, JobCancelled)

    def wait_for(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine on the loop, to its end; a loop that a handler blocks is not waited for without end."""
        waiting = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            waiting.result(_RESOURCE_PATIENCE)
        except TimeoutError:
            if waiting.done():
                raise
            waiting.cancel()
            raise TimeoutError(f"it was not done after {_RESOURCE_PATIENCE:g} s") from None

    def look(self) -> None:
        """Report a loop that a handler blocks: all the others wait."""
        now = self._clock.monotonic()
        if self._asked_at is None:
            self._asked_at = now
            self._soon(self._answer)
        elif now - self._asked_at > BLOCKED_AFTER:
            log.error(
                "the event loop is blocked in %s: all async jobs wait; see docs/execution.md",
                escaped(place_of(self._thread.ident or 0)),
            )
            self._asked_at = now + REPORT_EVERY - BLOCKED_AFTER

    def stop(self) -> None:
        """Cancel what still runs, and end."""
        if self._thread.ident is not None:
            self._soon(self._is_over.set)
            self._thread.join(_PATIENCE)

    def _soon(self, callback: Callable[..., object], *args: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nothing runs there any more
            self._loop.call_soon_threadsafe(callback, *args)

    # In the loop's thread

    def _turn(self) -> None:
        self._loop.stop = partial(self._note_stop, self._loop.stop)  # type: ignore[method-assign]
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            while not self._is_over.is_set():
                try:
                    runner.run(self._is_over.wait())
                except (SystemExit, KeyboardInterrupt) as error:  # asyncio lets these two of any task through
                    log.error("a task that an async handler has started raised %r; the event loop goes on", error)
                except RuntimeError:  # somebody has stopped the loop before all is over
                    if self._loop.is_closed():
                        raise
                    log.error("%s has stopped the event loop of all async jobs; it goes on", self._stopper)

    def _note_stop(self, stop: Callable[[], None]) -> None:
        """Stop the loop, and remember who wants that, as far as it can be known: he may have ended when it is said."""
        task = asyncio.current_task(self._loop)
        jobs = [run.job for run in self._runs.values() if task is not None and run.task is task]
        self._stopper = f"job {jobs[0].id} ({escaped(jobs[0].handler)})" if jobs else "a task of some async handler"
        stop()

    def _answer(self) -> None:
        self._asked_at = None

    def _begin(self) -> None:
        while self._free_places and not self._is_over.is_set():
            try:
                job = self._ready.popleft()
            except IndexError:
                return
            place = self._free_places.pop()
            self._runs[place] = run = _Run(job)
            # Not the context of whoever happens to call this: that may be another job's run, at its end.
            run.task = self._loop.create_task(self._serve(run, place), context=self._context.copy())

    async def _serve(self, run: _Run, place: int) -> None:
        job = run.job
        self._mark(place, job.id)
        timeout = self._executor.timeout_of(job)
        if timeout is not None:
            self._watchdog.watch(job, timeout, partial(self._time_out, run), run.place)
        started_at = self._clock.now_text()
        is_cancelled = job.id in self._executor.cancellations
        outcome = CANCELLED if is_cancelled else await self._executor.run_async(job, run.call)
        ended_at = self._clock.now_text()
        if timeout is not None:
            self._watchdog.release(job)
        self._mark(place, 0)
        del self._runs[place]
        self._free_places.append(place)
        self._finished.append(Ending(job, outcome, min(started_at, ended_at), ended_at))
        self._wake()
        self._begin()

    def _time_out(self, run: _Run) -> bool:
        self._soon(run.interrupt, JobTimeout)
        return True
