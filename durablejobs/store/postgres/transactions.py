"""A transaction that writes: begun and ended in one round trip each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from ...errors import CommitUnknownError, DatabaseUnusableError
from ..hot import driver_of
from ..transaction import Transaction
from .driver_errors import first_line, postgres_error, translate

# Set in each transaction and not in the session: a pooler gives each transaction another session. The server's time
# comes along, so that learning it costs nothing.
_CLOCK: Final = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_UTC: Final = "set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, YMD', true)"

BEGIN_READING: Final = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT {_CLOCK}, {_UTC}"
"""One snapshot for all statements, as in SQLite."""

STATEMENT_TIMEOUT: Final = 60
"""Seconds for a statement, and for a pause between two of a transaction: a stopped process keeps no lock for ever."""


def begin_writing(busy_timeout: float) -> str:
    """Return the statements that begin a transaction that writes.

    Read committed, whatever the default: the statements are written for it. `synchronous_commit` off, the default on
    some servers, would lose acknowledged jobs; stronger than on is left as it is.
    """
    lock_timeout = max(1, int(busy_timeout * 1000))
    return (
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; "
        f"SELECT {_CLOCK}, {_UTC}, "
        "set_config('synchronous_commit', CASE current_setting('synchronous_commit') "
        "WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true), "
        f"set_config('lock_timeout', '{lock_timeout}', true), "
        f"set_config('statement_timeout', '{STATEMENT_TIMEOUT}s', true), "
        f"set_config('idle_in_transaction_session_timeout', '{STATEMENT_TIMEOUT}s', true)"
    )


_AS_LONG_AS_IT_LIKES: Final = (
    "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; "
    "SET LOCAL tcp_keepalives_idle = 10; SET LOCAL tcp_keepalives_interval = 5; SET LOCAL tcp_keepalives_count = 3; "
    "SET LOCAL tcp_user_timeout = 20000"
)


class WriteTransaction(Transaction):
    """See `PostgresDatabase.write`."""

    __slots__ = ("_begin", "_busy_timeout", "_location")

    def __init__(self, begin: Callable[[], Connection], location: str, busy_timeout: float) -> None:
        self._begin = begin
        self._location = location
        self._busy_timeout = busy_timeout

    def __enter__(self) -> Connection:
        try:
            self._connection = self._begin()
        except Exception as error:
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
        if self._driver.closed:
            self._connection.invalidate()

    def _release(self) -> None:
        self._connection.close()

    def _raise_translated(self, error: BaseException) -> None:
        translated = translate(error, self._location, self._busy_timeout)
        if translated is not None:
            raise translated from error


class LentTransaction(WriteTransaction):
    """A transaction whose connection is lent to a handler."""

    __slots__ = ("_tell",)

    def __enter__(self) -> Connection:
        connection = super().__enter__()
        # The handler may take its time, and long statements are its own business. A handler that hangs keeps locks
        # only on its own rows and on what it has written; of a machine that is gone the server lets go by itself.
        self._driver.execute(_AS_LONG_AS_IT_LIKES)
        return connection

    def belongs_to(self, thread: int) -> None:
        """Nothing depends on the thread: each transaction has a connection of its own."""

    def forbid_end(self, tell: Callable[[str], None]) -> None:
        """PostgreSQL cannot refuse a COMMIT: `_Guard` refuses those through SQLAlchemy, others are seen afterwards."""
        self._tell = tell

    def allow_end(self) -> None:
        """Take the connection back; tell if the transaction was ended by the driver's own connection meanwhile."""
        if self._driver.info.transaction_status not in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            self._tell("an end by the driver's own connection")
