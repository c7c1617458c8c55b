"""A PostgreSQL database that cannot be used gets one clear line: the place, the cause, what to do; no password."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import URL, make_url

from ... import postgres
from ..conftest import Ask

pytestmark = pytest.mark.conformance


@pytest.fixture
def dialect() -> str:
    """Only this one is asked here."""
    return "postgresql"


@pytest.fixture
def address(postgres_url: str) -> URL:
    return make_url(postgres_url)


@pytest.fixture
def locked_role(postgres_url: str) -> Iterator[str]:
    """A role that has to give a password."""
    if postgres.GIVEN:
        pytest.skip("only the server of the tests is known to ask for passwords")
    name = f"locked_{os.getpid()}"
    with postgres.admin(postgres_url) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'right'")
        yield name
        connection.execute(f"DROP ROLE {name}")


def other(address: URL, **changes: Any) -> str:
    """Return the URL with something else in it."""
    query = changes.pop("query", None)
    url = address.set(**changes)
    return (url.update_query_dict(query) if query else url).render_as_string(hide_password=False)


PLACES: dict[str, tuple[Callable[[URL], str], int, str]] = {
    "nobody listens": (lambda url: "postgresql://ann:secret@127.0.0.1:1/shop", 5, "refused"),
    "no such host": (lambda url: "postgresql://ann:secret@nowhere.invalid/shop", 5, "nowhere.invalid"),
    "no such socket": (lambda url: "postgresql://ann:secret@/shop?host=/nowhere", 5, "/nowhere"),
    "no such database": (lambda url: other(url, database="nowhere"), 5, "no such database"),
    "no such role": (lambda url: other(url, username="nobody", password="secret"), 5, "refuses this user"),
    "another schema": (lambda url: other(url, query={"schema": "nowhere"}), 5, "durablejobs migrate"),
    "no name of a schema": (lambda url: other(url, query={"schema": "a b"}), 2, "schema"),
    "a schema of the server's": (lambda url: other(url, query={"schema": "pg_temp"}), 2, "PostgreSQL's own"),
    "the schema of the standard": (lambda url: other(url, query={"schema": "information_schema"}), 2, "PostgreSQL's"),
    "neither yes nor no": (lambda url: other(url, query={"listen": "perhaps"}), 2, "yes or no"),
    "an unknown option": (lambda url: other(url, query={"colour": "secret"}), 2, "colour"),
    "an option of the wrong type": (lambda url: other(url, query={"connect_timeout": "secret"}), 2, "connect_timeout"),
    "a port that is none": (lambda url: "postgresql://ann:secret@host:port/shop", 2, "cannot be read"),
    "a password with an @": (lambda url: "postgresql://ann:p@secret@127.0.0.1:1/shop", 2, "(@ as %40)"),
    "a password with an @ and a /": (lambda url: "postgresql://ann:p@secret/x@127.0.0.1:1/shop", 2, "(@ as %40)"),
    "a password with an @ and a ?": (lambda url: "postgresql://ann:p@sec?ret@127.0.0.1:1/shop", 2, "(@ as %40)"),
    "NUL in a password": (lambda url: "postgresql://ann:secret%00@127.0.0.1:1/shop", 2, "NUL"),
    "NUL in a user": (lambda url: "postgresql://ann%00:secret@127.0.0.1:1/shop", 2, "NUL"),
    "NUL in a host": (lambda url: "postgresql://ann:secret@127.0.0.1%00:1/shop", 2, "NUL"),
    "NUL in a database": (lambda url: "postgresql://ann:secret@127.0.0.1:1/shop%00", 2, "NUL"),
    "NUL in an option": (lambda url: "postgresql://ann:secret@127.0.0.1:1/shop?options=%00", 2, "NUL"),
    "a connection string": (lambda url: other(url, query={"conninfo": "password=secret"}), 2, "conninfo"),
    "a port out of range": (lambda url: "postgresql://ann:secret@127.0.0.1:99999/shop", 5, "99999"),
    "another driver": (lambda url: "postgresql+psycopg2://ann:secret@host/shop", 2, "psycopg2"),
    "another database": (lambda url: "mysql://ann:secret@host/shop", 2, "mysql"),
}


@pytest.mark.parametrize("command", [["list"], ["enqueue", "mail", "a"], ["worker", "--burst", "--app", "handlers"]])
@pytest.mark.parametrize("named", PLACES)
def test_a_place_where_there_is_no_queue(ask: Ask, address: URL, named: str, command: list[str]) -> None:
    where, code, part = PLACES[named]
    answer, out, err = ask(*command, "--db", where(address))
    assert (answer, out) == (code, ""), err
    assert part in err
    assert err.startswith("durablejobs: ")
    assert err.count("\n") == 1
    assert "secret" not in err


def test_a_wrong_password_is_refused_and_never_shown(ask: Ask, address: URL, locked_role: str) -> None:
    answer, _, err = ask("enqueue", "mail", "a", "--db", other(address, username=locked_role, password="secret"))
    assert (answer, err.count("\n"), "secret" in err) == (5, 1, False)
    assert "the server refuses this user or password" in err


def test_a_user_without_rights_on_the_tables_is_told_which_it_lacks(
    ask: Ask, address: URL, postgres_url: str, locked_role: str
) -> None:
    where = other(address, username=locked_role, password="right")
    answer, _, err = ask("list", "--db", where)
    assert (answer, err.count("\n")) == (5, 1)
    assert "this user lacks a right" in err


OTHERS: dict[str, tuple[str, str]] = {
    "another program's table": ("CREATE TABLE {schema}.jobs(id integer)", "that is not durablejobs' own"),
    "no tables": ("SELECT 1", "durablejobs migrate"),
    "a newer schema": (
        "CREATE TABLE {schema}.job_schema AS SELECT '9999'::text AS version_num, '99.0'::text AS needs",
        "99.0",
    ),
}


@pytest.mark.parametrize("named", OTHERS)
@pytest.mark.parametrize("command", [["list"], ["enqueue", "mail", "a"], ["worker", "--burst", "--app", "handlers"]])
def test_what_is_no_queue_of_ours_stays_as_it_is(
    ask: Ask, address: URL, postgres_url: str, named: str, command: list[str]
) -> None:
    statement, part = OTHERS[named]
    schema = f"others_{os.getpid()}"
    with postgres.admin(postgres_url) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        try:
            connection.execute(statement.format(schema=schema))
            before = _tables(connection, schema)
            answer, out, err = ask(*command, "--db", other(address, query={"schema": schema}))
            assert (answer, out, err.count("\n")) == (5, "", 1), err
            assert part in err
            assert _tables(connection, schema) == before
        finally:
            connection.execute(f"DROP SCHEMA {schema} CASCADE")


IN_THE_WAY = {
    "job_logs": "CREATE TABLE {schema}.job_logs(id integer)",
    "job_errors": "CREATE TABLE {schema}.job_errors(id integer)",
    "jobs": "CREATE VIEW {schema}.jobs AS SELECT 1 AS id",
    "jobs_overview": "CREATE VIEW {schema}.jobs_overview AS SELECT 1 AS id",
    "job_queues": "CREATE TYPE {schema}.job_queues AS ENUM ('a')",
    "job_counts": "CREATE SEQUENCE {schema}.job_counts",
    "jobs_were_inserted": "CREATE FUNCTION {schema}.jobs_were_inserted() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
}


@pytest.mark.parametrize("name", IN_THE_WAY)
def test_what_has_a_name_of_ours_is_named_by_a_migration_and_not_touched(
    ask: Ask, address: URL, postgres_url: str, name: str
) -> None:
    schema = f"others_{os.getpid()}"
    objects = "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace ORDER BY 1"
    with postgres.admin(postgres_url) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        try:
            connection.execute(IN_THE_WAY[name].format(schema=schema))
            before = connection.execute(objects, (schema,)).fetchall()
            answer, out, err = ask("migrate", "--db", other(address, query={"schema": schema}))
            assert (answer, out, err.count("\n")) == (5, "", 1), err
            assert f'"{name}"' in err
            assert err.endswith("; give the queue a file or a schema of its own\n")
            assert connection.execute(objects, (schema,)).fetchall() == before
        finally:
            connection.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.mark.parametrize("schema", ["order", "user", "select"])
def test_a_schema_may_have_the_name_of_a_word_of_sql(ask: Ask, address: URL, postgres_url: str, schema: str) -> None:
    url = other(address, query={"schema": schema})
    with postgres.admin(postgres_url) as connection:
        try:
            assert ask("migrate", "--db", url)[0] == 0
            assert ask("enqueue", "mail", "a", "--db", url)[0] == 0
            assert ask("worker", "--burst", "--app", "handlers", "--db", url)[0] == 0
            assert ask("stats", "--db", url)[0] == 0
            (count,) = connection.execute(f'SELECT sum(number) FROM "{schema}".job_counts').fetchone() or ()
            assert count == 1
            script = ask("migrate", "--sql", "--db", url)[1]
            connection.execute(f'DROP SCHEMA "{schema}" CASCADE')
            connection.execute(script)
            assert ask("migrate", "--check", "--db", url)[0] == 0
        finally:
            connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')


def _tables(connection: Any, schema: str) -> list[str]:
    rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s ORDER BY 1", (schema,))
    return [name for (name,) in rows]


@pytest.mark.parametrize("arguments", [["backup", "copy.db"], ["backup", "."]])
def test_a_backup_is_refused_with_the_tools_that_make_one(ask: Ask, arguments: list[str]) -> None:
    answer, out, err = ask(*arguments)
    assert (answer, out, err.count("\n")) == (5, "", 1), err
    assert "pg_dump" in err
