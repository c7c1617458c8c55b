"""The state of the database and of its rows is examined."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from .. import queries, rescues
from .door import Door

if TYPE_CHECKING:  # imported where they are used: a command that enqueues one job has no use for them
    from ..server_state import ServerState
    from ..soundness import Checked


class Checks(Door):
    """What `durablejobs doctor` asks for."""

    def server_state(self) -> ServerState | None:
        """Return what the server says of itself; None where there is none."""
        return self._database.server_state()

    def journal_mode(self) -> str:
        """Return how the database keeps its journal; looking changes nothing."""
        return self._database.journal_mode()

    def integrity_problems(self) -> list[str] | None:
        """Return what the database's own check of itself finds; empty: nothing. None: there was no such check."""
        return self._database.integrity_problems()

    def rules(self) -> Iterator[Checked]:
        """Look at all rows, as of one moment, for each promise that can be read from them."""
        from .. import soundness

        with self._read() as connection:
            yield from soundness.check_rules(connection)

    def count_rows(self) -> dict[str, int]:
        """Return the number of rows of the tables of jobs and of errors."""
        from .. import soundness

        with self._read() as connection:
            return soundness.count_rows(connection)

    def newest_job(self) -> datetime | None:
        """Return when the newest job was created."""
        with self._read() as connection:
            return queries.newest_job(connection)

    def count_strays(self) -> int:
        """Return how many jobs are running by the rows without a registered worker."""
        with self._read() as connection:
            return rescues.count_strays(connection)

    def waiting_handlers(self) -> dict[str, int]:
        """Return the handlers of the waiting jobs, each with the number of its jobs."""
        with self._read() as connection:
            return queries.waiting_handlers(connection)
