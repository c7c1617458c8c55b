"""What the store needs of a database: the protocol that SQLite and PostgreSQL share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Connection

from ..clock import Clock
from ..config import DatabaseConfig
from ..errors import ConfigurationError
from ..jobs import NewJob
from .hot import HotStatement, Run
from .presence import LockFile
from .sqlite import SqliteDatabase

if TYPE_CHECKING:
    from .server_state import ServerState


class Watch(Protocol):
    """A look-out for commits by others; `Waker` sleeps on it."""

    descriptor: int | None
    """Readable when there is something to note; None: nothing reports, so ask."""

    def changed(self) -> bool:
        """Return whether somebody else has committed since the last call."""
        ...

    def note_write(self) -> None:
        """Take what made the descriptor readable."""
        ...

    def ask_again_in(self) -> float:
        """Return the seconds after which to ask again though nothing is reported."""
        ...

    def close(self) -> None:
        """End the look-out."""
        ...


class LentTransaction(AbstractContextManager[Connection], Protocol):
    """A write transaction whose connection is lent to a handler, who must not end it."""

    def belongs_to(self, thread: int) -> None:
        """Note which thread it is for, if another one has waited for it."""
        ...

    def forbid_end(self, tell: Callable[[str], None]) -> None:
        """Refuse, where the database can, to end it by the driver's own connection; tell who tries."""
        ...

    def allow_end(self) -> None:
        """Take the connection back."""
        ...

    def commit(self) -> None:
        """Commit, and let the next writer in."""
        ...

    def roll_back(self) -> None:
        """Undo everything, and let the next writer in."""
        ...


class Database(Protocol):
    """One database: connections, transactions, errors, signs of life. Statements are not its business."""

    @property
    def clock(self) -> Clock:
        """The time of day by which everything in this database happens."""
        ...

    @property
    def path(self) -> Path | None:
        """The file; None where a server keeps the jobs."""
        ...

    @property
    def schema(self) -> str | None:
        """The schema of the tables, in PostgreSQL."""
        ...

    @property
    def location(self) -> str:
        """What messages call it; without a password."""
        ...

    def ensure_reachable(self, create: bool) -> None:
        """Check that there is something to connect to, or create it where a file is all that it takes."""
        ...

    def check_identity(self) -> None:
        """Raise `DatabaseReplacedError` when this is not the database any more that was opened."""
        ...

    def identity(self) -> tuple[str | int, ...]:
        """Return what is the same by whichever name these tables are reached, and differs from all others."""
        ...

    def read(self) -> AbstractContextManager[Connection]:
        """Yield a connection on one consistent snapshot."""
        ...

    def ask(self, statement: HotStatement, values: Mapping[str, Any]) -> list[Any]:
        """Return the rows of one statement that reads, on a connection of its own."""
        ...

    def write(self) -> AbstractContextManager[Connection]:
        """Yield a connection in a transaction: leaving it commits, an exception rolls back."""
        ...

    def write_hot(self) -> AbstractContextManager[Connection]:
        """Do the same for hot statements alone, which may be planned once for all."""
        ...

    def write_at_once(self, statement: HotStatement, values: Mapping[str, Any]) -> list[Any]:
        """Return the rows of one hot statement that writes, in a transaction of its own."""
        ...

    def insert_group(self, group: Sequence[NewJob]) -> list[tuple[int, bool]]:
        """Insert jobs in one transaction; return for each its id and True, or the live job with its key and False."""
        ...

    def insert_jobs(self, connection: Connection, new_jobs: Iterable[NewJob]) -> int:
        """Insert jobs as they come; return how many rows were stored. Duplicates by unique key are left out."""
        ...

    def insert_alike(self, connection: Connection, template: NewJob, arguments: Iterable[tuple[str, str]]) -> int:
        """Insert jobs that differ in args and kwargs alone; return how many rows were stored."""
        ...

    def run_in(self, given: Any) -> Run:
        """Return what runs statements on a connection that the user passes. Raises `ConfigurationError`."""
        ...

    def insert_jobs_in(self, given: Any, new_jobs: Iterable[NewJob]) -> int:
        """Insert many jobs on a connection that the user passes."""
        ...

    def for_threads(self, given: Any) -> Any:
        """Return what a verb in a thread takes for a connection that belongs to the running event loop, and others."""
        ...

    def make_log_room(self) -> None:
        """Make what the database writes down first as long as it will become; in a write transaction, by who stays."""
        ...

    def lend(self) -> LentTransaction:
        """Return a transaction for a handler, on a connection that nobody else uses meanwhile."""
        ...

    def refuse_write_inside_write(self) -> None:
        """Raise `TransactionError` in a thread for which another write would wait for ever."""
        ...

    def migration(self) -> AbstractContextManager[Connection]:
        """Yield a connection in one transaction that may change tables."""
        ...

    def in_the_way(self, error: Exception) -> str | None:
        """Return what stood where a migration was to create something, in one line; None: it failed otherwise."""
        ...

    def translated_errors(self) -> AbstractContextManager[None]:
        """Raise the driver's errors as ours, in one sentence each."""
        ...

    def presence(self) -> AbstractContextManager[LockFile | None]:
        """Lend the seats of the workers on this machine for the block; None where nobody keeps them."""
        ...

    def watch_work(self) -> Watch:
        """Return a look-out for pending jobs that others commit."""
        ...

    def watch_endings(self) -> Watch:
        """Return a look-out for ends of jobs that others commit."""
        ...

    def back_up(self, target: Path, replace: bool, advance: Callable[[int, int], None]) -> None:
        """Make a sound copy meanwhile; `advance` is told of the parts done and of all. Raises `BackupError`."""
        ...

    def fold_counts(self) -> None:
        """Add up what the counts of ended jobs are kept in parts of."""
        ...

    def journal_mode(self) -> str:
        """Return how the database keeps its journal."""
        ...

    def server_state(self) -> ServerState | None:
        """Return what the server says of itself; None where there is none."""
        ...

    def integrity_problems(self) -> list[str] | None:
        """Return what the database's own check of itself finds; empty: nothing. None: there was no such check."""
        ...

    def close(self) -> None:
        """Close every connection of this process."""
        ...


def database_at(target: str | os.PathLike[str], config: DatabaseConfig | None = None) -> Database:
    """Return the database that a path or URL names; nothing is opened yet. Raises `ConfigurationError`."""
    text = os.fspath(target)
    if not text.startswith(("postgres:", "postgresql:", "postgresql+")):
        return SqliteDatabase(target, config)
    try:
        from .postgres import PostgresDatabase
    except ModuleNotFoundError as error:
        if error.name != "psycopg":
            raise
        raise ConfigurationError(
            "database", "PostgreSQL needs the driver psycopg: pip install 'durablejobs[postgres]'"
        ) from None
    return PostgresDatabase(text, config)
