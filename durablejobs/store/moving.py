"""A whole queue moves to another database: frozen, copied, compared, opened again on the other side.

The move can be interrupted at any moment and taken up again by the same call: both sides know of it, and rows are
copied in the order of their ids, each batch in one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection, Table
from sqlalchemy.exc import SQLAlchemyError

from ..clock import from_text
from ..errors import MoveError
from . import copying, freezing, held_jobs
from .copying import TABLES, Row
from .freezing import Move
from .store import Store
from .tables import job_workers, jobs
from .workers import Vital

SILENT_FOR: Final = timedelta(minutes=5)
"""A registered worker of another machine without a heartbeat for so long is taken for gone."""

Advance = Callable[[int], None]


class QueueMove:
    """Moves the queue of one store to another one, whose tables are there already."""

    def __init__(self, source: Store, target: Store) -> None:
        self._source = source
        self._target = target
        if source.location == target.location or _is_one_database(source, target):
            raise MoveError(target.location, "is the source itself; name another database")

    def begin(self, drain: bool) -> bool:
        """Freeze both sides, or take up a move that was interrupted; return False if the queue has moved already.

        Raises `MoveError` when workers are alive on the source, unless `drain`, or when the target has jobs.
        """
        away, here = _latest_move(self._source), _latest_move(self._target)
        is_under_way = _is_of(away, "to", self._target)
        arriving = here if _is_of(here, "from", self._source) else None
        if arriving is not None and arriving.finished_at is not None:
            if is_under_way:
                self._close_source()  # it may have been interrupted between the two ends
                return False
            arriving = None  # that was an earlier move: the source has been opened again since
        if not is_under_way:
            if away is not None and freezing.is_frozen(away):
                raise MoveError(self._source.location, freezing.explanation(away))
            if not drain:
                self._refuse_living_workers()
        if arriving is None:
            self._freeze_target(here)
        if not is_under_way:
            self._freeze(self._source, "to", self._target)
        self._reserve_ids()  # at once: a program may be so early as to enqueue there
        return True

    def seal(self) -> None:
        """Let no job of the source change from now on, and note which rows there are: once nothing runs any more.

        Runs that have ended since the source was frozen have left errors and lines of their logs.
        """
        with self._source.database.write() as connection:
            freezing.seal(connection, self._source.database.schema)
        self._reserve_ids()

    def _reserve_ids(self) -> None:
        """Note the last ids that the source has given, and let the target go on behind them."""
        with self._source.database.read() as connection:
            self._last = {table: self._last_used(connection, table) for table in [*TABLES, job_workers]}
        with self._target.database.write() as connection:
            for table, last in self._last.items():
                if copying.has_ids(table):
                    copying.set_last_used_id(connection, table, self._target.database.schema, last)

    def _refuse_living_workers(self) -> None:
        if living := self.living_workers():
            names = ", ".join(worker.name for worker in living[:5])
            counted = "1 worker is" if len(living) == 1 else f"{len(living)} workers are"
            raise MoveError(
                self._source.location,
                f"{counted} alive there ({names}); stop {'it' if len(living) == 1 else 'them'}, or give --drain",
            )

    def living_workers(self) -> list[Vital]:
        """Return the workers of the source that are not known to be dead."""
        now = self._source.clock.now()
        with self._source.workers.presence() as presence:

            def is_dead(worker: Vital) -> bool:
                if presence is not None and worker.seat is not None and presence.was_left_by(worker.seat, worker.id):
                    return True
                return now - from_text(worker.heartbeat_at) > SILENT_FOR

            return [worker for worker in self._source.workers.vitals() if not is_dead(worker)]

    def _freeze_target(self, latest: Move | None) -> None:
        with self._target.database.read() as connection:
            is_empty = not copying.count_rows(connection, jobs)
        if not is_empty or freezing.is_frozen(latest):
            raise MoveError(self._target.location, "has jobs already; name a new or empty database")
        self._freeze(self._target, "from", self._source)

    def _freeze(self, store: Store, direction: str, other: Store) -> None:
        with store.database.write() as connection:
            freezing.begin_move(connection, direction, other.location, store.clock.now(), store.database.schema)

    def _last_used(self, connection: Connection, table: Table) -> int:
        return copying.last_used_id(connection, table, self._source.database.schema) if copying.has_ids(table) else 0

    def running(self) -> int:
        """Return how many jobs of the source still run with a living worker; nothing new is started."""
        living = {worker.id for worker in self.living_workers()}
        with self._source.database.read() as connection:
            return sum(len(held_jobs.claimed_by(connection, worker_id)) for worker_id in living)

    def count(self) -> int:
        """Return how many rows there are to copy in all, what has been copied before included."""
        with self._source.database.read() as connection:
            return sum(copying.count_rows(connection, table, self._last[table]) for table in TABLES)

    def copy(self, advance: Advance) -> int:
        """Copy what is not there yet; return how many rows. `advance` is told of each batch, the earlier ones too."""
        copied = 0
        for table in TABLES:
            after = 0
            if copying.has_ids(table):
                with self._target.database.read() as connection:
                    after = copying.highest_id(connection, table, self._last[table])
                    advance(copying.count_rows(connection, table, self._last[table]))
            for batch in self._batches(self._source, table, after):
                self._add(table, batch)
                copied += len(batch)
                advance(len(batch))
        return copied

    def _add(self, table: Table, batch: list[Row]) -> None:
        try:
            with self._target.database.write() as connection:
                copying.add_rows(connection, table, batch)
        except (SQLAlchemyError, ValueError) as error:
            if len(batch) > 1:  # which row is it? Those before it are stored
                for row in batch:
                    self._add(table, [row])
            else:
                raise MoveError(self._target.location, self._refusal(table, batch[0], error)) from error

    def _refusal(self, table: Table, row: Row, error: Exception) -> str:
        key = ", ".join(str(row[column.name]) for column in table.primary_key.columns)
        why = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        return (
            f"cannot hold row {key} of the table {table.name} ({why}); `durablejobs copy {self._source.location} "
            "--reopen`, mend or delete it there, and copy to an empty database"
        )

    def _batches(self, store: Store, table: Table, after: int) -> Iterator[list[Row]]:
        while True:
            with store.database.read() as connection:
                batch = copying.rows_after(connection, table, after, self._last[table])
            if batch or not copying.has_ids(table):
                yield batch
            if len(batch) < copying.BATCH or not copying.has_ids(table):
                return
            after = batch[-1]["id"]

    def compare(self, advance: Advance) -> None:
        """Raise `MoveError` unless both sides have the same rows with the same values."""
        for table in TABLES:
            found = [copying.checksum(self._rows(store, table, advance)) for store in (self._source, self._target)]
            if found[0] != found[1]:
                raise MoveError(
                    self._target.location,
                    f"the table {table.name} differs: {found[0][0]:,} rows in the source, {found[1][0]:,} here; "
                    "has somebody changed one of the two meanwhile? The source is complete",
                    is_different=True,
                )

    def _rows(self, store: Store, table: Table, advance: Advance) -> Iterator[Row]:
        for batch in self._batches(store, table, 0):
            yield from batch
            advance(len(batch))

    def finish(self) -> None:
        """Open the target for work; the source stays frozen and says where the queue is."""
        with self._target.database.write() as connection:
            self._end(connection, self._target)
            freezing.thaw(connection, self._target.database.schema)
        self._close_source()

    def _close_source(self) -> None:
        with self._source.database.write() as connection:
            self._end(connection, self._source)

    def _end(self, connection: Connection, store: Store) -> None:
        move = freezing.latest_move(connection)
        if move is None:
            raise MoveError(store.location, "the move was given up meanwhile")
        freezing.end_move(connection, move, store.clock.now())


def _latest_move(store: Store) -> Move | None:
    with store.database.read() as connection:
        return freezing.latest_move(connection)


def _is_of(move: Move | None, direction: str, other: Store) -> bool:
    return move is not None and (move.direction, move.other) == (direction, other.location)


def _is_one_database(source: Store, target: Store) -> bool:
    """Whether two names, one of them a link or another address of the server say, are of one database."""
    return source.database.identity() == target.database.identity()


def reopen(store: Store) -> str | None:
    """Open a database again that has moved, or was to move; return where to. None: it is open."""
    with store.database.write() as connection:
        move = freezing.latest_move(connection)
        if move is None or not freezing.is_frozen(move):
            return None
        freezing.thaw(connection, store.database.schema)
        freezing.forget(connection, move)
        return move.other
