"""A handler's own transaction: what it writes there commits together with its job's ending, or not at all.

The transaction begins when the handler asks for it, and proves first that the job is still this worker's: from then on
nobody can take it away, because it is locked, in SQLite with the whole database against other writers. It stays open
until the run has ended. A run that has succeeded writes its ending into it and commits: one commit, so that nothing can
come between effect and ending.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import timedelta
from enum import Enum
from functools import partial
from types import TracebackType
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, event, select

from ..clock import Clock, to_text
from ..errors import ClaimLostError, TransactionError
from ..jobs import ClaimedJob, Notes
from ..outcomes import Succeeded
from ..shielding import Shield
from .conditions import IS_HELD
from .database import Database, LentTransaction
from .endings import Ending, succeed
from .hot import HotStatement
from .notes import write_notes
from .tables import jobs

T = TypeVar("T")

log = logging.getLogger("durablejobs.worker")

LONG: Final = 5.0
"""Seconds; whoever keeps others waiting for longer, all writers in SQLite, is named in the log."""

# FOR UPDATE, where the database has locks on rows, so that nobody takes the job away until the commit.
IS_OURS: Final = HotStatement(select(jobs.c.id).where(*IS_HELD).with_for_update())

# ROLLBACK TO a savepoint is a part of the transaction, not its end.
_ENDS_TRANSACTION: Final = re.compile(
    r"(?:\s|--[^\n]*\n|/\*.*?\*/)*(BEGIN|START|COMMIT|END|ABORT|ROLLBACK(?!\s+(?:\w+\s+)?TO\b))\b",
    re.IGNORECASE | re.DOTALL,
)


class _State(Enum):
    NEW = "has not begun"
    OPEN = "is open"
    OVER = "is over"


class JobTransaction:
    """The transaction of one run, a context manager: `with` in plain handlers, `async with` in async ones.

    Leaving the block by an exception rolls back; otherwise it stays open until `settle` or `roll_back`.
    """

    def __init__(
        self, database: Database, job: ClaimedJob, clock: Clock, last_notes: Callable[[ClaimedJob], Sequence[Notes]]
    ) -> None:
        self._job = job
        self._clock = clock
        self._last_notes = last_notes
        self._transaction = database.lend()
        self._state = _State.NEW
        self._changing = threading.Lock()
        self._guard: _Guard
        self._connection: Connection
        self._began = 0.0

    @property
    def is_open(self) -> bool:
        """Whether it holds locks."""
        return self._state is _State.OPEN

    @property
    def is_over(self) -> bool:
        """Whether it was rolled back or settled, so that the run may begin another one."""
        return self._state is _State.OVER

    def __enter__(self) -> Connection:
        if _event_loop_runs_here():
            raise TransactionError("in an async handler it is `async with current_job().transaction() as connection:`")
        with Shield():
            self._begin(threading.get_ident())
        return self._connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self.roll_back()

    async def __aenter__(self) -> Connection:
        beginning = _in_a_thread(partial(self._begin, threading.get_ident()))
        try:
            await asyncio.wrap_future(beginning)
        except asyncio.CancelledError:
            beginning.add_done_callback(self._roll_back_if_begun)
            raise
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def _roll_back_if_begun(self, beginning: Future[None]) -> None:
        if beginning.exception() is None:
            self.roll_back()

    def _begin(self, thread: int) -> None:
        """Wait for the lock on behalf of a thread; make sure that the job is ours."""
        connection = self._transaction.__enter__()
        try:
            self._transaction.belongs_to(thread)
            with self._changing:
                if self._state is not _State.NEW:
                    raise TransactionError(f"the run of job {self._job.id} has ended: its transaction cannot begin")
                if IS_OURS.run(connection, self._claim).fetchone() is None:
                    raise ClaimLostError(self._job.id)
                connection.begin()  # so that SQLAlchemy, too, knows that a transaction is open: a Session joins it
                self._guard = _Guard(connection, self._transaction)
                self._connection, self._began = connection, self._clock.monotonic()
                self._state = _State.OPEN
        except BaseException:
            self._transaction.roll_back()
            raise

    @property
    def _claim(self) -> dict[str, int]:
        return {"job": self._job.id, "token": self._job.claim_token}

    async def settle(self, outcome: Succeeded, seconds: float) -> bool:
        """Write the ending of a run that took so many seconds, and commit; return False if nothing was open.

        Raises, after everything was rolled back, `ClaimLostError`, `TransactionError`, or what the commit raises.
        Waits only on an event loop, which it does not block; once begun, it goes on although the task is cancelled.
        """
        if not _event_loop_runs_here():
            return self._settle(outcome, seconds)
        settling = _in_a_thread(partial(self._settle, outcome, seconds))
        return await asyncio.shield(asyncio.wrap_future(settling))

    def _settle(self, outcome: Succeeded, seconds: float) -> bool:
        if not self._close():
            return False
        try:
            if self._guard.offence is not None:
                raise TransactionError(_refusal(self._guard.offence))
            write_notes(self._connection, self._last_notes(self._job))
            now = self._clock.now()
            ending = Ending(self._job, outcome, to_text(now - timedelta(seconds=seconds)), to_text(now))
            if succeed(self._connection, [ending]):
                raise ClaimLostError(self._job.id)
        except BaseException as error:
            self._transaction.__exit__(type(error), error, error.__traceback__)
            raise
        self._transaction.commit()
        return True

    def roll_back(self) -> None:
        """Undo what was written, if anything was."""
        with Shield():
            if self._close():
                self._transaction.roll_back()

    def _close(self) -> bool:
        """Take the connection back from the handler; return whether it was lent out."""
        with self._changing:
            was_open, self._state = self._state is _State.OPEN, _State.OVER
        if was_open:
            self._guard.lift()
            held = self._clock.monotonic() - self._began
            if held > LONG:
                log.warning(
                    "job %d (%s) has kept its transaction open for %.1f s, and others waiting for what it locks: "
                    "let it be the last thing that the handler does",
                    self._job.id,
                    self._job.handler,
                    held,
                )
        return was_open


class _Guard:
    """Keeps whoever has the connection from ending its transaction, or from getting away with it."""

    def __init__(self, connection: Connection, transaction: LentTransaction) -> None:
        self._connection = connection
        self._transaction = transaction
        self.offence: str | None = None
        """What was tried; then nothing of the transaction is stored, although it was refused."""
        for name, listener in self._listeners:
            event.listen(connection, name, listener)
        transaction.forbid_end(self._note)

    @property
    def _listeners(self) -> list[tuple[str, Callable[..., None]]]:
        return [
            ("commit", self._refuse_commit),
            ("rollback", self._refuse_rollback),
            ("before_cursor_execute", self._refuse_as_text),
        ]

    def lift(self) -> None:
        """Let the transaction be ended."""
        for name, listener in self._listeners:
            event.remove(self._connection, name, listener)
        self._transaction.allow_end()

    def _note(self, what: str) -> None:
        self.offence = what

    def _refuse(self, what: str) -> None:
        self._note(what)
        raise TransactionError(_refusal(what))

    def _refuse_commit(self, _connection: Connection) -> None:
        self._refuse("commit()")

    def _refuse_rollback(self, _connection: Connection) -> None:
        self._refuse("rollback() or close()")

    def _refuse_as_text(self, _connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        found = _ENDS_TRANSACTION.match(statement)
        if found is not None:
            self._refuse(found[1].upper())


def _refusal(what: str) -> str:
    return (
        f"{what} in a job's transaction: it commits when the handler returns and rolls back when it raises; "
        f"for a part that may fail use connection.begin_nested()"
    )


def _event_loop_runs_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _in_a_thread(act: Callable[[], T]) -> Future[T]:
    """Do it in a thread of its own, which nobody else can fill, and which keeps no process alive."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # so that a cancelled task cannot pretend that it was not done

    def run() -> None:
        try:
            future.set_result(act())
        except BaseException as error:  # noqa: BLE001 - raised again where the future is awaited
            future.set_exception(error)

    threading.Thread(target=run, name="durablejobs-transaction", daemon=True).start()
    return future
