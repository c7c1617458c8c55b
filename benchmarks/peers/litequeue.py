"""litequeue: a table with pop and done, and no worker."""

from __future__ import annotations

import time
from pathlib import Path

from .. import meter
from .base import Peer


class Litequeue(Peer):
    """A bare loop over `LiteQueue`."""

    name = "litequeue"
    distributions = ("litequeue",)
    dispatches = False
    durability = (
        "WAL; its synchronous=NORMAL raised to FULL. A bare loop calls the job directly: no worker, no lookup, "
        "no retries. A taken job stays marked as taken; giving it back is the user's"
    )

    def __init__(self, place: Path, address: str) -> None:
        super().__init__(place, address)
        from litequeue import LiteQueue

        self._queue = LiteQueue(str(place / "litequeue.db"))
        self._queue.conn.execute("PRAGMA synchronous = FULL")

    def enqueue(self, sent: int) -> None:
        self._queue.put(str(sent))

    def work(self) -> None:
        while True:
            message = self._queue.pop()
            if message is None:
                time.sleep(0.01)
                continue
            meter.tick(int(message.data))
            self._queue.done(message.message_id)
