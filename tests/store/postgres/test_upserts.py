"""Several who write the first row of a queue or a handler at the same moment all succeed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from durablejobs.running_limits import RunningLimit
from durablejobs.store import Store

from ...conftest import Sql

AT_ONCE = 4
ROUNDS = 10


@pytest.fixture
def dialect() -> str:
    return "postgresql"


def all_at_once(write: Callable[[str], object], name: str) -> None:
    barrier = Barrier(AT_ONCE)

    def start(_: int) -> None:
        barrier.wait(30)
        write(name)

    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(start, range(AT_ONCE)))


def test_many_who_limit_one_new_queue_at_once_make_one_row(store: Store, sql: Sql) -> None:
    for number in range(ROUNDS):
        all_at_once(lambda name: store.acts.limit(name, 3), f"q{number}")
    assert sql("SELECT count(*) AS rows, min(max_running) AS least FROM job_queues") == [{"rows": ROUNDS, "least": 3}]


def test_many_workers_that_start_at_once_with_new_limits_make_one_row_a_handler(store: Store, sql: Sql) -> None:
    for number in range(ROUNDS):
        names = [f"a{number}", f"b{number}"]
        limits = {name: RunningLimit(name, 2, None) for name in names}
        backwards = dict(reversed(limits.items()))
        orders = iter([limits, backwards] * (AT_ONCE // 2))
        all_at_once(lambda _, orders=orders, names=names: store.handlers.publish_limits(next(orders), names), "")
    assert sql("SELECT count(*) AS rows, min(max_running) AS least FROM job_handlers") == [
        {"rows": 2 * ROUNDS, "least": 2}
    ]
