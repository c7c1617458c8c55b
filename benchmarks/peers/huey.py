"""Huey on SQLite."""

from __future__ import annotations

from pathlib import Path

from .. import meter
from .base import Peer


class HueyOnSqlite(Peer):
    """`SqliteHuey` with one worker thread."""

    name = "Huey (SQLite)"
    distributions = ("huey",)
    keeps_jobs = False
    durability = (
        "WAL, fsync=True. The row is deleted when the job is taken: a killed worker loses it. "
        "Keeps no row of a finished job"
    )

    def __init__(self, place: Path, address: str) -> None:
        super().__init__(place, address)
        from huey import SqliteHuey

        self._huey = SqliteHuey("benchmark", filename=str(place / "huey.db"), fsync=True)
        self._tick = self._huey.task()(meter.tick)

    def enqueue(self, sent: int) -> None:
        self._tick(sent)

    def work(self) -> None:
        self._huey.create_consumer(workers=1, periodic=False).run()
