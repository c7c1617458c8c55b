"""What holds in our sessions, whatever the server, the role or a handler has set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from itertools import count
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from durablejobs import DatabaseBusyError, DurableJobs, current_job
from durablejobs.store import claims, effects, endings, held_jobs, rescues
from durablejobs.store.hot import HotStatement
from durablejobs.store.postgres.transactions import LentTransaction, beginnings, session

from ... import postgres

NOW = "2030-01-01 12:00:00.000000"

PLANNED_ONCE = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off"}
OURS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "synchronous_commit": "on",
    "lock_timeout": "30s",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "statement_timeout": "1min",
    **PLANNED_ONCE,
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


def settings_in(connection: psycopg.Connection[Any], names: Iterable[str]) -> dict[str, str]:
    asked = ", ".join(f"current_setting('{name}')" for name in names)
    return dict(zip(names, connection.execute(f"SELECT {asked}").fetchone() or (), strict=True))


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


HARD_TO_WRITE = "Grüße, 世界 😀"


def speaks_utf8(url: str) -> bool:
    with closing(DurableJobs(url)) as jobs:

        @jobs.handler
        def greet(text: str) -> str:
            return text + "!"

        job = greet.enqueue(HARD_TO_WRITE)
        assert jobs.work(burst=True, concurrency=1).succeeded == 1
        return job.refresh().result == HARD_TO_WRITE + "!"


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
@pytest.mark.parametrize("where", ["database", "environment", "URL", "options"])
def test_text_arrives_as_it_is_whatever_encoding_is_the_default(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, encoding: str, where: str
) -> None:
    url = make_url(postgres_url)
    if where == "environment":
        monkeypatch.setenv("PGCLIENTENCODING", encoding)
    elif where == "URL":
        url = url.update_query_dict({"client_encoding": encoding})
    elif where == "options":
        url = url.update_query_dict({"options": f"-c client_encoding={encoding}"})
    with postgres.admin(postgres_url) as admin:
        if where == "database":
            admin.execute(f"ALTER DATABASE {url.database} SET client_encoding TO '{encoding}'")
        try:
            assert speaks_utf8(url.render_as_string(hide_password=False))
        finally:
            admin.execute(f"ALTER DATABASE {url.database} RESET ALL")


def test_a_statement_that_the_server_ends_is_told_with_what_the_server_says(jobs: DurableJobs) -> None:
    jobs.open()
    said = "the database is busy: the server says: canceling statement due to statement timeout; nothing was stored"
    sleep = "SET LOCAL statement_timeout TO 1; SELECT pg_sleep(5)"
    with pytest.raises(DatabaseBusyError, match=said), jobs._store.database.write() as connection:
        connection.exec_driver_sql(sleep)


def test_what_a_handler_sets_in_its_transaction_is_over_with_it(jobs: DurableJobs) -> None:
    @jobs.handler
    def weaken() -> None:
        with current_job().transaction() as connection:
            connection.exec_driver_sql("SET synchronous_commit TO off")
            connection.exec_driver_sql("SET TIME ZONE 'Asia/Tokyo'")
            connection.exec_driver_sql("SET lock_timeout TO 0")
            connection.exec_driver_sql("SET plan_cache_mode TO auto")
            connection.exec_driver_sql("SET enable_seqscan TO on")

    jobs.enqueue("weaken")
    assert jobs.work(burst=True, concurrency=1).succeeded == 1
    pool = jobs._store.database._connections.engine.pool  # type: ignore[attr-defined]
    for _ in range(pool.checkedin()):
        assert settings_alone(jobs) == OURS


def lent(jobs: DurableJobs) -> LentTransaction:
    return jobs._store.database.lend()  # type: ignore[return-value]


LEFT = {
    "a role": ("SET ROLE pg_read_all_data", "SELECT current_user"),
    "a user": ("SET SESSION AUTHORIZATION pg_read_all_data", "SELECT session_user"),
    "an encoding": ("SET client_encoding TO latin1", "SHOW client_encoding"),
    "a search path": ("SET search_path TO nowhere", "SHOW search_path"),
    "a way to fire triggers": ("SET session_replication_role TO replica", "SHOW session_replication_role"),
    "a lock": ("SELECT pg_advisory_lock(4711)", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
    "a table": ("CREATE TEMP TABLE left_behind(id int)", "SELECT to_regclass('pg_temp.left_behind')"),
    "a cursor": ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "SELECT count(*) FROM pg_cursors WHERE is_holdable"),
    "an ear": ("LISTEN news", "SELECT count(*) FROM pg_listening_channels()"),
}


@pytest.mark.parametrize("named", LEFT)
def test_a_handlers_transaction_leaves_nothing_in_its_session(jobs: DurableJobs, named: str) -> None:
    setting, asking = LEFT[named]
    jobs.open()
    seen = []
    for act in ("SELECT 1", setting, "SELECT 1"):
        with lent(jobs) as connection:
            session_id = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            seen.append((session_id, connection.exec_driver_sql(asking).scalar_one()))
            connection.exec_driver_sql(act)
    assert seen[0] == seen[2]
    assert settings_alone(jobs) == OURS


@pytest.mark.parametrize("has_own_session", [True, False])
def test_hot_statements_are_planned_once(postgres_url: str, has_own_session: bool) -> None:
    with postgres.admin(postgres_url) as connection:
        if has_own_session:
            connection.execute(session(30))
        connection.execute(beginnings(30, has_own_session).hot)
        assert settings_in(connection, PLANNED_ONCE) == PLANNED_ONCE
        connection.execute("ROLLBACK")


def test_other_statements_are_planned_as_the_user_has_it_and_may_read_for_long(
    postgres_url: str, jobs: DurableJobs
) -> None:
    theirs = {"plan_cache_mode": "force_custom_plan", "enable_seqscan": "on", "statement_timeout": "5min"}
    seen: list[dict[str, str]] = []

    @jobs.handler
    def look() -> None:
        with current_job().transaction() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, psycopg.Connection)
            seen.append(settings_in(driver, PLANNED_ONCE))

    with postgres.admin(postgres_url) as admin:
        (name,) = admin.execute("SELECT current_database()").fetchone() or ()
        for setting, value in theirs.items():
            admin.execute(f"ALTER DATABASE {name} SET {setting} TO '{value}'")
        try:
            jobs.enqueue("look")
            assert jobs.work(burst=True, concurrency=1).succeeded == 1
            with jobs._store.access.read() as connection:
                seen.append(settings_in(connection.connection.driver_connection, theirs))
        finally:
            admin.execute(f"ALTER DATABASE {name} RESET ALL")
    del theirs["statement_timeout"]
    assert seen == [theirs, theirs | {"statement_timeout": "5min"}]


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


def kept_plan(connection: psycopg.Connection[Any], statement: HotStatement, values: Mapping[str, Any]) -> str:
    """Return the plan that a worker's turn keeps for this statement, which is made at the first call."""
    compiled = statement.on_postgres("public")
    numbers = count(1)
    name = f"kept_{id(statement)}"
    if not connection.execute("SELECT FROM pg_prepared_statements WHERE name = %s", (name,)).fetchall():
        numbered = re.sub("%s", lambda _: f"${next(numbers)}", compiled.sql)
        connection.execute(f"PREPARE {name} AS {numbered}")
    literals = sql.SQL(", ").join(map(sql.Literal, compiled.positional(values)))
    call = sql.SQL("EXPLAIN EXECUTE {}({})").format(sql.Identifier(name), literals)
    return "\n".join(line for (line,) in connection.execute(call).fetchall())


@pytest.fixture
def turn(jobs: DurableJobs, postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection in a transaction as a worker's turn begins it; what there is is known to the planner."""
    jobs.open()
    with postgres.admin(postgres_url) as connection:
        connection.execute("VACUUM ANALYZE jobs")
        connection.execute(session(30))
        connection.execute(beginnings(30, has_own_session=True).hot)
        yield connection
        connection.execute("ROLLBACK")


def test_a_plan_that_was_made_for_an_empty_table_does_not_read_a_full_one_to_its_end(
    jobs: DurableJobs, turn: psycopg.Connection[Any]
) -> None:
    claim = claims.claim_statement(2)
    values = {"worker": 1, "now": NOW, "lease": NOW, "most": 1, "queue_0": "a", "queue_1": "b"}
    kept_plan(turn, claim, values)
    jobs.enqueue_many("mail", [()] * 1000)
    assert "Seq Scan" not in kept_plan(turn, claim, values)


BY_ID = {
    "succeed": (endings.SUCCEED_IN_POSTGRES, dict.fromkeys(("ids", "tokens", "started", "finished", "results"), "{}")),
    "is ours": (effects.IS_OURS, {"job": 1, "token": 1}),
    "release": (held_jobs.RELEASE, {"rows": "[[1, 1]]", "now": NOW}),
    "give back": (rescues.GIVE_BACK, {"rows": '[[1, "pending", 0, 0, null]]', "now": NOW}),
}


@pytest.mark.parametrize("name", BY_ID)
def test_a_plan_that_was_made_while_no_job_ran_finds_those_that_run_by_their_ids(
    jobs: DurableJobs, turn: psycopg.Connection[Any], name: str
) -> None:
    jobs.enqueue_many("mail", [()] * 5000)
    turn.execute("ANALYZE jobs")
    plan = kept_plan(turn, *BY_ID[name])
    assert "Index Scan using pk_jobs" in plan
    assert "ix_jobs_running" not in plan


def test_a_connection_just_made_is_used_although_another_thread_finds_all_stale(jobs: DurableJobs) -> None:
    jobs.open()
    jobs._store.database._connections._stale_until = float("inf")  # type: ignore[attr-defined]
    job = jobs.enqueue("mail")
    assert jobs.get(job.id).handler == "mail"
