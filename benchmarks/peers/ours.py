"""durablejobs itself, through the same small interface as the others."""

from __future__ import annotations

from pathlib import Path

from durablejobs import DurableJobs

from .. import meter
from .base import Peer


class Ours(Peer):
    """durablejobs with its defaults and one thread."""

    name = "durablejobs"
    distributions = ("durablejobs",)
    share = 5.0
    durability = "WAL, synchronous=FULL; keeps a row for every finished job"

    def __init__(self, place: Path, redis_socket: str) -> None:
        super().__init__(place, redis_socket)
        self._jobs = DurableJobs(place / "jobs.db")
        self._tick = self._jobs.handler("tick")(meter.tick)

    def enqueue(self, sent: int) -> None:
        self._tick.enqueue(sent)

    def work(self) -> None:
        self._jobs.work(concurrency=1)
