"""Dramatiq on Redis."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from .. import meter
from .base import Peer


class DramatiqOnRedis(Peer):
    """Dramatiq with one worker thread."""

    name = "Dramatiq (Redis)"
    distributions = ("dramatiq", "redis")
    server = "redis"
    durability = (
        "Redis with appendonly yes, appendfsync always. Prefetches 100 instead of 2, which is faster. "
        "Keeps nothing of a finished job"
    )

    def __init__(self, place: Path, address: str) -> None:
        super().__init__(place, address)
        os.environ["dramatiq_queue_prefetch"] = "100"  # noqa: SIM112 - its name; read at import, 2 by default
        import dramatiq
        from dramatiq.brokers.redis import RedisBroker

        self._broker = RedisBroker(url=f"unix://{address}")
        dramatiq.set_broker(self._broker)
        self._tick = dramatiq.actor(actor_name="tick", broker=self._broker)(meter.tick)

    def enqueue(self, sent: int) -> None:
        self._tick.send(sent)

    def work(self) -> None:
        from dramatiq import Worker

        Worker(self._broker, worker_threads=1).start()
        threading.Event().wait()
