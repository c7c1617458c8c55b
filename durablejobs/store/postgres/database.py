"""A PostgreSQL database: connections, transactions, the watch, what is refused.

Habits of PostgreSQL that this file answers:

- A connection may be gone without a sign: a pooled one on which BEGIN fails is replaced by a new one, once; nothing
  has happened on it yet.
- Whatever is set in a session may be another's behind a pooler: so it is set in each transaction.
- Names are always written with their schema: the search path is the user's, in whose transaction we may write.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from ...config import DatabaseConfig
from ...errors import BackupError, DatabaseUnusableError
from ...jobs import NewJob
from ..forks import forget_after_fork
from ..hot import Run, driver_of
from ..presence import LockFile, lent
from ..server_state import ServerState
from . import inserts
from .address import address_of
from .connecting import DriverConnection, connect
from .counts import fold
from .driver_errors import translate
from .listening import Asking, Listener
from .seats import seats_of, use_seats
from .server_clock import ServerClock
from .server_state import server_state
from .transactions import BEGIN_READING, LentTransaction, WriteTransaction, begin_writing

OLDEST_SERVER: Final = 140000
"""PostgreSQL 14."""

_abandoned: list[object] = []
"""What a forked child inherited and must never close: it would say goodbye on the parent's socket."""


class PostgresDatabase:
    """The tables of one schema of a PostgreSQL database, by its URL.

    Nothing is opened before the first use. `location` is the URL without its password.
    """

    path: Path | None = None

    def __init__(self, target: str, config: DatabaseConfig | None = None) -> None:
        self.config = config or DatabaseConfig()
        self._address = address_of(target, self.config)
        self.location = self._address.location
        self.schema = self._address.schema
        self.clock = ServerClock(self._ask_time)
        self._begin_writing = begin_writing(self.config.busy_timeout)
        self._stale_until = 0.0
        self._engine = self._new_engine()
        self._seats: Path | None = None
        forget_after_fork(self)

    def ensure_reachable(self, create: bool) -> None:  # noqa: ARG002 - nothing is created but by `migrate`
        """Check that a server answers, and that it is one we can work with."""
        with self.read() as connection:
            info = driver_of(connection).info
            if info.server_version < OLDEST_SERVER:
                raise DatabaseUnusableError(self.location, f"needs PostgreSQL 14 or newer, this is {_dotted(info)}")
            if info.parameter_status("server_encoding") != "UTF8":
                raise DatabaseUnusableError(
                    self.location, f"its encoding is {info.parameter_status('server_encoding')}; jobs need UTF8"
                )

    def check_identity(self) -> None:
        """A server cannot be replaced unnoticed: its connections end."""

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection on one consistent snapshot; it never waits for writers."""
        with self.translated_errors():
            connection = self._begin(BEGIN_READING)
            try:
                yield connection
                driver_of(connection).rollback()
            except BaseException:
                connection.invalidate()  # whatever state it is in
                raise
            finally:
                connection.close()

    glance = read

    def write(self) -> WriteTransaction:
        """Return a transaction that writes: leaving it commits, an exception rolls back.

        Raises `DatabaseBusyError` when a lock is held by another for longer than the busy timeout,
        `DatabaseUnreachableError`, or `CommitUnknownError` when the answer to the commit is lost.
        """
        return WriteTransaction(self._begun_writing, self.location, self.config.busy_timeout)

    def insert_group(self, group: Sequence[NewJob]) -> list[tuple[int, bool]]:
        """Insert jobs in one transaction."""
        with self.write() as connection:
            return inserts.insert_group(connection, group)

    def insert_jobs(self, connection: Connection, new_jobs: Iterable[NewJob]) -> int:
        """Insert jobs as they come; return how many rows were stored."""
        return inserts.insert_jobs(connection, new_jobs)

    def insert_alike(self, connection: Connection, template: NewJob, arguments: Iterable[tuple[str, str]]) -> int:
        """Insert jobs that differ in args and kwargs alone; return how many rows were stored."""
        return inserts.insert_alike(connection, template, arguments)

    def run_in(self, given: Any) -> Run:
        """Return what runs statements on a `psycopg.Connection`, a SQLAlchemy `Connection` or `Session`."""
        return inserts.run_for_user(given, self.schema)

    def insert_jobs_in(self, given: Any, new_jobs: Iterable[NewJob]) -> int:
        """Insert many jobs on such a connection."""
        with self.translated_errors():
            return inserts.insert_jobs_in(given, new_jobs, self.schema)

    def for_threads(self, given: Any) -> Any:
        """Return what uses a `psycopg.AsyncConnection` from a thread; any other connection as it is."""
        return inserts.for_threads(given)

    def lend(self) -> LentTransaction:
        """Return a transaction of a connection that is lent to a handler. Raises what `write` raises."""
        return LentTransaction(self._begun_writing, self.location, self.config.busy_timeout)

    def refuse_write_inside_write(self) -> None:
        """Another write never waits for this one: each has a connection of its own."""

    @contextmanager
    def migration(self) -> Iterator[Connection]:
        """Yield a connection in one transaction whose search path leads to our schema, one migration at a time."""
        with self.write() as connection:
            driver = driver_of(connection)
            driver.execute("SET LOCAL statement_timeout = 0")
            driver.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (self._channel,))
            # Asked first: IF NOT EXISTS wants the right to create schemas also where there is nothing to create.
            if driver.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (self.schema,)).fetchone() is None:
                driver.execute(f'CREATE SCHEMA "{self.schema}"')
            driver.execute(f'SET LOCAL search_path TO "{self.schema}"')
            yield connection

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Raise the driver's errors as ours, in one sentence each."""
        try:
            yield
        except (DBAPIError, PoolTimeoutError, psycopg.Error) as error:
            translated = translate(error, self.location, self.config.busy_timeout)
            if translated is None:
                raise
            raise translated from error

    def presence(self) -> AbstractContextManager[LockFile | None]:
        """Lend the seats of the workers of this user on this machine for the block; None where nobody keeps them."""
        return lent(self._use_lock_file)

    def _use_lock_file(self) -> LockFile | None:
        if self._seats is None:
            with self.read() as connection:
                self._seats = seats_of(connection, self.schema)
        return use_seats(self._seats)

    def watch_work(self) -> Listener | Asking:
        """Return a look-out for pending jobs."""
        if not self._address.listens:
            return Asking(3600.0, 3600.0)  # never: the worker's interval is the net
        return Listener(self._connect, self._channel)

    def watch_endings(self) -> Asking:
        """Return a look-out for ends of jobs: they are not notified, so it is asked for them, ever less often."""
        return Asking(0.005, 0.25)

    @property
    def _channel(self) -> str:
        return f"durablejobs.{self.schema}"

    def back_up(self, target: Path, replace: bool, advance: Callable[[int, int], None]) -> None:  # noqa: ARG002
        """Refuse: the server has its own tools for that."""
        raise BackupError(str(target), "jobs in PostgreSQL are backed up with the server's tools, pg_dump for example")

    def make_log_room(self) -> None:
        """Nothing to do: a server looks after its log."""

    def fold_counts(self) -> None:
        """Add up the parts that transactions have written."""
        with self.write() as connection:
            fold(connection, self.schema)

    def journal_mode(self) -> str:
        """Return what the write-ahead log of a server is called."""
        return "wal"

    def server_state(self) -> ServerState:
        """Return what the server says of itself."""
        with self.read() as connection:
            return server_state(connection, self.schema, OLDEST_SERVER)

    def integrity_problems(self) -> list[str]:
        """Return nothing: the server's own pages are its administrator's business (pg_amcheck)."""
        return []

    def close(self) -> None:
        """Close every connection of this process."""
        self._engine.dispose()

    def forget_after_fork(self) -> None:
        """In a forked child: start with no connection, and never close the parent's."""
        _abandoned.append(self._engine)
        self._engine = self._new_engine()

    def _ask_time(self) -> None:
        with self.read():
            pass

    def _new_engine(self) -> Engine:
        engine = create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            poolclass=QueuePool,
            pool_size=self.config.connections,
            max_overflow=0,
            pool_timeout=self.config.busy_timeout,
            pool_use_lifo=True,
            use_native_hstore=False,
        )
        event.listen(engine, "checkout", self._refuse_stale)
        return engine.execution_options(schema_translate_map={None: self.schema})

    def _refuse_stale(self, driver: DriverConnection, *_: object) -> None:
        """Let the pool make a new connection in place of one that is no better than another that was dead."""
        if driver.made_at < self._stale_until:
            raise DisconnectionError

    def _connect(self) -> DriverConnection:
        return connect(self._address.parameters, self._address.listens)

    def _begun_writing(self) -> Connection:
        return self._begin(self._begin_writing)

    def _begin(self, statements: str) -> Connection:
        try:
            return self._begun(self._engine.connect(), statements)
        except psycopg.OperationalError as error:
            if error.sqlstate is not None and not error.sqlstate.startswith("57P"):
                raise
        # The server hung up while the connection lay in the pool; the others there are no better.
        self._stale_until = time.monotonic()
        return self._begun(self._engine.connect(), statements)

    def _begun(self, connection: Connection, statements: str) -> Connection:
        asked_at = time.monotonic_ns()
        try:
            cursor = driver_of(connection).execute(statements, prepare=False)
            cursor.nextset()
            self.clock.learn(cursor.fetchone()[0], asked_at)
        except BaseException:
            connection.invalidate()
            connection.close()
            raise
        return connection


def _dotted(info: psycopg.ConnectionInfo) -> str:
    return info.parameter_status("server_version") or str(info.server_version)
