"""Errors that a healthy server gives, by its codes: said in one line, tried again, and never the job's fault."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any

import psycopg
import pytest
from psycopg.rows import DictRow
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from durablejobs import (
    DatabaseBusyError,
    DatabaseConfig,
    DatabaseError,
    DatabaseUnreachableError,
    DatabaseUnusableError,
    DiskFullError,
    DurableJobs,
    current_job,
)
from durablejobs.store import Store

from ...worker.harness import wait_until
from .workers import running

Direct = psycopg.Connection[DictRow]

REFUSALS: dict[str, type[DatabaseError]] = {
    "40P01": DatabaseBusyError,  # deadlock_detected
    "40001": DatabaseBusyError,  # serialization_failure
    "55P03": DatabaseBusyError,  # lock_not_available
    "57014": DatabaseBusyError,  # query_canceled
    "57P01": DatabaseUnreachableError,  # admin_shutdown
    "57P03": DatabaseUnreachableError,  # cannot_connect_now
    "53300": DatabaseUnreachableError,  # too_many_connections
    "25006": DatabaseUnreachableError,  # read_only_sql_transaction
    "53100": DiskFullError,  # disk_full
    "53200": DatabaseUnusableError,  # out_of_memory
    "58030": DatabaseUnusableError,  # io_error
    "XX000": DatabaseUnusableError,  # internal_error
}
by_code = pytest.mark.parametrize("code", REFUSALS)


@pytest.fixture
def jobs(postgres_url: str) -> Iterator[DurableJobs]:
    """An application on the server itself."""
    with closing(DurableJobs(postgres_url, database_config=DatabaseConfig(busy_timeout=5))) as app:
        yield app


@pytest.fixture
def refuse(direct: Direct) -> Iterator[Callable[..., None]]:
    """Let the next statements on jobs, of one kind, end with an error of this code."""
    direct.execute("CREATE SEQUENCE refusals")  # counts although everything is rolled back

    def refuse_next(event: str, code: str, times: int) -> None:
        direct.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"IF nextval('refusals') <= {times} THEN RAISE 'refused on purpose' USING ERRCODE = '{code}'; END IF; "
            "RETURN NULL; END $$"
        )
        direct.execute(f"CREATE TRIGGER refuse AFTER {event} ON jobs FOR EACH STATEMENT EXECUTE FUNCTION refuse()")

    yield refuse_next
    direct.execute("DROP SEQUENCE refusals CASCADE")
    direct.execute("DROP FUNCTION IF EXISTS refuse CASCADE")


@by_code
def test_an_enqueue_that_is_refused_says_so_in_one_line_and_stores_nothing(
    jobs: DurableJobs, direct: Direct, refuse: Callable[..., None], code: str
) -> None:
    refuse("INSERT", code, times=1)
    with pytest.raises(REFUSALS[code], match=r"^postgresql://[^\n]*nothing was stored[^\n]*$"):
        jobs.enqueue("mail")
    assert direct.execute("SELECT id FROM jobs").fetchall() == []
    jobs.enqueue("mail")


@by_code
def test_a_worker_tries_again_and_the_job_runs_once_with_no_attempt_spent(
    jobs: DurableJobs, direct: Direct, refuse: Callable[..., None], code: str
) -> None:
    """Promotion, claim and settlement are such updates: each is refused once, and the heartbeat's perhaps."""
    calls: list[int] = []

    @jobs.handler
    def mail() -> None:
        calls.append(current_job().attempt)

    mail.enqueue()
    refuse("UPDATE", code, times=4)
    with running(jobs, burst=True) as worker:
        assert worker.finish().succeeded == 1
    assert calls == [1]
    assert direct.execute("SELECT status, attempt, crashes FROM jobs").fetchall() == [
        {"status": "succeeded", "attempt": 1, "crashes": 0}
    ]
    assert direct.execute("SELECT * FROM job_errors").fetchall() == []
    assert direct.execute("SELECT last_value > 4 AS refused FROM refusals").fetchall() == [{"refused": True}]


def test_a_deadlock_ends_at_once_and_says_that_nothing_was_stored(
    jobs: DurableJobs, postgres_url: str, direct: Direct
) -> None:
    first, second = jobs.enqueue("mail").id, jobs.enqueue("mail").id
    with closing(Store(postgres_url)) as store, ThreadPoolExecutor() as pool:
        store.open()
        lock = "SELECT FROM jobs WHERE id = {} FOR UPDATE"
        direct.execute("SET deadlock_timeout = '60s'")  # so that the other one is the victim
        both_hold = threading.Barrier(2)

        def ours() -> None:
            with store.database.write() as connection:
                connection.exec_driver_sql(lock.format(first))
                both_hold.wait()
                connection.exec_driver_sql(lock.format(second))

        with direct.transaction():
            waiting = pool.submit(ours)
            direct.execute(lock.format(second))
            both_hold.wait()
            direct.execute(lock.format(first))
        with pytest.raises(DatabaseBusyError, match="nothing was stored, try again"):
            waiting.result()


def test_a_lock_that_somebody_keeps_is_waited_for_no_longer_than_the_busy_timeout(
    postgres_url: str, direct: Direct
) -> None:
    with closing(DurableJobs(postgres_url, database_config=DatabaseConfig(busy_timeout=0.3))) as jobs:
        jobs.enqueue("mail")
        with direct.transaction():
            direct.execute("LOCK TABLE jobs")
            with pytest.raises(DatabaseBusyError):
                jobs.enqueue("mail")
        jobs.enqueue("mail")


@pytest.mark.parametrize("moment", ["before it is lent", "while it is lent", "when it is given back"])
@pytest.mark.parametrize("is_noticed", [True, False])
def test_a_connection_that_is_lost_while_a_handler_has_it_leaves_no_traceback_in_the_log(
    jobs: DurableJobs,
    direct: Direct,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    moment: str,
    is_noticed: bool,
) -> None:
    jobs.open()
    database: Any = jobs._store.database
    lent = database.lend()

    def end(connection: Any) -> None:
        pid = connection.connection.driver_connection.pgconn.backend_pid
        direct.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        if is_noticed:
            with suppress(psycopg.OperationalError):
                connection.connection.driver_connection.execute("SELECT 1")

    def begin() -> Any:
        connection = database._connections.begin_writing()
        end(connection)
        return connection

    if moment == "before it is lent":
        monkeypatch.setattr(lent, "_begin", begin)
    with suppress(DatabaseError), lent as connection:
        connection.exec_driver_sql("SELECT 1")
        if moment == "while it is lent":
            end(connection)
        elif moment == "when it is given back":
            clean = lent._clean
            monkeypatch.setattr(lent, "_clean", lambda driver: (end(connection), clean(driver)))
    del lent
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert database._connections.engine.pool.checkedout() == 0
    jobs.enqueue("mail")


def test_a_handler_that_goes_on_without_its_connection_is_told_that_the_server_was_out_of_reach(
    jobs: DurableJobs, direct: Direct
) -> None:
    @jobs.handler(max_attempts=1)
    def stubborn() -> None:
        with current_job().transaction() as connection:
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            direct.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
            with suppress(DBAPIError):
                connection.exec_driver_sql("SELECT 1")

    job = stubborn.enqueue()
    jobs.work(burst=True, concurrency=1)
    assert "out of reach" in str(job.refresh().error)


def test_a_worker_without_a_free_connection_waits_until_there_is_one(
    postgres_url: str, direct: Direct, jobs: DurableJobs
) -> None:
    name = make_url(postgres_url).database
    direct.execute("CREATE ROLE limited LOGIN CONNECTION LIMIT 4")
    try:
        direct.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO limited")
        direct.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO limited")
        url = make_url(postgres_url).set(username="limited").render_as_string(hide_password=False)
        with closing(DurableJobs(url)) as poor:
            poor.handler("mail")(lambda: None)
            with running(poor, heartbeat=0.2) as worker:
                wait_until(lambda: direct.execute("SELECT FROM job_workers").fetchall(), "it has begun")
                crowd = occupy(url)
                direct.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                    "WHERE usename = 'limited' AND application_name = 'durablejobs'"
                )
                crowd += occupy(url)
                with closing(DurableJobs(url)) as late, pytest.raises(DatabaseUnreachableError, match="too many"):
                    late.enqueue("mail")
                jobs.using(check=False).enqueue("mail")
                for connection in crowd:
                    connection.close()
                wait_until(
                    lambda: (
                        worker.has_ended or direct.execute("SELECT FROM jobs WHERE status = 'succeeded'").fetchall()
                    ),
                    "the job has ended",
                )
                worker.stop()
    finally:
        direct.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'limited'")
        direct.execute(f'DROP OWNED BY limited; REVOKE ALL ON DATABASE "{name}" FROM limited; DROP ROLE limited')


def occupy(url: str) -> list[psycopg.Connection[Any]]:
    """Take all connections that a role may have."""
    taken: list[psycopg.Connection[Any]] = []
    while True:
        try:
            taken.append(psycopg.connect(url.replace("+psycopg", ""), autocommit=True))
        except psycopg.OperationalError:
            return taken
