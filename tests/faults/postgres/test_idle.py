"""While a handler runs, its worker has no transaction open in the database, and so no lock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from psycopg.rows import DictRow

from durablejobs import DurableJobs, current_job

from ...worker.harness import wait_until
from .workers import PATIENCE, running

Direct = psycopg.Connection[DictRow]

OPEN_SINCE = """
    SELECT pid, state, query FROM pg_stat_activity
    WHERE application_name = 'durablejobs' AND datname = current_database() AND xact_start < %s
"""


@pytest.fixture
def jobs(postgres_url: str) -> Iterator[DurableJobs]:
    """An application on the server itself."""
    with closing(DurableJobs(postgres_url)) as app:
        yield app


def open_while_running(jobs: DurableJobs, direct: Direct, handler: Callable[[Callable[[], None]], None]) -> list[Any]:
    """Return the transactions that were open when a handler had begun, and still are after some heartbeats."""
    began, may_end = threading.Event(), threading.Event()

    def pause() -> None:
        began.set()
        assert may_end.wait(PATIENCE)

    def run() -> None:
        handler(pause)

    jobs.handler("long")(run)
    jobs.enqueue("long")
    with running(jobs, lease=30.0, heartbeat=0.05) as worker:
        assert began.wait(PATIENCE)
        now = direct.execute("SELECT clock_timestamp() AS now").fetchall()[0]["now"]
        beats = "SELECT FROM job_workers WHERE heartbeat_at > %s + interval '0.3 s'"
        wait_until(lambda: direct.execute(beats, (now,)).fetchall(), "the heart has beaten some times")
        found = direct.execute(OPEN_SINCE, (now,)).fetchall()
        may_end.set()
        worker.stop()
    return found


def test_no_transaction_is_open_while_a_handler_runs(jobs: DurableJobs, direct: Direct) -> None:
    assert open_while_running(jobs, direct, lambda pause: pause()) == []


def test_only_the_handlers_own_transaction_is_open_if_it_has_asked_for_one(jobs: DurableJobs, direct: Direct) -> None:
    def in_its_own_transaction(pause: Callable[[], None]) -> None:
        with current_job().transaction() as connection:
            connection.exec_driver_sql("SELECT 1")
            pause()

    found = open_while_running(jobs, direct, in_its_own_transaction)
    assert [session["state"] for session in found] == ["idle in transaction"]
    assert found[0]["query"] == "SELECT 1"
