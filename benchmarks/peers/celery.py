"""Celery on Redis."""

from __future__ import annotations

from pathlib import Path

from .. import meter
from .base import Peer


class CeleryOnRedis(Peer):
    """Celery with one pool process."""

    name = "Celery (Redis)"
    distributions = ("celery", "redis")
    server = "redis"
    share = 0.5
    durability = (
        "Redis with appendonly yes, appendfsync always; acks_late=True, so that a killed worker's job comes back. "
        "Results are ignored, nothing is kept of a finished job"
    )

    def __init__(self, place: Path, address: str) -> None:
        super().__init__(place, address)
        from celery import Celery

        self._app = Celery("benchmark", broker=f"redis+socket://{address}")
        self._app.conf.update(task_acks_late=True, task_ignore_result=True, worker_hijack_root_logger=False)
        self._tick = self._app.task(name="tick")(meter.tick)

    def enqueue(self, sent: int) -> None:
        self._tick.delay(sent)

    def work(self) -> None:
        self._app.worker_main(["worker", "--concurrency=1", "--loglevel=ERROR", "--without-gossip", "--without-mingle"])
