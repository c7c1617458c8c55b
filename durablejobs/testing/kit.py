"""The kit: an application's `DurableJobs` on a fresh database of the test, by a clock of the test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from ..app import DurableJobs
from ..config import FOREVER, Retention, WorkerConfig, checked_options
from ..current import current_job
from ..handler import Handler
from ..jobs import Job
from ..outcomes import Errored, Failure, GaveUp
from ..records import JobFilter
from ..statuses import Status
from ..store import Store
from .clock import ManualClock
from .crash import crashed
from .expectations import Expectation, Where, table_of
from .inline import inline_client

if TYPE_CHECKING:
    from ..store.endings import Ending

_MOST_JOBS: Final = 100_000
_MOST_ROUNDS: Final = 1000


class JobsKit:
    """A test's hold on the jobs of an application; use it in a `with` block, or by the fixture `durablejobs_kit`.

    In the block `jobs` works on a new database in `directory` and by `clock`, which stands still until it is told to
    `advance`; afterwards it is back where it was.
    """

    def __init__(self, jobs: DurableJobs, directory: str | os.PathLike[str]) -> None:
        self.jobs = jobs
        self.path = Path(directory).absolute() / "durablejobs-test.db"
        self.clock = ManualClock(datetime.now(UTC))
        self._where = Where()
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        self._store = Store(self.path, clock=self.clock)
        self._undo.callback(self._store.close)
        self._undo.enter_context(self.jobs.lent_to(self._store))
        self._store.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    # What was enqueued

    def where(self, **conditions: Any) -> JobsKit:
        """Return the kit with conditions for its assertions: see `Where`.

        A method of its own, because a handler may have parameters of these names.
        """
        other = object.__new__(type(self))
        other.__dict__ |= self.__dict__
        other._where = replace(self._where, **checked_options(Where, conditions))
        return other

    def enqueued(self, handler: Handler[..., Any] | str | None = None, /, *args: Any, **kwargs: Any) -> list[Job]:
        """Return the jobs, in whatever status, that call this handler with these arguments; oldest first.

        Arguments that are not given may be anything. Without a handler: all jobs.
        """
        now = self.clock.now()
        found = [job for job in self._all_jobs() if self._where.holds(job, now)]
        if handler is None:
            return found
        expectation = self._expectation(handler, args, kwargs)
        return [job for job in found if expectation.matches(job)]

    def assert_enqueued(self, handler: Handler[..., Any] | str, /, *args: Any, **kwargs: Any) -> Job:
        """Return the oldest job that calls this handler with these arguments; fail with a table when there is none.

        Arguments that are not given may be anything; conditions are named before: `kit.where(within=60)`.
        """
        __tracebackhide__ = True
        found = self.enqueued(handler, *args, **kwargs)
        count = self._where.count
        if count is not None and len(found) != count:
            raise self._failure(f"{len(found)} jobs, not {count},", "were", handler, args, kwargs)
        if not found:
            raise self._failure("no job", "was", handler, args, kwargs)
        return found[0]

    def refute_enqueued(self, handler: Handler[..., Any] | str | None = None, /, *args: Any, **kwargs: Any) -> None:
        """Fail with a table when there is a job that calls this handler with these arguments; or any job at all."""
        __tracebackhide__ = True
        found = self.enqueued(handler, *args, **kwargs)
        if found:
            ids = ", ".join(str(job.id) for job in found[:10])
            raise self._failure(f"job {ids}", "was", handler, args, kwargs)

    def _all_jobs(self) -> list[Job]:
        return self.jobs.list_jobs(limit=_MOST_JOBS)[::-1]

    def _expectation(self, handler: Handler[..., Any] | str, args: Any, kwargs: Any) -> Expectation:
        name = handler if isinstance(handler, str) else handler.name
        definition = self.jobs.registry.find(name)
        return Expectation(name, args, kwargs, definition.signature if definition is not None else None)

    def _failure(self, found: str, verb: str, handler: Any, args: Any, kwargs: Any) -> AssertionError:
        call = f" {self._expectation(handler, args, kwargs)}" if handler is not None else ""
        conditions = f" where {self._where}" if str(self._where) else ""
        return AssertionError(f"{found}{call}{conditions} {verb} enqueued; there are:\n{self._table()}")

    def _table(self) -> str:
        return table_of(self._all_jobs(), self.clock.now())

    # Running

    def drain(self, *, future: bool = False, check: bool = True, **options: Any) -> list[Job]:
        """Run all jobs that are due, and those that they enqueue; return the jobs that ran, as they are now.

        It is a worker in this process with one slot: handlers run in a thread, through JSON, one after another.
        `future`: advance the clock to what is due later, until nothing is left. `check`: fail when an attempt fails.
        `options` are those of `WorkerConfig`.
        """
        __tracebackhide__ = True
        endings: list[Ending] = []
        for _ in range(_MOST_ROUNDS):
            self._work(options, endings)
            failures = [ending for ending in endings if isinstance(ending.outcome, Errored | GaveUp)]
            if check and failures:
                raise AssertionError(self._failure_text(failures, len(endings)))
            due = self._next_due() if future else None
            if due is None:
                break
            self.clock.advance(due - self.clock.now())
        ran = dict.fromkeys(ending.job.id for ending in endings)
        still_there = {job.id: job for job in self._all_jobs()}
        return [still_there[job_id] for job_id in ran if job_id in still_there]

    def _work(self, options: dict[str, Any], endings: list[Ending]) -> None:
        config = WorkerConfig(**{"concurrency": 1, "burst": True, "retention": _KEEP_ALL, **options})
        self.jobs.worker(config, on_ending=lambda ending, _status: endings.append(ending)).run()

    def _next_due(self) -> datetime | None:
        scheduled = self.jobs.list_jobs(JobFilter((Status.SCHEDULED,)), limit=_MOST_JOBS)
        return min((job.run_at for job in scheduled), default=None)

    def _failure_text(self, failures: list[Ending], runs: int) -> str:
        parts = [f"{len(failures)} of {runs} runs failed; pass check=False where that is meant:", self._table()]
        for ending in failures[:5]:
            assert isinstance(ending.outcome, Errored | GaveUp)
            parts.append(f"job {ending.job.id} ({ending.job.handler}): {_text(ending.outcome.failure)}")
        return "\n".join(parts)

    @contextmanager
    def inline(self) -> Iterator[None]:
        """In the block each enqueue runs its job, and what it enqueues, before it returns: see `drain`.

        The job takes the way of every job, through its row and JSON. One that is delayed, or part of a transaction
        of yours, waits for the next drain.
        """

        def run() -> None:
            __tracebackhide__ = True
            try:
                current_job()
            except LookupError:
                self.drain()

        with self.jobs.lent_to(self._store, inline_client(run)):
            yield

    def crash_worker(
        self,
        at: Literal["start", "end"] = "end",
        *,
        handler: Handler[..., Any] | str | None = None,
        when: Callable[[], bool] | None = None,
        timeout: float = 30.0,
    ) -> Job:
        """Run a worker in a process of its own and kill it (SIGKILL) with a job in hand; return that job.

        `start`: when the job is claimed, before the handler is called. `end`: when the handler has returned, before
        that is stored. `when`: as soon as this function of yours returns true. `handler`: jobs of others run first.
        A handler that kills its own process is fine too. The application must be importable by name. The next worker,
        `drain()` for example, rescues the job and runs it again.
        """
        name = handler if handler is None or isinstance(handler, str) else handler.name
        return crashed(self.jobs, self.clock.now(), at, name, when, timeout)


_KEEP_ALL: Final = Retention(succeeded=FOREVER, cancelled=FOREVER, failed=FOREVER)


def _text(failure: Failure) -> str:
    return failure.traceback or failure.message
