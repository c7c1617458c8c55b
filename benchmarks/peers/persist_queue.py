"""persist-queue: a table with get and ack, and no worker."""

from __future__ import annotations

import time
from pathlib import Path

from .. import meter
from .base import Peer


class PersistQueue(Peer):
    """A bare loop over `SQLiteAckQueue`."""

    name = "persist-queue"
    distributions = ("persist-queue",)
    dispatches = False
    durability = (
        "WAL, synchronous=FULL (SQLite's default). A bare loop calls the job directly: no worker, no lookup, "
        "no retries. A taken job comes back when the queue is opened anew"
    )

    def __init__(self, place: Path, address: str) -> None:
        super().__init__(place, address)
        from persistqueue import SQLiteAckQueue

        self._queue = SQLiteAckQueue(str(place))

    def enqueue(self, sent: int) -> None:
        self._queue.put(sent)

    def work(self) -> None:
        from persistqueue import Empty

        while True:
            try:
                item = self._queue.get(block=False, raw=True)
            except Empty:
                time.sleep(0.01)
                continue
            meter.tick(item["data"])
            self._queue.ack(id=item["pqid"])
