"""One SQLite file: how it is opened, read, written, watched, and kept apart after a fork.

Habits of SQLite that this file answers:

- A transaction that reads and then writes fails at once when another has written meanwhile, whatever the busy
  timeout: so everything that may write begins with BEGIN IMMEDIATE.
- A process has one writer at a time anyway: one connection, behind a lock, does all its own writing, and keeps its
  compiled statements. Handlers write by a second one, behind the same lock.
- A connection that was carried through `fork` corrupts the file: the child starts with none, and the inherited ones
  are never closed there, because closing would touch the parent's locks and log.
- Any other handle on the database file in this process would drop SQLite's POSIX locks when it is closed: nobody
  opens the file but SQLite; sizes and identity come from `os.stat`.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from ...clock import SystemClock
from ...config import DatabaseConfig
from ...errors import (
    DatabaseNotFoundError,
    DatabaseReplacedError,
    DatabaseUnusableError,
)
from ...jobs import NewJob
from ..forks import forget_after_fork
from ..hot import HotStatement, Run, driver_of, run_on
from ..presence import LockFile, lent
from ..tables import VERSION_TABLE
from ..unique import insert_job
from . import backup, inserts, pragmas
from .driver_errors import in_the_way, primary_code, translate
from .files import path_of, use_lock_file_of
from .gate import Gate
from .glances import Glances
from .log_room import log_of, make_room
from .watch import Watch
from .writer import LentTransaction, Writer, WriteTransaction

OLDEST_SQLITE: Final = (3, 38, 0)
"""Built-in JSON functions; RETURNING came with 3.35, UPDATE FROM with 3.33."""
_STATEMENTS_KEPT: Final = 256
_CACHE_KIBIBYTES: Final = 8 * 1024
_LOG_PAGES: Final = 1000
"""Pages in the log after which it is copied into the file, and begun anew. A commit is faster as soon as the log grows
no more: see `log_room`."""
_LOG_BYTES: Final = _LOG_PAGES * (4096 + 24)
"""What so many pages of the usual size take there, each with its header."""
_LOG_KEPT_BYTES: Final = 64 * 1024 * 1024

_abandoned: list[object] = []
"""What a forked child inherited and must never close."""


class SqliteDatabase:
    """A SQLite file, by path or by a SQLAlchemy URL of SQLite.

    Nothing is opened before the first use. `location` is the absolute path, as it appears in messages.
    """

    schema: str | None = None

    def __init__(self, target: str | os.PathLike[str], config: DatabaseConfig | None = None) -> None:
        self.path = path_of(target)
        self.config = config or DatabaseConfig()
        self.clock = SystemClock()
        self._use_lock_file = partial(use_lock_file_of, self.path)
        self._set_up()
        self._identity: tuple[int, int] | None = None
        forget_after_fork(self)

    @property
    def location(self) -> str:
        return str(self.path)

    def ensure_reachable(self, create: bool) -> None:
        """Check that the file is there, or create it empty and readable by its owner alone."""
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise DatabaseUnusableError(
                self.location, f"needs SQLite 3.38 or newer, this Python has {sqlite3.sqlite_version}"
            )
        try:
            is_directory, exists, is_file = self.path.is_dir(), self.path.exists(), self.path.is_file()
        except OSError as error:  # no right to enter a directory on the way, a name too long
            raise DatabaseUnusableError(self.location, f"cannot be opened: {error.strerror}") from None
        if is_directory:
            raise DatabaseUnusableError(self.location, "is a directory; name a file in it")
        if exists and not is_file:  # SQLite would open it, and leave files beside it
            raise DatabaseUnusableError(self.location, "is not a regular file; name one, or one that is not there yet")
        if not exists:
            if not create:
                raise DatabaseNotFoundError(self.location)
            self._create_file()
        self._identity = self._identity_on_disk()

    def _create_file(self) -> None:
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            return  # another process was faster
        except FileNotFoundError:
            raise DatabaseUnusableError(self.location, f"the directory {self.path.parent} does not exist") from None
        except PermissionError:
            raise DatabaseUnusableError(
                self.location, f"no permission to create a file in {self.path.parent}"
            ) from None
        except OSError as error:
            raise DatabaseUnusableError(self.location, f"cannot be created: {error.strerror}") from None

    def _identity_on_disk(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:  # a disk that cannot tell is no proof: what was just committed would be called lost
            return self._identity
        return found.st_dev, found.st_ino

    def identity(self) -> tuple[str | int, ...]:
        """Return the file's device and inode; its path while there is none."""
        return self._identity_on_disk() or (self.location,)

    def check_identity(self) -> None:
        """Raise `DatabaseReplacedError` when the path no longer leads to the file that was opened.

        SQLite goes on acknowledging writes into a deleted file; they would be lost.
        """
        if self._identity is not None and self._identity_on_disk() != self._identity:
            raise DatabaseReplacedError(self.location)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection on one consistent snapshot; it never waits for writers."""
        with self.translated_errors(), self._engine.connect() as connection:
            yield connection

    def ask(self, statement: HotStatement, values: Mapping[str, Any]) -> list[Any]:
        """Return the rows of one statement that reads; it never waits for writers."""
        with self.translated_errors(), self._glances.one() as connection:
            return list(statement.run(connection, values))

    def write(self) -> WriteTransaction:
        """Return a transaction of the writing connection: leaving it commits, an exception rolls back.

        Raises `DatabaseBusyError` when another writer holds the database for longer than the busy timeout,
        `DiskFullError`, or `CommitUnknownError` when the commit itself reports an I/O error.
        """
        return WriteTransaction(self._writer)

    write_hot = write

    def write_at_once(self, statement: HotStatement, values: Mapping[str, Any]) -> list[Any]:
        """Return the rows of one statement that writes, in a transaction of its own."""
        with self.write() as connection:
            return list(statement.run(connection, values))

    def insert_group(self, group: Sequence[NewJob]) -> list[tuple[int, bool]]:
        """Insert jobs in one transaction; by one statement that commits itself where that is possible."""
        if inserts.is_plain(group):
            return [(job_id, True) for job_id in inserts.insert_group(self._writer.run, group)]
        with self.write() as connection:
            return [insert_job(run_on(connection), job) for job in group]

    def insert_jobs(self, connection: Connection, new_jobs: Iterable[NewJob]) -> int:
        """Insert jobs as they come; return how many rows were stored."""
        from . import bulk  # who enqueues one job has no use for it

        return bulk.insert_jobs(connection, new_jobs)

    def insert_alike(self, connection: Connection, template: NewJob, arguments: Iterable[tuple[str, str]]) -> int:
        """Insert jobs that differ in args and kwargs alone; return how many rows were stored."""
        from . import bulk

        return bulk.insert_alike(connection, template, arguments)

    def run_in(self, given: Any) -> Run:
        """Return what runs statements on a `sqlite3.Connection`, a SQLAlchemy `Connection` or `Session`."""
        inserts.refuse_other_file(given, self.path)
        return inserts.run_for_user(given)

    def insert_jobs_in(self, given: Any, new_jobs: Iterable[NewJob]) -> int:
        """Insert many jobs on such a connection."""
        from . import bulk

        inserts.refuse_other_file(given, self.path)
        with self.translated_errors():
            return bulk.insert_jobs_in(given, new_jobs)

    def for_threads(self, given: Any) -> Any:
        """Return the connection as it is: SQLite's own belong to no event loop."""
        return given

    def make_log_room(self) -> None:
        """Make the log as long as it will become; for who will write often, in his write transaction."""
        make_room(log_of(self.path), _LOG_BYTES)

    def lend(self) -> LentTransaction:
        """Return a transaction of the connection that is lent to handlers. Raises what `write` raises."""
        return LentTransaction(self._handlers_writer)

    def refuse_write_inside_write(self) -> None:
        """Raise `TransactionError` in a thread that has a write transaction open: another would wait for it."""
        self._gate.refuse_write_inside_write()

    @contextmanager
    def migration(self) -> Iterator[Connection]:
        """Yield a connection in one transaction that may rebuild tables: without cascading deletes."""
        # Connect first: where that finds no database, there shall be no lock file beside it.
        with self.translated_errors(), self._engine.connect() as connection, self._writer.alone():
            driver = driver_of(connection)
            try:
                driver.execute("PRAGMA foreign_keys = OFF")  # ignored inside a transaction
                # Another program's file may still have a rollback journal. FULL does not sync the directory in which
                # it is unlinked, and that is its commit: after a power cut the migration could be undone.
                driver.execute("PRAGMA synchronous = EXTRA")
                driver.execute("BEGIN IMMEDIATE")
                with connection.begin():
                    yield connection
            finally:
                connection.invalidate()  # the next user wants foreign keys, and the usual syncs

    def in_the_way(self, error: Exception) -> str | None:
        """Return what stood where a migration was to create something; None: it failed otherwise."""
        return in_the_way(error)

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Raise the driver's errors as ours, in one sentence each."""
        try:
            yield
        except (DBAPIError, sqlite3.Error) as error:
            translated = translate(error, self.location, self.config.busy_timeout)
            if translated is None:
                raise
            raise translated from error

    def presence(self) -> AbstractContextManager[LockFile | None]:
        """Lend the seats beside this file for the block; None where the platform has no such locks."""
        return lent(self._use_lock_file)

    def watch_work(self) -> Watch:
        """Return a watch on commits by other connections, of this process and of others."""
        with self.translated_errors():
            return Watch(self._connect, log_of(self.path))

    watch_endings = watch_work

    def back_up(self, target: Path, replace: bool, advance: Callable[[int, int], None]) -> None:
        """Make a sound copy meanwhile; `advance` is told of the pages done and of all. Raises `BackupError`."""
        with self.translated_errors():
            backup.back_up(self.path, target, replace, advance)

    def fold_counts(self) -> None:
        """Nothing to do: with one writer each count is one row."""

    def journal_mode(self) -> str:
        """Return `wal`, or the mode that somebody has set instead."""
        with self.translated_errors():
            return pragmas.journal_mode(self.path)

    def server_state(self) -> None:
        """Return nothing: there is no server."""

    def integrity_problems(self) -> list[str]:
        """Return what SQLite's own check of the whole file finds; empty: nothing."""
        with self.translated_errors():
            return pragmas.integrity_problems(self.path)

    def close(self) -> None:
        """Close every connection of this process."""
        self._writer.close()
        self._handlers_writer.close()
        self._glances.close()
        self._engine.dispose()
        self._gate.close()

    def forget_after_fork(self) -> None:
        """In a forked child: start with no connection, and never close the parent's."""
        _abandoned.extend((self._engine, self._writer, self._handlers_writer, self._glances))
        self._set_up()

    def _set_up(self) -> None:
        self._engine = self._new_engine()
        self._gate = Gate(self._use_lock_file)
        self._writer = self._new_writer()
        self._handlers_writer = self._new_writer()
        self._glances = Glances(self._engine.connect)

    def _new_writer(self) -> Writer:
        return Writer(self._engine.connect, self.location, self.config.busy_timeout, self._gate, self.check_identity)

    def _new_engine(self) -> Engine:
        engine = create_engine("sqlite://", creator=self._connect, poolclass=QueuePool, max_overflow=-1)

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            driver = driver_of(connection)
            if not driver.in_transaction:  # `write` has begun already
                driver.execute("BEGIN")

        @event.listens_for(engine, "close")
        def let_go(driver: sqlite3.Connection, _: object) -> None:
            # SQLAlchemy throws away the connection of a statement that a timeout has interrupted. While that statement
            # is referred to, by a traceback for example, SQLite keeps the closed connection and all that it has locked.
            with suppress(sqlite3.Error):
                driver.set_authorizer(None)
                driver.rollback()

        return engine

    def _connect(self) -> sqlite3.Connection:
        # mode=rw: SQLite must not create the file; that is `ensure_reachable`'s, with the right permissions.
        connection = sqlite3.connect(
            f"file:{quote(os.fsencode(self.path))}?mode=rw",
            uri=True,
            timeout=self.config.busy_timeout,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=_STATEMENTS_KEPT,
        )
        try:
            self._configure(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _configure(self, connection: sqlite3.Connection) -> None:
        if _may_distrust_schema():
            connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA foreign_keys = ON")
        if not _is_foreign(connection):
            self._ensure_write_ahead_log(connection)
        connection.execute(f"PRAGMA synchronous = {self.config.synchronous}")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_KEPT_BYTES}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIBIBYTES}")

    def _ensure_write_ahead_log(self, connection: sqlite3.Connection) -> None:
        # Switching to WAL ignores the busy timeout when several processes do it at once: so ask again.
        give_up = time.monotonic() + self.config.busy_timeout
        while True:
            try:
                mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            except sqlite3.OperationalError as error:
                if primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                    raise
                time.sleep(0.01)
                continue
            if mode != "wal":
                raise DatabaseUnusableError(
                    self.location,
                    f"cannot use a write-ahead log (journal mode {mode}); is it on a network file system?",
                )
            return


def _is_foreign(connection: sqlite3.Connection) -> bool:
    """Whether the file is another program's without a queue in it: looking at it must not change how it is kept."""
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return bool(names) and VERSION_TABLE not in names


@cache
def _may_distrust_schema() -> bool:
    """Whether this SQLite lets checks call its JSON functions from a schema that is not trusted; older ones do not."""
    with closing(sqlite3.connect(":memory:")) as probe:
        probe.execute("PRAGMA trusted_schema = OFF")
        try:
            probe.execute("CREATE TABLE probe(a CHECK (json_valid(a)))")
        except sqlite3.OperationalError:
            return False
        return True
