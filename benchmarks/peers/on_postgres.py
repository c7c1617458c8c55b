"""What a queue on PostgreSQL must offer beside the rest: tables, and more ways to put jobs in."""

from __future__ import annotations

import threading
from abc import abstractmethod
from typing import ClassVar, Literal

from .base import Peer

SENDERS = 16
"""How many threads or tasks enqueue together."""


class PeerOnPostgres(Peer):
    """`address` is the URL of a database of its own, empty until `create` was called."""

    server: ClassVar[Literal["redis", "postgres"] | None] = "postgres"

    @abstractmethod
    def create(self) -> None:
        """Make the tables."""

    def enqueue_each(self, count: int) -> None:
        """Store so many jobs one after another, each in a transaction of its own."""
        for _ in range(count):
            self.enqueue(0)

    def enqueue_together(self, count: int) -> None:
        """Store so many jobs from 16 threads or tasks, each in a transaction of its own."""
        threads = [threading.Thread(target=self.enqueue_each, args=(count // SENDERS,)) for _ in range(SENDERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    @abstractmethod
    def enqueue_many(self, count: int) -> None:
        """Store so many jobs in one transaction."""
