"""A database that whoever comes first opens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..clock import Clock
from ..shielding import Shield
from . import schema
from .database import Database
from .hot import HotStatement


class Access:
    """Transactions on one database, which is opened, and its schema checked, at the first of them.

    Safe to use from many threads. `create` says whether a missing file may be created; otherwise opening it raises
    `DatabaseNotFoundError`.
    """

    def __init__(self, database: Database, clock: Clock, create: bool) -> None:
        self.database = database
        self.clock = clock
        self.is_open = False
        """Whether the database was opened and found to be sound."""
        self._create = create

    def open(self) -> bool:
        """Open the database and check its schema; return whether it was created now."""
        if self.is_open:
            return False
        with Shield():
            self.database.ensure_reachable(self._create)
            created = schema.ensure_schema(self.database, self._create)
            self.is_open = True
        return created

    def close(self) -> None:
        """Close every connection."""
        self.database.close()
        self.is_open = False

    def read(self) -> Any:
        """Yield a connection on one consistent snapshot."""
        self.open()
        return self.database.read()

    def write(self) -> Any:
        """Yield a connection in a transaction: leaving it commits, an exception rolls back."""
        self.open()
        return self.database.write()

    def ask(self, statement: HotStatement, values: Mapping[str, Any]) -> list[Any]:
        """Return the rows of one statement that reads, by itself."""
        self.open()
        return self.database.ask(statement, values)

    def write_at_once(self, statement: HotStatement, values: Mapping[str, Any]) -> list[Any]:
        """Return the rows of one hot statement that writes, in a transaction of its own."""
        self.open()
        return self.database.write_at_once(statement, values)

    def write_hot(self) -> Any:
        """Do what `write` does for hot statements alone, which may be planned once for all."""
        self.open()
        return self.database.write_hot()
