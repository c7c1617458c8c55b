"""A PostgreSQL database: connections, transactions, the watch, what is refused.

Habits of PostgreSQL that this file answers:

- A connection may be gone without a sign: a pooled one on which BEGIN fails is replaced by a new one, once; nothing
  has happened on it yet.
- Whatever is set in a session may be another's behind a pooler: so it is set in each transaction.
- Names are always written with their schema: the search path is the user's, in whose transaction we may write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from ...config import DatabaseConfig
from ...errors import BackupError, DatabaseUnusableError
from ...jobs import NewJob
from ..forks import forget_after_fork
from ..hot import HotStatement, Run, driver_of
from ..presence import LockFile, lent
from ..server_state import ServerState
from . import inserts
from .address import address_of
from .connections import Connections
from .counts import fold
from .driver_errors import in_the_way, translate
from .listening import Asking, Listener
from .seats import seats_of, use_seats
from .server_clock import ServerClock
from .server_state import server_state
from .transactions import LentTransaction, WriteTransaction

# The microsecond of a server's start is its own; its identifier it shares with its clones, and may keep to itself.
_IDENTITY: Final = """
    SELECT extract(epoch FROM pg_postmaster_start_time())::text, current_setting('port'), oid::text
    FROM pg_database WHERE datname = current_database()
"""

OLDEST_SERVER: Final = 140000
"""PostgreSQL 14."""


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
        self._connections = Connections(self._address, self.config, self.clock.learn)
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

    def identity(self) -> tuple[str | int, ...]:
        """Return what the server says of itself and of this database, whatever it is called, and our schema."""
        with self.read() as connection:
            return (*driver_of(connection).execute(_IDENTITY).fetchone(), self.schema)

    def check_identity(self) -> None:
        """A server cannot be replaced unnoticed: its connections end."""

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection on one consistent snapshot; it never waits for writers."""
        with self.translated_errors():
            connection = self._connections.begin_reading()
            try:
                yield connection
                driver_of(connection).rollback()
            except BaseException:
                connection.invalidate()  # whatever state it is in
                raise
            finally:
                connection.close()

    def ask(self, statement: HotStatement, values: Mapping[str, Any]) -> list[Any]:
        """Return the rows of one statement that reads."""
        if self._connections.has_own_sessions:
            compiled = statement.on_postgres(self.schema)
            with self.translated_errors():
                return self._connections.run_at_once(compiled.sql, compiled.positional(values), writes=False)
        with self.read() as connection:
            return list(statement.run(connection, values))

    def write(self) -> WriteTransaction:
        """Return a transaction that writes: leaving it commits, an exception rolls back.

        Raises `DatabaseBusyError` when a lock is held by another for longer than the busy timeout,
        `DatabaseUnreachableError`, or `CommitUnknownError` when the answer to the commit is lost.
        """
        return WriteTransaction(self._connections.begin_writing, self.location, self.config.busy_timeout)

    def write_hot(self) -> WriteTransaction:
        """Return the same for hot statements alone; the server keeps one plan for each."""
        return WriteTransaction(self._connections.begin_hot, self.location, self.config.busy_timeout)

    def write_at_once(self, statement: HotStatement, values: Mapping[str, Any]) -> list[Any]:
        """Return the rows of one hot statement that writes, a transaction of its own; in one round trip if possible."""
        if self._connections.has_own_sessions:
            compiled = statement.on_postgres(self.schema)
            with self.translated_errors():
                return self._connections.run_at_once(compiled.sql, compiled.positional(values))
        with self.write_hot() as connection:
            return list(statement.run(connection, values))

    def insert_group(self, group: Sequence[NewJob]) -> list[tuple[int, bool]]:
        """Insert jobs in one transaction; by one statement where that is possible."""
        if self._connections.has_own_sessions and all(job.unique_key is None for job in group):
            with self.translated_errors():
                return [
                    (job_id, True) for job_id in inserts.insert_plain(self._connections.run_at_once, self.schema, group)
                ]
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
        return LentTransaction(
            self._connections.begin_writing, self.location, self.config.busy_timeout, self._connections.clean
        )

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

    def in_the_way(self, error: Exception) -> str | None:
        """Return what stood where a migration was to create something; None: it failed otherwise."""
        return in_the_way(error)

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
        return Listener(self._connections.connect, self._channel)

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

    def integrity_problems(self) -> None:
        """Return that nothing was checked: the server's own pages are its administrator's business (pg_amcheck)."""

    def close(self) -> None:
        """Close every connection of this process."""
        self._connections.engine.dispose()

    def forget_after_fork(self) -> None:
        """In a forked child: start with no connection, and never close the parent's."""
        self._connections.forget_after_fork()

    def _ask_time(self) -> None:
        with self.read():
            pass


def _dotted(info: psycopg.ConnectionInfo) -> str:
    return info.parameter_status("server_version") or str(info.server_version)
