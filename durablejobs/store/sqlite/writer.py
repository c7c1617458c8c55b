"""The connections of a process that write, and their transactions: into the gate, BEGIN IMMEDIATE, out again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from ...errors import CommitUnknownError, DatabaseBusyError
from ..hot import driver_of
from ..transaction import Transaction
from .driver_errors import primary_code, sqlite_error, translate
from .gate import Gate


class Writer:
    """Writes to one database by a connection of its own, one transaction at a time."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        location: str,
        busy_timeout: float,
        gate: Gate,
        check_identity: Callable[[], None],
    ) -> None:
        self.location = location
        self.busy_timeout = busy_timeout
        self.check_identity = check_identity
        """Raises when what was committed went into a file that is not there any more; asked after each commit."""
        self._connect = connect
        self._connection: Connection | None = None
        self._gate = gate

    def enter_gate(self) -> Gate:
        """Wait for our turn to write; the caller leaves the gate. Raises `DatabaseBusyError`."""
        if not self._gate.enter(self.busy_timeout):
            raise DatabaseBusyError(self.location, self.busy_timeout)
        return self._gate

    def connection(self) -> Connection:
        """Return the connection; only for who is in the gate."""
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def run(self, sql: str, values: Sequence[Any]) -> sqlite3.Cursor:
        """Run one statement without BEGIN and COMMIT around it: SQLite makes it a transaction, in one step

        It is committed when this returns.
        """
        gate = self.enter_gate()
        try:
            driver: sqlite3.Connection = driver_of(self.connection())
            cursor = driver.execute(sql, values)
            self.check_identity()
            return cursor
        except BaseException as error:
            self.raise_failed_commit(error)
            raise
        finally:
            gate.leave()

    def raise_failed_commit(self, error: BaseException) -> None:
        """Raise our error for what a commit raised; return where it is none of the driver's."""
        cause = sqlite_error(error)
        if cause is not None and primary_code(cause) == sqlite3.SQLITE_IOERR:
            # Stored or not: the log may hold the commit although its sync failed.
            self.discard()
            raise CommitUnknownError(self.location, str(cause)) from error
        translated = translate(error, self.location, self.busy_timeout)
        if translated is not None:
            raise translated from error

    def discard(self) -> None:
        """Throw the connection away; the next transaction starts afresh from the file."""
        connection, self._connection = self._connection, None
        if connection is not None and not connection.closed:
            connection.invalidate()
            connection.close()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep all other writers out."""
        gate = self.enter_gate()
        try:
            yield
        finally:
            gate.leave()

    def close(self) -> None:
        """Close the connection, after the transaction that is under way."""
        if self._connection is None:  # who has never written may lack the right to make a gate
            return
        with self.alone():
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()


class WriteTransaction(Transaction):
    """See `SqliteDatabase.write`."""

    __slots__ = ("_gate", "_writer")

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._gate: Gate

    def __enter__(self) -> Connection:
        self._gate = self._writer.enter_gate()
        try:
            self._connection = self._writer.connection()
            self._driver = driver_of(self._connection)
            self._driver.execute("BEGIN IMMEDIATE")
        except BaseException as error:
            self._gate.leave()
            self._raise_translated(error)
            raise
        return self._connection

    def _commit(self) -> None:
        try:
            self._driver.commit()
            if self._connection.in_transaction():  # SQLAlchemy's own notion, begun by its first statement
                self._connection.commit()
        except BaseException as error:
            self._roll_back()
            self._writer.raise_failed_commit(error)
            raise
        self._writer.check_identity()

    def _roll_back(self) -> None:
        try:
            self._driver.rollback()
            self._connection.rollback()
        except BaseException as error:
            self._writer.discard()
            if not isinstance(error, SQLAlchemyError | sqlite3.Error):
                raise

    def _release(self) -> None:
        self._gate.leave()

    def _raise_translated(self, error: BaseException) -> None:
        translated = translate(error, self._writer.location, self._writer.busy_timeout)
        if translated is not None:
            raise translated from error


class LentTransaction(WriteTransaction):
    """A transaction whose connection is lent to a handler."""

    __slots__ = ()

    def __enter__(self) -> Connection:
        connection = super().__enter__()
        self._gate.unshield()  # the handler may be interrupted in it: then it is rolled back
        return connection

    def belongs_to(self, thread: int) -> None:
        """Note which thread the transaction is for, if another one has waited for it."""
        self._gate.belongs_to(thread)

    def forbid_end(self, tell: Callable[[str], None]) -> None:
        """Let SQLite refuse every statement that ends it, however it comes; tell which one was tried."""

        def authorize(action: int, operation: str | None, *_: str | None) -> int:
            if action != sqlite3.SQLITE_TRANSACTION:
                return sqlite3.SQLITE_OK
            tell(str(operation))
            return sqlite3.SQLITE_DENY

        self._driver.set_authorizer(authorize)

    def allow_end(self) -> None:
        """Take the connection back."""
        with suppress(sqlite3.ProgrammingError):  # it was closed after all, and has thereby rolled back
            self._driver.set_authorizer(None)
