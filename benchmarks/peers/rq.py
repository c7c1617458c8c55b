"""RQ on Redis."""

from __future__ import annotations

from pathlib import Path

from .. import meter
from .base import Peer


class RqOnRedis(Peer):
    """RQ's own worker, which forks for each job."""

    name = "RQ (Redis)"
    distributions = ("rq", "redis")
    server = "redis"
    share = 0.1
    durability = "Redis with appendonly yes, appendfsync always. Its default worker forks a process for each job"

    def __init__(self, place: Path, address: str) -> None:
        super().__init__(place, address)
        from redis import Redis
        from rq import Queue

        self._redis = Redis(unix_socket_path=address)
        self._queue = Queue("jobs", connection=self._redis)

    def enqueue(self, sent: int) -> None:
        self._queue.enqueue(meter.tick, sent)

    def work(self) -> None:
        from rq import Worker

        Worker([self._queue], connection=self._redis).work(logging_level="WARNING")


class RqSimple(RqOnRedis):
    """RQ's `SimpleWorker`, which runs jobs in its own process."""

    name = "RQ (Redis, no fork)"
    share = 0.3
    durability = "as above, with SimpleWorker, which runs jobs in its own process"

    def work(self) -> None:
        from rq import SimpleWorker

        SimpleWorker([self._queue], connection=self._redis).work(logging_level="WARNING")
