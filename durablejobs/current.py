"""The job that runs here, for its handler."""

from __future__ import annotations

from collections.abc import Callable, Set
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from contextvars import ContextVar
from typing import Any, NamedTuple, NoReturn, Protocol

from .errors import TransactionError
from .jobs import ClaimedJob
from .outcomes import JobCancelled, Succeeded

_current: ContextVar[CurrentJob] = ContextVar("durablejobs_current_job")
enter = _current.set
"""Make this job the current one of the thread or task; returns what `leave` takes."""
leave = _current.reset


class Transaction(AbstractContextManager[Any], AbstractAsyncContextManager[Any], Protocol):
    """A transaction of the queue's database that ends with its run."""

    @property
    def is_open(self) -> bool: ...

    @property
    def is_over(self) -> bool: ...

    async def settle(self, outcome: Succeeded, seconds: float) -> bool: ...

    def roll_back(self) -> None: ...


class Journal(Protocol):
    """Where running jobs say how far they are, and what they do."""

    def progress(self, job: ClaimedJob, done: Any, total: Any, message: Any) -> None: ...

    def log(self, job: ClaimedJob, level: str, message: Any) -> None: ...


class Workplace(NamedTuple):
    """What a run finds around it."""

    transaction: Callable[[ClaimedJob], Transaction]
    journal: Journal
    monotonic: Callable[[], float]
    cancellations: Set[int] = frozenset()
    """The ids of the jobs that were asked to stop."""


def _no_transaction(_job: ClaimedJob) -> NoReturn:
    raise TransactionError("there is no transaction here: the run has ended, or no worker runs it")


class _NoJournal:
    """Listens to nobody."""

    def progress(self, job: ClaimedJob, done: Any, total: Any, message: Any) -> None: ...

    def log(self, job: ClaimedJob, level: str, message: Any) -> None: ...


NOWHERE = Workplace(_no_transaction, _NoJournal(), lambda: 0.0)
"""Outside of a worker, and after the run's end."""


class CurrentJob:
    """The job that runs here, for its handler: `current_job()`."""

    __slots__ = ("_began", "_claimed", "_keeps_log", "_transaction", "_workplace", "args", "kwargs")

    def __init__(
        self,
        claimed: ClaimedJob,
        args: list[Any],
        kwargs: dict[str, Any],
        workplace: Workplace = NOWHERE,
        keeps_log: bool = False,
    ) -> None:
        self._claimed = claimed
        self._workplace = workplace
        self._keeps_log = keeps_log
        self._transaction: Transaction | None = None
        self._began = workplace.monotonic()
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

    @property
    def cancelled(self) -> bool:
        """Whether somebody has asked this job to stop; known within a second."""
        return self._claimed.id in self._workplace.cancellations

    def check_cancelled(self) -> None:
        """Raise `JobCancelled` if somebody has asked this job to stop; let it through, and the job ends cancelled."""
        if self.cancelled:
            raise JobCancelled

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Say how far the job is; people see it within a second.

        Costs a few writes a second however often it is called, and never raises: what makes no sense is left out.
        """
        self._workplace.journal.progress(self._claimed, done, total, message)

    def log(self, message: object, level: str = "info") -> None:
        """Keep a line in the job's log, which `durablejobs show --log` shows; see docs/progress.md for its bounds."""
        self._workplace.journal.log(self._claimed, str(level)[:20], message)

    def transaction(self) -> Transaction:
        """Return a context manager whose value is a SQLAlchemy connection to the queue's database.

        What the handler writes by it commits together with the job's ending when the handler returns, and rolls back
        when it raises: `with` in plain handlers, `async with` in async ones. What it locks, in SQLite the whole
        database against other writers, is locked until then, so let it be the last thing that the handler does.
        Raises `ClaimLostError`, `DatabaseBusyError`.
        """
        if self._transaction is not None and not self._transaction.is_over:
            raise TransactionError(f"job {self.id} has a transaction already: one holds all that a run writes")
        self._transaction = self._workplace.transaction(self._claimed)
        return self._transaction

    @property
    def holds_write_lock(self) -> bool:
        """Whether its transaction is open, so that any other write of the handler would wait for it."""
        return self._transaction is not None and self._transaction.is_open

    def end(self) -> Transaction | None:
        """Lend out nothing more; return the transaction that ends with the run, if it has one."""
        self._workplace = NOWHERE
        return self._transaction

    @property
    def began(self) -> float:
        """When the run began, by the worker's monotonic clock."""
        return self._began

    def __repr__(self) -> str:
        return f"<CurrentJob {self.id} {self.handler} attempt {self.attempt}>"


def running_job() -> CurrentJob | None:
    """Return the job that runs in this thread or task, if one does."""
    return _current.get(None)


def log_keeping_job() -> CurrentJob | None:
    """Return the job that runs in this thread or task, if one does whose handler's log is kept."""
    job = running_job()
    return job if job is not None and job._keeps_log else None


def current_job() -> CurrentJob:
    """Return the job that this handler runs for. Raises `LookupError` outside of a handler."""
    try:
        return _current.get()
    except LookupError:
        raise LookupError("no job runs here: current_job() is for use inside a handler") from None
