"""What holds in our sessions and transactions; and transactions that write, begun and ended in one round trip each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, PendingRollbackError

from ...errors import CommitUnknownError, DatabaseUnreachableError, DatabaseUnusableError
from ...shielding import Shield
from ..hot import driver_of
from ..transaction import Transaction
from .connecting import DriverConnection
from .driver_errors import first_line, postgres_error, translate

# The server's time comes along with each beginning, so that learning it costs nothing.
_CLOCK: Final = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

STATEMENT_TIMEOUT: Final = 60
"""Seconds for a statement, and for a pause between two of a transaction: a stopped process keeps no lock for ever."""
_TIMEOUTS: Final = {
    "statement_timeout": f"'{STATEMENT_TIMEOUT}s'",
    "idle_in_transaction_session_timeout": f"'{STATEMENT_TIMEOUT}s'",
}
# Compiling a statement, which is done where the costs are estimated high, takes longer than any of ours.
_USUAL: Final = {"TimeZone": "'UTC'", "DateStyle": "'ISO, YMD'", "jit": "'off'"}
# Off, the default on some servers, would lose acknowledged jobs; stronger than on is left as it is.
_DURABLE: Final = {
    "synchronous_commit": (
        "CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END"
    )
}
# Planning the claim of fifty queues takes 10 ms, running it 2 ms. Left to itself the server would plan it each time,
# in the hope of a better plan for these values; there is none. A plan that was made while the table was empty must not
# read it from end to end until the next ANALYZE.
_HOT: Final = {"plan_cache_mode": "'force_generic_plan'", "enable_seqscan": "'off'"}
# What the user may have chosen holds again in transactions that run other statements too: NULL is the default.
_COOL: Final = dict.fromkeys(_HOT, "NULL")
# Another program may have left its own in a session that a pooler shares out.
_READABLE: Final = {"client_encoding": "'UTF8'"}

RESET: Final = (
    "RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL; CLOSE ALL; UNLISTEN *; SELECT pg_advisory_unlock_all(); "
    "DISCARD TEMP"
)
"""What DISCARD ALL does to a session, but for the prepared statements, of which the driver knows that they are."""


def _set(settings: Mapping[str, str], is_local: bool) -> str:
    return ", ".join(f"set_config('{name}', {value}, {str(is_local).lower()})" for name, value in settings.items())


def _patience(busy_timeout: float) -> dict[str, str]:
    return {"lock_timeout": f"'{max(1, int(busy_timeout * 1000))}'"}


def session(busy_timeout: float) -> str:
    """Return the statement that makes a session ours: what holds in it whatever its defaults were."""
    # For hot statements outside of our transactions, each of which is one of its own.
    alone = {
        "default_transaction_isolation": "'read committed'",
        "default_transaction_read_only": "'off'",
        "statement_timeout": _TIMEOUTS["statement_timeout"],
    }
    return f"SELECT {_set(_USUAL | _DURABLE | _patience(busy_timeout) | _HOT | alone, is_local=False)}"


class Beginnings(NamedTuple):
    """How transactions begin: two statements for one round trip, the second returns the server's time first."""

    reading: str
    """One snapshot for all statements, as in SQLite."""
    writing: str
    """Read committed, whatever the default: the statements are written for it."""
    hot: str
    """The same for hot statements alone: of each one plan is kept."""


def beginnings(busy_timeout: float, has_own_session: bool) -> Beginnings:
    """Return how transactions begin: behind a pooler, which gives each another session, with all that a session has."""
    reading, writing = "ISOLATION LEVEL REPEATABLE READ READ ONLY", "ISOLATION LEVEL READ COMMITTED READ WRITE"
    if has_own_session:
        return Beginnings(
            _begin(reading, _COOL | {"statement_timeout": "NULL"}),
            _begin(writing, _COOL | _TIMEOUTS),
            _begin(writing, _TIMEOUTS),
        )
    in_each = _READABLE | _USUAL
    in_each_that_writes = in_each | _DURABLE | _patience(busy_timeout) | _TIMEOUTS
    return Beginnings(
        _begin(reading, in_each), _begin(writing, in_each_that_writes), _begin(writing, in_each_that_writes | _HOT)
    )


def _begin(mode: str, settings: Mapping[str, str]) -> str:
    return f"BEGIN {mode}; SELECT {_CLOCK}, {_set(settings, is_local=True)}"


_AS_LONG_AS_IT_LIKES: Final = (
    "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; "
    "SET LOCAL tcp_keepalives_idle = 10; SET LOCAL tcp_keepalives_interval = 5; SET LOCAL tcp_keepalives_count = 3; "
    "SET LOCAL tcp_user_timeout = 20000"
)


class WriteTransaction(Transaction):
    """See `PostgresDatabase.write`. No timeout interrupts who is in: the connection would be lost to the pool."""

    __slots__ = ("_begin", "_busy_timeout", "_location", "_shield")

    def __init__(self, begin: Callable[[], Connection], location: str, busy_timeout: float) -> None:
        self._begin = begin
        self._location = location
        self._busy_timeout = busy_timeout
        self._shield = Shield()

    def __enter__(self) -> Connection:
        self._shield.up()
        try:
            self._connection = self._begin()
        except BaseException as error:
            self._shield.down()
            self._raise_translated(error)
            raise
        self._driver = driver_of(self._connection)
        return self._connection

    def _commit(self) -> None:
        if self._driver.info.transaction_status is TransactionStatus.INERROR:
            # The server would answer COMMIT with a rollback, and the driver would not complain.
            self._roll_back()
            raise DatabaseUnusableError(self._location, "a statement had failed; nothing was stored")
        try:
            self._driver.commit()
            if self._connection.in_transaction():  # SQLAlchemy's own notion, begun by its first statement
                self._connection.commit()
        except BaseException as error:
            is_unknown = self._driver.closed
            self._roll_back()
            cause = postgres_error(error)
            if cause is not None and is_unknown:  # the answer is lost, not necessarily the commit
                raise CommitUnknownError(self._location, first_line(cause)) from error
            self._raise_translated(error)
            raise

    def _roll_back(self) -> None:
        try:
            self._driver.rollback()
            self._connection.rollback()
        except (DBAPIError, psycopg.Error):
            self._connection.invalidate()

    def _release(self) -> None:
        try:
            if self._driver.closed:  # the pool would try to roll it back, and log a traceback
                self._connection.invalidate()
            self._connection.close()
        finally:
            self._shield.down()

    def _raise_translated(self, error: BaseException) -> None:
        translated = translate(error, self._location, self._busy_timeout)
        if translated is None and isinstance(error, PendingRollbackError) and self._driver.closed:
            # A statement before had noticed it, and its error was passed over.
            translated = DatabaseUnreachableError(self._location, "the connection was lost")
        if translated is not None:
            raise translated from error


class LentTransaction(WriteTransaction):
    """A transaction whose connection is lent to a handler."""

    __slots__ = ("_clean", "_tell")

    def __init__(
        self,
        begin: Callable[[], Connection],
        location: str,
        busy_timeout: float,
        clean: Callable[[DriverConnection], None],
    ) -> None:
        super().__init__(begin, location, busy_timeout)
        self._clean = clean

    def __enter__(self) -> Connection:
        connection = super().__enter__()
        # The handler may take its time, and long statements are its own business. A handler that hangs keeps locks
        # only on its own rows and on what it has written; of a machine that is gone the server lets go by itself.
        try:
            self._driver.execute(_AS_LONG_AS_IT_LIKES)
        except BaseException as error:
            self.roll_back()
            self._raise_translated(error)
            raise
        self._shield.down()  # the handler may be interrupted in it: then it is rolled back
        return connection

    def _release(self) -> None:
        # The handler may have set in the session whatever it liked.
        try:
            if not self._connection.invalidated:
                self._clean(self._driver)
        except psycopg.Error:
            self._connection.invalidate()
        super()._release()

    def belongs_to(self, thread: int) -> None:
        """Nothing depends on the thread: each transaction has a connection of its own."""

    def forbid_end(self, tell: Callable[[str], None]) -> None:
        """PostgreSQL cannot refuse a COMMIT: `_Guard` refuses those through SQLAlchemy, others are seen afterwards."""
        self._tell = tell

    def allow_end(self) -> None:
        """Take the connection back; tell if the transaction was ended by the driver's own connection meanwhile."""
        if self._driver.closed:  # by the server, or the handler: the next statement says what has become of it
            return
        if self._driver.info.transaction_status not in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            self._tell("an end by the driver's own connection")
