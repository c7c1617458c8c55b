"""What holds in our sessions, whatever the server, the role or a handler has set."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from typing import Any

import psycopg
import pytest
from psycopg import sql

from durablejobs import DurableJobs, current_job
from durablejobs.store import claims
from durablejobs.store.postgres.transactions import beginnings

from ... import postgres

NOW = "2030-01-01 12:00:00.000000"

OURS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "synchronous_commit": "on",
    "lock_timeout": "30s",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
}


@pytest.fixture
def jobs(postgres_url: str) -> Iterator[DurableJobs]:
    with closing(DurableJobs(postgres_url)) as app:
        yield app


def settings_alone(jobs: DurableJobs) -> dict[str, Any]:
    """What holds for a statement that is a transaction of its own."""
    asked = ", ".join(f"current_setting('{name}')" for name in OURS)
    (row,) = jobs._store.database._connections.run_at_once(f"SELECT {asked}", ())  # type: ignore[attr-defined]
    return dict(zip(OURS, row, strict=True))


def test_defaults_of_the_database_do_not_weaken_what_is_enqueued(postgres_url: str, jobs: DurableJobs) -> None:
    with postgres.admin(postgres_url) as admin:
        (name,) = admin.execute("SELECT current_database()").fetchone() or ()
        weak = {"synchronous_commit": "off", "default_transaction_read_only": "on", "TimeZone": "Asia/Tokyo"}
        for setting, value in weak.items():
            admin.execute(f"ALTER DATABASE {name} SET {setting} TO '{value}'")
        try:
            assert settings_alone(jobs) == OURS
            job = jobs.enqueue("mail")
            assert jobs.get(job.id).created_at == job.created_at
        finally:
            admin.execute(f"ALTER DATABASE {name} RESET ALL")


def test_what_a_handler_sets_in_its_transaction_is_over_with_it(jobs: DurableJobs) -> None:
    @jobs.handler
    def weaken() -> None:
        with current_job().transaction() as connection:
            connection.exec_driver_sql("SET synchronous_commit TO off")
            connection.exec_driver_sql("SET TIME ZONE 'Asia/Tokyo'")
            connection.exec_driver_sql("SET lock_timeout TO 0")

    jobs.enqueue("weaken")
    assert jobs.work(burst=True, concurrency=1).succeeded == 1
    pool = jobs._store.database._connections.engine.pool  # type: ignore[attr-defined]
    for _ in range(pool.checkedin()):
        assert settings_alone(jobs) == OURS


def test_a_plain_job_is_stored_in_one_round_trip(jobs: DurableJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs.enqueue("mail")
    executed: list[str] = []
    execute = psycopg.Connection.execute

    def recording(self: Any, query: Any, *args: Any, **options: Any) -> Any:
        executed.append(str(query))
        return execute(self, query, *args, **options)

    monkeypatch.setattr(psycopg.Connection, "execute", recording)
    jobs.enqueue("mail")
    assert [text.split()[0] for text in executed] == ["INSERT"]


def test_a_plan_that_was_made_for_an_empty_table_does_not_read_a_full_one_to_its_end(
    jobs: DurableJobs, postgres_url: str
) -> None:
    jobs.open()
    compiled = claims.claim_statement(2).on_postgres("public")
    values = {"worker": 1, "now": NOW, "lease": NOW, "most": 1, "queue_0": "a", "queue_1": "b"}
    numbers = count(1)
    with postgres.admin(postgres_url) as connection:
        connection.execute("VACUUM ANALYZE jobs")
        connection.execute(beginnings(30, has_own_session=True).hot)
        connection.execute(f"PREPARE claim AS {re.sub('%s', lambda _: f'${next(numbers)}', compiled.sql)}")
        call = sql.SQL("EXPLAIN EXECUTE claim({})").format(
            sql.SQL(", ").join(map(sql.Literal, compiled.positional(values)))
        )
        connection.execute(call)
        jobs.enqueue_many("mail", [()] * 1000)
        plan = "\n".join(line for (line,) in connection.execute(call).fetchall())
        connection.execute("ROLLBACK")
    assert "Seq Scan" not in plan
