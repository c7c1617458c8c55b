"""FlexiQ on SQLite."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from .. import meter
from .base import Peer


class FlexiqOnSqlite(Peer):
    """FlexiQ with one worker thread."""

    name = "FlexiQ (SQLite)"
    distributions = ("flexiq",)
    share = 0.1
    durability = (
        "WAL with synchronous=NORMAL built in: it cannot be levelled, the last jobs before a power cut may be lost; "
        "that flatters it. Default settings"
    )
    options: ClassVar[Mapping[str, int]] = MappingProxyType({})

    def __init__(self, place: Path, address: str) -> None:
        super().__init__(place, address)
        from flexiq import Queue

        self._queue = Queue(db_path=str(place / "flexiq.db"), workers=1, **self.options)
        self._tick = self._queue.task(name="tick")(meter.tick)

    def enqueue(self, sent: int) -> None:
        self._tick.delay(sent)

    def work(self) -> None:
        self._queue.run_worker()


class FlexiqTuned(FlexiqOnSqlite):
    """The same, polling every millisecond and claiming a hundred jobs at once."""

    name = "FlexiQ (SQLite, tuned)"
    share = 0.5
    durability = "as above, with scheduler_poll_interval_ms=1 and scheduler_batch_size=100"
    options = MappingProxyType({"scheduler_poll_interval_ms": 1, "scheduler_batch_size": 100})
