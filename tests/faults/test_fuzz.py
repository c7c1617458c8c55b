"""Fuzz: whatever is typed, and whatever SQL puts into the table, on both databases; each test counts what it tried."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Callable
from typing import Any, Final

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durablejobs import DurableJobs, Status

from ..conftest import Sql
from .conftest import Ask

pytestmark = pytest.mark.conformance

Record = Callable[[str, object], None]


def fuzz(check: Callable[[Any], None], inputs: st.SearchStrategy[Any], most: int) -> int:
    """Check so many inputs; return how many were tried."""
    tried = 0

    @settings(max_examples=most)
    @given(inputs)
    def check_each(one: Any) -> None:
        nonlocal tried
        tried += 1
        check(one)

    check_each()
    return tried


# Command lines

COMMANDS = ["enqueue", "list", "show", "stats", "workers", "retry", "cancel", "delete", "prune", "wait", "migrate"]
COMMANDS += ["doctor", "verify", "completion", "lst", ""]
OPTIONS = ["--db", "--json", "--limit", "--status", "--queue", "--handler", "--in", "--at", "--priority", "--yes"]
OPTIONS += ["--batch", "--unique-key", "--older-than", "--minutes", "--all", "--dry-run", "--before", "--timeout"]
OPTIONS += ["--max-attempts", "--app", "--help", "-h", "--", "--replace", "--deep", "--check", "--sql", "--nonsense"]
VALUES = ["mail", "0", "-1", "1", "2", "nan", "1e9", "handlers", "jobs.db", "none.db", "pending", "all", "n:=1", "k=v"]
VALUES += [
    "n:={",
    "@none",
    "-",
    "2030-01-01T00:00Z",
    "0s",
    "é\u202e",
    "\x1b[2J",
    "' OR 1=1 --",
    "%s%n",
    "../..",
    "0.01",
]

words = st.one_of(
    st.sampled_from(OPTIONS), st.sampled_from(VALUES), st.text(max_size=8).filter(lambda t: "\0" not in t)
)
command_lines = st.builds(
    lambda command, rest: [command, *rest], st.sampled_from(COMMANDS), st.lists(words, max_size=6)
)


@pytest.mark.parametrize("most", [60, pytest.param(2000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_no_command_line_gets_a_traceback(ask: Ask, most: int, record_property: Record) -> None:
    tried = fuzz(lambda typed: check_command_line(ask, typed), command_lines, most)
    record_property("command lines", tried)


def check_command_line(ask: Ask, typed: list[str]) -> None:
    """Whatever is typed: a known exit code, no traceback, no control characters, at most a few lines of complaint."""
    if typed[0] == "wait":
        typed = [*(each for each in typed if each != "--timeout"), "--timeout", "0.01"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sys.stdin", io.StringIO())
        code, out, err = ask(*typed)
    assert code in (0, 1, 2, 3, 4, 5)
    assert "Traceback" not in err
    assert "\x1b" not in out + err
    if code not in (0, 4):
        assert err.count("\n") <= 6 + 2 * len(typed), err  # each of several ids gets its line


# Rows by SQL

sql_values = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.binary(max_size=10),
    st.sampled_from(["[]", "{}", "[1]", "mail", "pending", "running", "default", "2030-01-01 00:00:00", "now", "1"]),
    st.sampled_from(list(Status)),
)
PLAUSIBLE: Final[dict[str, list[Any]]] = {
    "handler": ["mail", "none", "a.b:c", ""],
    "queue": ["default", "other", "two words"],
    "args": ["[]", "[1, [2]]", "{}", "[", "7"],
    "kwargs": ["{}", '{"a": 1}', "[]", "null"],
    "status": ["pending", "scheduled", "running", "succeeded", "blocked"],
    "priority": [0, -5, 2**31 - 1, 2**31],
    "run_at": ["2030-01-01 00:00:00", "1999-12-31 23:59:59.5", "9999-12-31 23:59:59", "soon"],
    "attempt": [0, 1, 19, 20, 2**31],
    "max_attempts": [1, 20, 0, 10**9],
    "crashes": [0, 1, 4, -1],
    "claim_token": [0, 1, 2**62],
    "unique_key": ["a", "b", ""],
    "timeout": [0.1, 1e9, 0, -1],
    "result": ["null", "[1]", "nothing"],
    "meta": ["{}", '{"tags": ["a"]}', "[]", "1"],
    "created_at": ["2030-01-01 00:00:00", "now"],
    "finished_at": ["2020-01-01 00:00:00", "now"],
    "lease_expires_at": ["2020-01-01 00:00:00", "2030-01-01 00:00:00"],
}
"""Columns, and values that may get in, or nearly."""


def _row_of(columns: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    either = {column: st.one_of(st.sampled_from(PLAUSIBLE[column]), sql_values) for column in columns}
    return st.fixed_dictionaries(either)


rows_by_sql = st.lists(st.sampled_from(sorted(PLAUSIBLE)), min_size=1, max_size=4, unique=True).flatmap(_row_of)


@pytest.mark.parametrize("most", [20, pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_whatever_sql_inserts_is_refused_or_harms_no_other_job(
    app: DurableJobs, sql: Sql, dialect: str, most: int, record_property: Record
) -> None:
    tried = {True: 0, False: 0}
    app.handler("mail")(lambda *args, **kwargs: None)

    def check(rows: list[dict[str, Any]]) -> None:
        sql("DELETE FROM jobs")
        for row in rows:
            tried[is_taken(sql, row if dialect == "sqlite" else as_literals(row))] += 1
        check_that_others_go_on(app, sql)

    fuzz(check, st.lists(rows_by_sql, min_size=1, max_size=12), most)
    record_property("rows by SQL", sum(tried.values()))
    record_property("of them refused", tried[False])
    assert all(tried.values())
    print(dialect, tried)


def as_literals(row: dict[str, Any]) -> dict[str, Any]:
    """Numbers as text, which PostgreSQL takes for any column, as it takes literals: a typed number only fits some."""
    return {column: str(value) if isinstance(value, int | float) else value for column, value in row.items()}


def is_taken(sql: Sql, row: dict[str, Any]) -> bool:
    """Insert a row; return whether the database has taken it."""
    columns = {"handler": "mail", "args": '["a"]'} | row
    marks = ", ".join("?" * len(columns))
    try:
        sql(f"INSERT INTO jobs({', '.join(columns)}) VALUES ({marks})", *columns.values())
    except (sqlite3.Error, psycopg.Error, UnicodeEncodeError):
        return False
    return True


def check_that_others_go_on(app: DurableJobs, sql: Sql) -> None:
    """What got in can be read, and a worker does its other work beside it."""
    innocent = app.using(priority=-(2**31)).enqueue("mail", 1)
    for job in app.list_jobs(limit=1000):
        json.dumps([job.args, job.kwargs, job.meta])
    app.worker(concurrency=1, burst=True).run()
    assert app.get(innocent.id).status is Status.SUCCEEDED
    assert sql("SELECT count(*) AS number FROM jobs WHERE status = 'pending'") == [{"number": 0}]
