"""PgQueuer on PostgreSQL."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from .. import meter
from .on_postgres import SENDERS, PeerOnPostgres

if TYPE_CHECKING:
    from pgqueuer import Queries
    from pgqueuer.models import Job


class PgQueuer(PeerOnPostgres):
    """PgQueuer on asyncpg and uvloop, with its defaults: batches of ten."""

    name = "PgQueuer"
    distributions = ("pgqueuer", "asyncpg", "uvloop")
    share = 0.3
    durability = (
        "synchronous_commit=on, tables logged (its default). Deletes the row of a finished job and keeps rows of its "
        "log. Runs the jobs of a batch together on its event loop and writes their ends in batches. Default settings"
    )
    batch = 10

    def __init__(self, place: Path, address: str) -> None:
        super().__init__(place, address)
        import uvloop

        self._loop = uvloop.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._open())

    async def _open(self) -> None:
        import asyncpg
        from pgqueuer import Queries

        self._connection = await asyncpg.connect(self.address)
        self._queries = Queries.from_asyncpg_connection(self._connection)

    def create(self) -> None:
        self._loop.run_until_complete(self._queries.install())

    def enqueue(self, sent: int) -> None:
        self._loop.run_until_complete(self._queries.enqueue("tick", str(sent).encode()))

    def enqueue_each(self, count: int) -> None:
        self._loop.run_until_complete(_send(self._queries, count))

    def enqueue_together(self, count: int) -> None:
        self._loop.run_until_complete(self._send_together(count))

    async def _send_together(self, count: int) -> None:
        import asyncpg
        from pgqueuer import Queries

        async with asyncpg.create_pool(self.address, min_size=SENDERS, max_size=SENDERS) as pool:
            queries = Queries.from_asyncpg_pool(pool)
            await asyncio.gather(*(_send(queries, count // SENDERS) for _ in range(SENDERS)))

    def enqueue_many(self, count: int) -> None:
        self._loop.run_until_complete(self._queries.enqueue(["tick"] * count, [b"0"] * count, [0] * count))

    def work(self) -> None:
        from pgqueuer import PgQueuer as Application

        application = Application.from_asyncpg_connection(self._connection)

        @application.entrypoint("tick")
        async def tick(job: Job) -> None:
            meter.tick(int(job.payload or b"0"))

        self._loop.run_until_complete(application.run(batch_size=self.batch))


class PgQueuerTuned(PgQueuer):
    """The same with batches of a hundred."""

    name = "PgQueuer (tuned)"
    durability = "as above, with batches of 100 (`batch_size=100`)"
    batch = 100


async def _send(queries: Queries, count: int) -> None:
    for _ in range(count):
        await queries.enqueue("tick", b"0")
