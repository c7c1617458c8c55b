"""Connections on which nothing comes any more, though nothing says so."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg.rows import DictRow

from durablejobs import CommitUnknownError, DatabaseConfig, DatabaseUnreachableError, DurableJobs, Status
from durablejobs.store.postgres import silence

from ...worker.harness import wait_until
from .proxy import CONNECT, Effect, Moment, Proxy
from .workers import PATIENCE, running


@pytest.fixture(autouse=True)
def _impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seconds of real life would make the tests slow."""
    monkeypatch.setattr(silence, "SILENCE", 0.3)
    monkeypatch.setattr(silence, "LOOK", 0.3)


def count(direct: psycopg.Connection[Any]) -> int:
    row = direct.execute("SELECT count(*) AS jobs FROM jobs").fetchone()
    assert row is not None
    return int(row["jobs"])


def test_a_connection_that_falls_silent_is_given_up_and_the_next_one_works(
    jobs: DurableJobs, proxy: Proxy, direct: psycopg.Connection[DictRow]
) -> None:
    jobs.enqueue("mail")
    proxy.trap("INSERT", Moment.BEFORE, Effect.SILENCE)
    with pytest.raises(DatabaseUnreachableError, match=r"silent for \d s.*; nothing was stored, try again"):
        jobs.enqueue_many("mail", [()])
    assert count(direct) == 1
    jobs.enqueue("mail")
    assert count(direct) == 2


@pytest.mark.parametrize(("moment", "stored"), [(Moment.BEFORE, 0), (Moment.AFTER, 1)])
@pytest.mark.parametrize(
    ("request_", "options"), [("^COMMIT", {"unique_key": "key"}), ("INSERT", {})], ids=["transaction", "one statement"]
)
def test_a_commit_that_is_never_answered_is_unknown(
    jobs: DurableJobs,
    proxy: Proxy,
    direct: psycopg.Connection[DictRow],
    request_: str,
    options: dict[str, str],
    moment: Moment,
    stored: int,
) -> None:
    proxy.trap(request_, moment, Effect.SILENCE)
    with pytest.raises(CommitUnknownError, match=r"silent for \d s"):
        jobs.using(**options).enqueue("mail")
    assert count(direct) == stored


def test_a_server_that_says_nothing_on_any_connection_is_out_of_reach(
    proxied_url: str, proxy: Proxy, direct: psycopg.Connection[DictRow]
) -> None:
    jobs = DurableJobs(f"{proxied_url}?connect_timeout=2")
    try:
        jobs.enqueue("mail")
        proxy.silence()
        with pytest.raises(DatabaseUnreachableError):
            jobs.enqueue_many("mail", [()])
        assert count(direct) == 1
        proxy.speak()
        jobs.enqueue("mail")
    finally:
        jobs.close()


def test_a_server_that_accepts_and_never_answers_is_out_of_reach(proxied_url: str, proxy: Proxy) -> None:
    proxy.silence()
    jobs = DurableJobs(f"{proxied_url}?connect_timeout=2")
    try:
        with pytest.raises(DatabaseUnreachableError, match="timeout"):
            jobs.enqueue("mail")
    finally:
        jobs.close()


def test_a_statement_that_waits_for_a_lock_is_left_alone_however_often_somebody_looks(
    jobs: DurableJobs, proxy: Proxy, direct: psycopg.Connection[DictRow]
) -> None:
    job = jobs.enqueue("mail")
    with ThreadPoolExecutor() as pool:
        with direct.transaction():
            direct.execute("SELECT FROM jobs FOR UPDATE")
            before = proxy.requests.count(CONNECT)
            cancelling = pool.submit(jobs.cancel, job.id)
            wait_until(lambda: proxy.requests.count(CONNECT) >= before + 3, "somebody has looked three times")
            assert not cancelling.done()
        assert cancelling.result(PATIENCE).status is Status.CANCELLED


def test_a_session_that_is_given_up_keeps_no_locks(
    proxied_url: str, proxy: Proxy, direct: psycopg.Connection[DictRow]
) -> None:
    jobs = DurableJobs(proxied_url, database_config=DatabaseConfig(busy_timeout=10))
    try:
        job = jobs.enqueue("mail")
        proxy.trap("UPDATE", Moment.AFTER, Effect.SILENCE)
        with pytest.raises(DatabaseUnreachableError):
            jobs.cancel(job.id)
        assert jobs.cancel(job.id).status is Status.CANCELLED
    finally:
        jobs.close()
    assert count(direct) == 1


def test_a_heartbeat_that_is_never_answered_costs_no_lease(
    jobs: DurableJobs, postgres_url: str, proxy: Proxy, direct: psycopg.Connection[DictRow]
) -> None:
    began, may_end = threading.Event(), threading.Event()
    other = DurableJobs(postgres_url)
    calls: list[str] = []

    @jobs.handler("slow")
    @other.handler("slow")
    def slow() -> None:
        calls.append("slow")
        began.set()
        assert may_end.wait(PATIENCE)

    def lease() -> str:
        row = direct.execute("SELECT lease_expires_at::text AS lease FROM jobs").fetchone()
        assert row is not None
        return str(row["lease"])

    jobs.enqueue("slow")
    try:
        with running(jobs, lease=20.0, heartbeat=0.2) as worker:
            assert began.wait(PATIENCE)
            with running(other, lease=20.0, heartbeat=0.2) as thief:
                trap = proxy.trap("SET lease_expires_at", Moment.BEFORE, Effect.SILENCE)
                trap.wait()
                before = lease()
                wait_until(lambda: lease() > before, "the heart beats again")
                may_end.set()
                wait_until(
                    lambda: not direct.execute("SELECT FROM jobs WHERE finished_at IS NULL").fetchall(),
                    "the job has ended",
                )
                thief.stop()
            worker.stop()
    finally:
        other.close()
    assert calls == ["slow"]


def test_a_connection_that_was_long_unused_is_asked_first(
    jobs: DurableJobs, proxy: Proxy, direct: psycopg.Connection[DictRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.enqueue("mail")
    monkeypatch.setattr("durablejobs.store.postgres.connections.LONG_UNUSED", 0)
    trap = proxy.trap("^SELECT$", Moment.BEFORE, Effect.SILENCE)
    jobs.enqueue("mail")  # not of unknown outcome: on a new connection
    assert trap.is_sprung
    assert count(direct) == 2


def test_an_idle_worker_lives_on_whose_look_is_not_answered_for_longer_than_its_lease(
    jobs: DurableJobs, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "SILENCE", 1.5)
    jobs.handler("mail")(lambda: None)
    jobs.migrate()
    with running(jobs, lease=1.0, heartbeat=0.2) as worker:
        trap = proxy.trap("WITH peek", Moment.BEFORE, Effect.SILENCE)
        wait_until(lambda: trap.is_sprung, "the worker has looked")
        job = jobs.enqueue("mail")
        wait_until(lambda: job.refresh().status is Status.SUCCEEDED or worker.has_ended, "the job has been run")
        assert worker.stop().succeeded == 1
