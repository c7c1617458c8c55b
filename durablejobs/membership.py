"""A worker among the others: its row in the register, its seat, and what people ask of it there."""

from __future__ import annotations

import logging
import os
import socket

from .errors import DatabaseError
from .queues import QueuePlan
from .records import Wish
from .store import Store
from .store.presence import Seat
from .store.workers import Registration
from .version import __version__

log = logging.getLogger("durablejobs.worker")


class Membership:
    """Says who a worker is, from its registration until it signs off."""

    worker_id: int
    """Since it has joined."""

    def __init__(self, store: Store, name: str | None, queues: QueuePlan, concurrency: int) -> None:
        """`name` is what people call it, if they have given it one, `concurrency` that of all its lanes together."""
        self._store = store
        self._given_name = name
        self._queues = queues
        self._concurrency = concurrency
        self._wish: Wish | None = None
        self.seat: Seat | None = None
        self.keeps_row = False
        """Whether the register is to name it when it has left: it leaves jobs for others to rescue."""
        self.keeps_seat = False
        """Whether its seat stays taken until the process ends."""

    @property
    def name(self) -> str:
        """What people call it."""
        return self._given_name or f"{socket.gethostname()}:{os.getpid()}"

    def join(self) -> None:
        """Register, and take a seat."""
        self.worker_id, self.seat = self._store.workers.register(self._describe)

    def join_again(self) -> None:
        """Register under the same id: others had taken the worker for dead."""
        number = self.seat.number if self.seat is not None else None
        self._store.workers.register_again(self.worker_id, self._describe(number, self._store.clock.now_text()))

    def _describe(self, seat: int | None, now: str) -> Registration:
        return Registration(
            name=self.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            seat=seat,
            queues=str(self._queues),
            concurrency=self._concurrency,
            version=__version__,
            started_at=now,
            heartbeat_at=now,
            asked_to=self._wish,
        )

    def ask_for_wish(self) -> Wish | None:
        """Return what a person has asked this worker to do."""
        self._wish = self._store.workers.asked_to(self.worker_id, self._wish)
        return self._wish

    def leave(self) -> None:
        """Sign off, and leave the seat to others; what is to be kept is not given up."""
        if not self.keeps_row:
            try:
                self._store.workers.unregister(self.worker_id)
            except DatabaseError as error:
                log.warning("could not sign off: %s", error)  # others see the free seat and clean up
        if self.seat is not None and not self.keeps_seat:
            self.seat.leave()
