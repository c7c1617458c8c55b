"""durablejobs itself, through the same small interface as the others."""

from __future__ import annotations

from pathlib import Path

from durablejobs import DurableJobs

from .. import meter
from .base import Peer
from .on_postgres import PeerOnPostgres


class Ours(Peer):
    """durablejobs with its defaults and one thread."""

    name = "durablejobs"
    distributions = ("durablejobs",)
    share = 5.0
    durability = "WAL, synchronous=FULL; keeps a row for every finished job"

    def __init__(self, place: Path, address: str) -> None:
        super().__init__(place, address)
        self._jobs = DurableJobs(address or place / "jobs.db")
        self._tick = self._jobs.handler("tick")(meter.tick)

    def enqueue(self, sent: int) -> None:
        self._tick.enqueue(sent)

    def work(self) -> None:
        self._jobs.work(concurrency=1)


class OursOnPostgres(Ours, PeerOnPostgres):
    """The same on PostgreSQL."""

    name = "durablejobs (PostgreSQL)"
    distributions = ("durablejobs", "psycopg")
    share = 1.0
    durability = "synchronous_commit=on; keeps a row for every finished job. Default settings, one thread"

    def create(self) -> None:
        self._jobs.migrate()

    def enqueue_many(self, count: int) -> None:
        self._jobs.enqueue_many("tick", ((0,) for _ in range(count)))
