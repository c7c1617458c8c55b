"""Workers are registered, show signs of life, and are asked for something."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta

from ...clock import to_text
from ...records import Wish, WorkerRecord
from .. import freezing, held_jobs, workers
from ..presence import LockFile, Seat
from ..workers import Registration, Vital
from .door import Door


class Workers(Door):
    """Who is alive."""

    def presence(self) -> AbstractContextManager[LockFile | None]:
        """Lend the seats of the workers on this machine for the block; None where nobody keeps them."""
        return self._database.presence()

    def register(self, describe: Callable[[int | None, str], Registration]) -> tuple[int, Seat | None]:
        """Register a worker and take a seat; `describe` gets the seat's number and the time.

        The seat is taken before the row is visible, so that nobody sees a registered worker without one. Raises
        `QueueMovedError` where it would never be given a job.
        """
        seat = None
        try:
            with self.presence() as presence, self._write() as connection:
                freezing.refuse_if_moved(connection, self._database.location)
                self._database.make_log_room()
                if presence is not None:
                    taken = [vital.seat for vital in workers.vitals(connection) if vital.seat is not None]
                    seat = presence.take_seat(taken)
                number = seat.number if seat is not None else None
                worker_id = workers.register(connection, describe(number, self._clock.now_text()))
                if seat is not None:
                    seat.sign(worker_id)
        except BaseException:
            if seat is not None:
                seat.leave()
            raise
        return worker_id, seat

    def register_again(self, worker_id: int, registration: Registration) -> None:
        """Register a worker under its old id, after others had taken it for dead."""
        with self._write() as connection:
            workers.register_again(connection, worker_id, registration)

    def heartbeat(self, worker_id: int, lease: float, stuck: Sequence[int] = ()) -> bool:
        """Extend the lease of all the worker's jobs, note which are stuck; return whether it is still registered."""
        with self._write() as connection:
            now = self._clock.now()
            held_jobs.extend_leases(connection, worker_id, to_text(now + timedelta(seconds=lease)))
            return workers.heartbeat(connection, worker_id, to_text(now), stuck)

    def ask(self, worker: str, wish: Wish | None) -> int:
        """Ask the workers of this name, or the one with this id, for something (None: to forget it); how many?"""
        with self._write() as connection:
            return workers.ask(connection, worker, wish)

    def asked_to(self, worker_id: int, so_far: Wish | None = None) -> Wish | None:
        """Return what a person has asked this worker to do; what it was so far, if it is not registered just now."""
        with self._read() as connection:
            return workers.asked_to(connection, worker_id, so_far)

    def unregister(self, worker_id: int) -> None:
        """Remove a worker that has given everything back."""
        with self._write() as connection:
            workers.unregister(connection, worker_id)

    def vitals(self) -> list[Vital]:
        """Return what there is to judge which workers are alive."""
        with self._read() as connection:
            return workers.vitals(connection)

    def records(self) -> list[WorkerRecord]:
        """Return the registered workers."""
        with self._read() as connection:
            return workers.worker_records(connection)
