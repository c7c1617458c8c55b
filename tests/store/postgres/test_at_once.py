"""A statement that is a transaction of its own: what becomes of it, and of the connection, when it fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from sqlalchemy import func, literal_column, select, update

from durablejobs import DurableJobs
from durablejobs.errors import CommitUnknownError
from durablejobs.store import Store
from durablejobs.store.hot import HotStatement
from durablejobs.store.tables import jobs as table

from ...clocks import ManualClock
from ...conftest import new_job

RAISED = HotStatement(update(table).values(priority=table.c.priority + literal_column("1")).returning(table.c.priority))
IMPOSSIBLE = HotStatement(update(table).values(attempt=literal_column("-1")).returning(table.c.id))
ENDS_ITS_SESSION = HotStatement(select(func.pg_terminate_backend(func.pg_backend_pid())))


@pytest.fixture
def store(postgres_url: str) -> Iterator[Store]:
    """A store with a job in it."""
    with closing(DurableJobs(postgres_url)) as jobs:
        jobs.migrate()
        jobs.enqueue("mail")
        yield jobs._store


def raised(store: Store) -> int:
    ((priority,),) = store.database.write_at_once(RAISED, {})
    return int(priority)


def test_statements_follow_each_other_on_one_connection(store: Store) -> None:
    assert [raised(store) for _ in range(10)] == list(range(1, 11))


def test_one_that_is_refused_changes_nothing_and_the_next_one_works(store: Store) -> None:
    assert raised(store) == 1
    with pytest.raises(psycopg.errors.CheckViolation):
        store.database.write_at_once(IMPOSSIBLE, {})
    assert raised(store) == 2


def test_of_one_whose_connection_is_lost_nobody_knows_whether_it_was_committed(store: Store) -> None:
    assert raised(store) == 1
    with pytest.raises(CommitUnknownError):
        store.database.write_at_once(ENDS_ITS_SESSION, {})
    assert raised(store) == 2


def test_behind_a_pooler_it_is_an_ordinary_transaction(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    connections = store.database._connections  # type: ignore[attr-defined]
    monkeypatch.setattr(connections, "has_own_sessions", False)
    assert [raised(store) for _ in range(3)] == [1, 2, 3]


def test_groups_that_share_keys_in_another_order_do_not_wait_for_each_other(
    store: Store, clock: ManualClock, postgres_url: str
) -> None:
    """Each has locked what the other wants next, and one of them would lose all its enqueues."""
    rows = [new_job(clock, unique_key=f"k{number}") for number in range(100)]
    results: dict[bool, list[object]] = {}
    together = threading.Barrier(2)

    def store_group(is_reversed: bool) -> None:
        with closing(DurableJobs(postgres_url)) as own:
            own.open()
            together.wait()
            group = rows[::-1] if is_reversed else rows
            results[is_reversed] = list(own._store.new_jobs._inserts.store_together(group))

    threads = [threading.Thread(target=store_group, args=[which]) for which in (False, True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    by_key = {row.unique_key: result[0] for row, result in zip(rows, results[False], strict=True)}
    assert [by_key[row.unique_key] for row in rows[::-1]] == [result[0] for result in results[True]]
