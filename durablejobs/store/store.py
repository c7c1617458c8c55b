"""The jobs in one database: what opens it, and a door for each kind of caller."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..clock import Clock
from ..config import DatabaseConfig
from . import schema
from .access import Access
from .database import Watch, database_at
from .doors.new_jobs import NewJobs

if TYPE_CHECKING:
    from .doors.acts import Acts
    from .doors.checks import Checks
    from .doors.claims import Claims
    from .doors.handlers import Handlers
    from .doors.reads import Reads
    from .doors.upkeep import Upkeep
    from .doors.workers import Workers


class Store:
    """The jobs in one database. Opened at the first use, and checked then; safe to use from many threads.

    Its doors: `new_jobs` and `handlers` for programs that enqueue, `claims`, `workers` and `upkeep` for workers, `acts`
    and `reads` for people, `checks` for `durablejobs doctor`.

    `create` says whether a missing file may be created; otherwise it raises `DatabaseNotFoundError`.
    """

    def __init__(
        self,
        target: str | os.PathLike[str],
        config: DatabaseConfig | None = None,
        clock: Clock | None = None,
        create: bool = True,
    ) -> None:
        self.config = config or DatabaseConfig()
        self.database = database_at(target, self.config)
        self.clock = clock or self.database.clock
        self.access = Access(self.database, self.clock, create)
        self.new_jobs = NewJobs(self.access)

    # Imported when they are wanted: a program that only enqueues has no use for their statements.

    @cached_property
    def handlers(self) -> Handlers:
        """What is known of handlers beside their code."""
        from .doors.handlers import Handlers

        return Handlers(self.access)

    @cached_property
    def reads(self) -> Reads:
        """What people ask about jobs and queues."""
        from .doors.reads import Reads

        return Reads(self.access)

    @cached_property
    def claims(self) -> Claims:
        """Claims, and what becomes of claimed jobs."""
        from .doors.claims import Claims

        return Claims(self.access)

    @cached_property
    def workers(self) -> Workers:
        """Who is alive."""
        from .doors.workers import Workers

        return Workers(self.access)

    @cached_property
    def upkeep(self) -> Upkeep:
        """Rescues, pruning, counts."""
        from .doors.upkeep import Upkeep

        return Upkeep(self.access)

    @cached_property
    def acts(self) -> Acts:
        """What people do to jobs and queues."""
        from .doors.acts import Acts

        return Acts(self.access)

    @cached_property
    def checks(self) -> Checks:
        """What `durablejobs doctor` asks."""
        from .doors.checks import Checks

        return Checks(self.access)

    @property
    def is_open(self) -> bool:
        """Whether the database was opened and found to be sound."""
        return self.access.is_open

    @property
    def location(self) -> str:
        """What messages call the database; without a password."""
        return self.database.location

    def open(self) -> bool:
        """Open the database and check its schema; return whether it was created now."""
        return self.access.open()

    def close(self) -> None:
        """Close every connection."""
        self.access.close()

    def migrate(self) -> bool:
        """Create or upgrade the schema, also in another application's file; return whether there was work to do."""
        self.database.ensure_reachable(create=True)
        return schema.upgrade(self.database)

    def migration_script(self) -> str:
        """Return the migrations as SQL text for this kind of database; it is not opened."""
        return schema.upgrade_script(self.database)

    def schema_report(self) -> schema.SchemaReport:
        """Return the state of the schema, changing nothing."""
        self.database.ensure_reachable(create=False)
        with self.database.read() as connection:
            return schema.inspect_schema(connection)

    def watch_work(self) -> Watch:
        """Return a watch that tells whether others have committed pending jobs."""
        self.open()
        return self.database.watch_work()

    def watch_endings(self) -> Watch:
        """Return a watch that tells whether others may have committed ends of jobs."""
        self.open()
        return self.database.watch_endings()

    def check_identity(self) -> None:
        """Raise `DatabaseReplacedError` when the file under us was deleted or replaced."""
        self.database.check_identity()

    def back_up(
        self, target: str | os.PathLike[str], replace: bool, advance: Callable[[int, int], None] = lambda *_: None
    ) -> None:
        """Make a sound copy while others go on. Raises `BackupError`."""
        self.open()
        self.database.back_up(Path(target).absolute(), replace, advance)
