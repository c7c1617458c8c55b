"""What a batch locks and changes is no more than its limit, whatever plan the server takes."""

from __future__ import annotations

import pytest

from durablejobs.statuses import Status
from durablejobs.store import Store
from durablejobs.store.acts import BATCH
from durablejobs.store.claims import PROMOTE

from ...clocks import ManualClock
from ...conftest import Enqueue, Sql

PLANS = ("enable_hashjoin=off", "enable_hashagg=off", "enable_mergejoin=off", "enable_material=off")


@pytest.fixture
def dialect() -> str:
    return "postgresql"


@pytest.fixture
def database(postgres_url: str) -> str:
    """The server joins by nested loops: such a plan may ask a subquery again for each row."""
    options = "%20".join(f"-c%20{setting}" for setting in PLANS)
    return f"{postgres_url}{'&' if '?' in postgres_url else '?'}options={options}"


@pytest.fixture(autouse=True)
def believes_that_the_table_is_empty(store: Store, enqueue: Enqueue, sql: Sql) -> None:
    """The statistics are of a moment when all rows were gone, and pages were there."""
    _fill(enqueue, sql, "cancelled")
    sql("DELETE FROM jobs")
    sql("ANALYZE jobs")


def _fill(enqueue: Enqueue, sql: Sql, status: str) -> None:
    enqueue()
    sql(
        "INSERT INTO jobs(handler, status, run_at, created_at, finished_at) SELECT handler, ?, run_at, created_at,"
        " CASE ? WHEN 'cancelled' THEN created_at END FROM jobs, generate_series(1, 1000)",
        status,
        status,
    )


def test_a_prune_deletes_no_more_than_its_batch(store: Store, clock: ManualClock, enqueue: Enqueue, sql: Sql) -> None:
    _fill(enqueue, sql, "cancelled")
    clock.advance(60)
    assert store.upkeep.prune({Status.CANCELLED: clock.now()}) == BATCH


def test_a_promotion_promotes_no_more_than_its_batch(
    store: Store, clock: ManualClock, enqueue: Enqueue, sql: Sql
) -> None:
    _fill(enqueue, sql, "scheduled")
    clock.advance(60)
    with store.database.write() as connection:
        assert PROMOTE.run(connection, {"now": clock.now_text(), "most": 5}).rowcount == 5
