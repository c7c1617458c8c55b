"""Procrastinate on PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from .. import meter
from .on_postgres import SENDERS, PeerOnPostgres


class Procrastinate(PeerOnPostgres):
    """Procrastinate with its defaults: one job at a time, on its event loop."""

    name = "Procrastinate"
    distributions = ("procrastinate", "psycopg")
    share = 0.05
    durability = "synchronous_commit=on. Keeps the row of a finished job, and rows of its events. Default settings"
    concurrency = 1

    def __init__(self, place: Path, address: str) -> None:
        super().__init__(place, address)
        from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

        self._app = App(connector=PsycopgConnector(conninfo=address))
        self._app.task(name="tick")(_tick)
        self._sender = App(connector=SyncPsycopgConnector(conninfo=address, max_size=SENDERS))
        self._sender.open()
        self._tick = self._sender.task(name="tick")(_tick)

    def create(self) -> None:
        self._sender.schema_manager.apply_schema()

    def enqueue(self, sent: int) -> None:
        self._tick.defer(sent=sent)

    def enqueue_many(self, count: int) -> None:
        self._tick.batch_defer(*({"sent": 0} for _ in range(count)))

    def work(self) -> None:
        self._app.run_worker(concurrency=self.concurrency)


class ProcrastinateTuned(Procrastinate):
    """The same with ten jobs at a time, so that the round trips of one pass while the others run."""

    name = "Procrastinate (tuned)"
    durability = "as above, ten jobs at a time (`concurrency=10`)"
    concurrency = 10


async def _tick(sent: int) -> None:
    meter.tick(sent)
