"""Two workers claim at the same moment: the second takes the next best jobs, and waits for nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from sqlalchemy import Connection

from durablejobs.store import Store
from durablejobs.store.claims import HandlerFilter, claim

from ...clocks import ManualClock
from ...conftest import Sql, new_job


@pytest.fixture
def dialect() -> str:
    return "postgresql"


@pytest.mark.parametrize(
    ("queues", "handlers", "rooms"),
    [
        (["a"], None, {}),
        (["a", "b"], None, {}),
        (["a"], HandlerFilter(("mail",)), {}),
        (["a", "b"], HandlerFilter(("thumbnail",), are_excluded=True), {}),
        (["a", "b"], HandlerFilter(("mail",)), {"b": 100}),
    ],
    ids=["a queue", "two queues", "a handler", "all but a handler", "a handler, and a limited queue"],
)
def test_the_second_takes_what_comes_next(
    store: Store,
    clock: ManualClock,
    sql: Sql,
    queues: Sequence[str],
    handlers: HandlerFilter | None,
    rooms: Mapping[str, int],
) -> None:
    store.new_jobs.insert_many(
        new_job(clock, queue="ab"[number % 2], handler=handler)
        for number in range(40)
        for handler in ("mail", "thumbnail")
    )
    wanted = sql(
        f"SELECT id FROM jobs WHERE queue IN ({', '.join('?' * len(queues))}) AND handler <> ? ORDER BY id LIMIT 20",
        *queues,
        "thumbnail" if handlers else "nobody",
    )

    def ten(connection: Connection) -> list[int]:
        found = claim(connection, queues, 10, 1, clock.now_text(), clock.now_text(), handlers, rooms)
        return [job.id for job in found]

    with store.database.write() as one, store.database.write() as other:
        assert [*ten(one), *ten(other)] == [row["id"] for row in wanted]
