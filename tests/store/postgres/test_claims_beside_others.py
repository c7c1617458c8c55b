"""Two workers claim at the same moment: the second takes the next best jobs, and waits for nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import pytest
from sqlalchemy import Connection

from durablejobs.lanes import MOST_FILTERED
from durablejobs.read_ahead import MOST_AHEAD
from durablejobs.store import Store
from durablejobs.store.claims import HandlerFilter, claim
from durablejobs.store.doors.claims import ClaimRequest

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


def test_a_look_that_claims_takes_what_comes_next(store: Store, clock: ManualClock) -> None:
    store.new_jobs.insert_many(new_job(clock) for _ in range(30))
    with store.database.write() as other:
        assert len(claim(other, ["default"], 10, 1, clock.now_text(), clock.now_text(), None, {})) == 10
        turn = store.claims.idle_turn(ClaimRequest(2, (), 10, 30))
    assert [job.id for job in turn.claimed] == list(range(11, 21))


@pytest.mark.parametrize(("handlers", "batch"), [(None, MOST_AHEAD), (HandlerFilter(("mail",)), MOST_FILTERED)])
def test_full_batches_of_three_others_at_the_same_moment_leave_the_next_one_something(
    store: Store, clock: ManualClock, handlers: HandlerFilter | None, batch: int
) -> None:
    store.new_jobs.insert_many(new_job(clock, queue="ab"[number % 2]) for number in range(4 * batch))
    now = clock.now_text()
    with ExitStack() as open_at_once:
        for _ in range(4):
            connection = open_at_once.enter_context(store.database.write())
            assert len(claim(connection, ["a", "b"], batch, 1, now, now, handlers, {})) == batch
