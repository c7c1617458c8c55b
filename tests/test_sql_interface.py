"""`INSERT INTO jobs` by other programs, with their own SQLite clients, is a complete enqueue; nonsense is refused."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from durablejobs import DurableJobs, JobFilter
from durablejobs.clock import to_text
from durablejobs.statuses import Status
from durablejobs.store.peeking import Peek

from .clocks import ManualClock
from .conftest import Sql

# Each program takes the path of the database, a statement, and its values.
PERL = """
use DBI;
my ($path, $sql, @values) = @ARGV;
DBI->connect("dbi:SQLite:$path", "", "", {RaiseError => 1, PrintError => 0})->do($sql, undef, @values);
"""
PHP = """<?php
[, $path, $sql] = $argv;
$db = new PDO("sqlite:$path");
$db->setAttribute(PDO::ATTR_ERRMODE, PDO::ERRMODE_EXCEPTION);
$db->prepare($sql)->execute(array_slice($argv, 3));
"""
RUBY = """
require "sqlite3"
path, sql, *values = ARGV
SQLite3::Database.new(path).execute(sql, values)
"""
TCL = """
package require sqlite3
set values [lassign $argv path sql]
sqlite3 db $path
foreach value $values {
    set position [string first ? $sql]
    set name value[incr count]
    set $name $value
    set sql [string replace $sql $position $position ":$name"]
}
db eval $sql
"""
NODE = """
const { DatabaseSync } = require("node:sqlite");
const [path, sql, ...values] = process.argv.slice(2);
new DatabaseSync(path).prepare(sql).run(...values);
"""
PROGRAMS: dict[str, tuple[list[str], str, str]] = {
    "perl": (["perl"], "insert.pl", PERL),
    "php": (["php"], "insert.php", PHP),
    "ruby": (["ruby"], "insert.rb", RUBY),
    "tclsh": (["tclsh"], "insert.tcl", TCL),
    "node": (["node", "--no-warnings"], "insert.js", NODE),
}
PROBES = {
    "perl": ["perl", "-MDBD::SQLite", "-e", "1"],
    "php": ["php", "-r", 'exit(extension_loaded("pdo_sqlite") ? 0 : 1);'],
    "ruby": ["ruby", "-rsqlite3", "-e", "1"],
    "tclsh": ["tclsh", "/dev/stdin"],
    "node": ["node", "--no-warnings", "-e", 'require("node:sqlite")'],
}

Insert = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(params=["sqlite3", *PROGRAMS])
def insert(request: pytest.FixtureRequest, tmp_path: Path, path: Path) -> Insert:
    """Return a function that runs a statement with values in a program of another language."""
    program = request.param
    if shutil.which(program) is None:
        pytest.skip(f"there is no {program}")
    if program == "sqlite3":

        def by_shell(sql: str, *values: str) -> subprocess.CompletedProcess[str]:
            for value in values:
                sql = sql.replace("?", "'" + value.replace("'", "''") + "'", 1)
            return subprocess.run(
                ["sqlite3", "-bail", str(path), sql], capture_output=True, text=True, timeout=60, check=False
            )

        return by_shell
    probe = subprocess.run(
        PROBES[program], capture_output=True, text=True, input="package require sqlite3", timeout=60, check=False
    )
    if probe.returncode or "can't find package" in probe.stderr:
        pytest.skip(f"{program} has no client for SQLite here")
    command, name, code = PROGRAMS[program]
    (tmp_path / name).write_text(code, encoding="utf-8")

    def by_program(sql: str, *values: str) -> subprocess.CompletedProcess[str]:
        words = [*command, str(tmp_path / name), str(path), sql, *values]
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    return by_program


@pytest.fixture
def path(database_path: Path) -> Path:
    """A file with an empty queue."""
    with closing(DurableJobs(database_path)) as jobs:
        jobs.migrate()
    return database_path


def succeeded(done: subprocess.CompletedProcess[str]) -> bool:
    assert done.returncode == 0, done.stderr
    return True


def test_a_job_of_another_language_is_complete_and_runs(insert: Insert, path: Path, sql: Sql) -> None:
    assert succeeded(insert("INSERT INTO jobs(handler, args) VALUES (?, ?)", "mail", '["ä@b.c", {"n": 2}]'))
    now = to_text(datetime.now(UTC))
    (row,) = sql("SELECT * FROM jobs")
    assert row == {
        "id": 1,
        "handler": "mail",
        "queue": "default",
        "args": '["ä@b.c", {"n": 2}]',
        "kwargs": "{}",
        "status": "pending",
        "priority": 0,
        "run_at": row["created_at"],
        "attempt": 0,
        "max_attempts": 20,
        "crashes": 0,
        "claim_token": 0,
        "worker_id": None,
        "lease_expires_at": None,
        "cancel_requested_at": None,
        "unique_key": None,
        "unique_while": None,
        "unique_until": None,
        "debounce_until": None,
        "running_key": None,
        "timeout": None,
        "result": None,
        "error": None,
        "progress": None,
        "meta": "{}",
        "created_at": row["created_at"],
        "started_at": None,
        "finished_at": None,
    }
    assert len(row["created_at"]) == len(now)
    assert to_text(datetime.now(UTC) - timedelta(minutes=5)) < row["created_at"] <= now
    with closing(DurableJobs(path)) as jobs:
        jobs.handler("mail")(lambda to, options: f"{to} {options['n']}")
        jobs.work(burst=True, concurrency=1)
        assert jobs.get(1).result == "ä@b.c 2"


def test_another_language_chooses_queue_priority_unique_key_and_time(insert: Insert, sql: Sql) -> None:
    statement = (
        "INSERT INTO jobs(handler, kwargs, queue, priority, max_attempts, unique_key, run_at, meta) "
        "VALUES (?, ?, ?, -7, 3, ?, datetime('now', '+1 hour'), ?)"
    )
    values = ("mail", '{"to": "a@b.c"}', "bulk", "welcome:7", '{"trace": 1}')
    assert succeeded(insert(statement, *values))
    (row,) = sql("SELECT kwargs, queue, priority, max_attempts, unique_key, meta, status FROM jobs")
    assert row == {
        "kwargs": '{"to": "a@b.c"}',
        "queue": "bulk",
        "priority": -7,
        "max_attempts": 3,
        "unique_key": "welcome:7",
        "meta": '{"trace": 1}',
        "status": "scheduled",
    }
    again = insert(statement, *values)
    assert again.returncode != 0
    assert "UNIQUE constraint failed: jobs.unique_key" in again.stdout + again.stderr
    assert sql("SELECT count(*) AS n FROM jobs") == [{"n": 1}]


def test_another_language_is_told_which_check_refuses_its_row(insert: Insert, sql: Sql) -> None:
    done = insert("INSERT INTO jobs(handler, args) VALUES (?, ?)", "mail", "not json")
    assert done.returncode != 0
    assert "ck_jobs_args_is_a_json_array" in done.stdout + done.stderr
    assert sql("SELECT count(*) AS n FROM jobs") == [{"n": 0}]


# Time


FORMS = [
    "datetime('{}')",
    "strftime('%Y-%m-%d %H:%M', '{}')",
    "strftime('%Y-%m-%d %H:%M:%f', '{}')",
    "'{}'",
    "'{}.123456'",
]


@pytest.mark.parametrize("form", FORMS)
def test_a_job_for_later_is_scheduled_and_runs_when_it_is_due_in_each_form_of_a_time(
    path: Path, sql: Sql, form: str
) -> None:
    due = datetime(2999, 5, 17, 8, 30, tzinfo=UTC)
    sql(f"INSERT INTO jobs(handler, run_at) VALUES ('mail', {form.format('2999-05-17 08:30:00')})")
    assert sql("SELECT status FROM jobs") == [{"status": "scheduled"}]
    clock = ManualClock(due - timedelta(seconds=1))
    with closing(DurableJobs(path, clock=clock)) as jobs:
        assert jobs.get(1).run_at.replace(microsecond=0) == due
        store = jobs._store
        assert store.claims.peek() == Peek(False, jobs.get(1).run_at)
        clock.advance(2)
        assert store.claims.peek().has_work


def test_a_job_for_the_past_is_pending_and_keeps_its_place_in_time(path: Path, sql: Sql) -> None:
    sql("INSERT INTO jobs(handler, run_at) VALUES ('mail', '1999-12-31 23:59')")
    assert sql("SELECT status, run_at FROM jobs") == [{"status": "pending", "run_at": "1999-12-31 23:59"}]


def test_many_rows_of_one_statement_are_judged_one_by_one(path: Path, sql: Sql) -> None:
    sql(
        "INSERT INTO jobs(handler, run_at) SELECT 'mail', datetime('now', value || ' minutes') "
        "FROM json_each('[-5, 0, 5, 10]')"
    )
    assert [row["status"] for row in sql("SELECT status FROM jobs ORDER BY id")] == [
        "pending",
        "pending",
        "scheduled",
        "scheduled",
    ]


def test_a_unique_key_conflict_can_be_left_to_the_database(path: Path, sql: Sql) -> None:
    for _ in range(2):
        sql("INSERT INTO jobs(handler, unique_key) VALUES ('mail', 'k') ON CONFLICT DO NOTHING")
    assert sql("SELECT count(*) AS n FROM jobs") == [{"n": 1}]
    with closing(DurableJobs(path)) as jobs:
        assert jobs.using(unique_key="k").enqueue("mail").is_duplicate


# Nonsense


NONSENSE = [
    ("handler", "''", "handler_is_a_name"),
    ("handler", "'two words'", "handler_is_a_name"),
    ("handler", "'a' || char(10)", "handler_is_a_name"),
    ("handler", "'a' || char(27) || '[31m'", "handler_is_a_name"),
    ("handler", "'müll'", "handler_is_a_name"),
    ("handler", "'os.system(1)'", "handler_is_a_name"),
    ("handler", "printf('%.*c', 10000, 'x')", "handler_is_a_name"),
    ("handler", "x'6d61696c'", "handler_is_a_name"),
    ("handler", "NULL", "NOT NULL constraint failed: jobs.handler"),
    ("handler, queue", "'a', 'no good'", "queue_is_a_name"),
    ("handler, queue", "'a', ''", "queue_is_a_name"),
    ("handler, queue", "'a', x'61'", "queue_is_a_name"),
    ("handler, queue", "'a', NULL", "NOT NULL"),
    ("handler, args", "'a', '{}'", "args_is_a_json_array"),
    ("handler, args", "'a', '[1'", "args_is_a_json_array"),
    ("handler, args", "'a', ''", "args_is_a_json_array"),
    ("handler, args", "'a', 'null'", "args_is_a_json_array"),
    ("handler, args", "'a', NULL", "NOT NULL"),
    ("handler, args", "'a', 7", "args_is_a_json_array"),
    ("handler, args", "'a', '[NaN]'", "args_is_a_json_array"),
    ("handler, kwargs", "'a', '[]'", "kwargs_is_a_json_object"),
    ("handler, kwargs", "'a', '{to: 1}'", "kwargs_is_a_json_object"),
    ("handler, meta", "'a', '3'", "meta_is_a_json_object"),
    ("handler, meta", "'a', 'x'", "meta_is_a_json_object"),
    ("handler, status", "'a', 'waiting'", "status_is_known"),
    ("handler, status", "'a', 'PENDING'", "status_is_known"),
    ("handler, status", "'a', ''", "status_is_known"),
    ("handler, status", "'a', 'running'", "running_has_a_lease"),
    ("handler, status", "'a', 'succeeded'", "status_is_known_and_final_ones_have_finished_at"),
    ("handler, status", "'a', 'failed'", "status_is_known_and_final_ones_have_finished_at"),
    ("handler, status", "'a', 'cancelled'", "status_is_known_and_final_ones_have_finished_at"),
    ("handler, finished_at", "'a', '2026-01-01 00:00:00'", "status_is_known_and_final_ones_have_finished_at"),
    ("handler, run_at", "'a', 'tomorrow'", "run_at_is_utc_text"),
    ("handler, run_at", "'a', 'now'", "run_at_is_utc_text|non-deterministic"),
    ("handler, run_at", "'a', ''", "run_at_is_utc_text"),
    ("handler, run_at", "'a', 17", "run_at_is_utc_text"),
    ("handler, run_at", "'a', 2460000.5", "run_at_is_utc_text"),
    ("handler, run_at", "'a', 1767225600", "run_at_is_utc_text"),
    ("handler, run_at", "'a', '12:00'", "run_at_is_utc_text"),
    ("handler, run_at", "'a', '2026-01-01'", "run_at_is_utc_text"),
    ("handler, run_at", "'a', '2026-01-01 '", "run_at_is_utc_text"),
    ("handler, run_at", "'a', '2026-1-1 12:00'", "run_at_is_utc_text"),
    ("handler, run_at", "'a', '01.01.2026 12:00'", "run_at_is_utc_text"),
    ("handler, run_at", "'a', '2026-01-01T00:00:00Z'", "run_at_is_utc_text"),
    ("handler, run_at", "'a', '2026-01-01T00:00:00'", "run_at_is_utc_text"),
    ("handler, run_at", "'a', '2026-01-01 12:00:00Z'", "run_at_is_utc_text"),
    ("handler, run_at", "'a', '2026-01-01 12:00:00+02:00'", "run_at_is_utc_text"),
    ("handler, run_at", "'a', '2026-01-01 12:00-05:00'", "run_at_is_utc_text"),
    ("handler, run_at", "'a', '2026-01-01  12:00'", "run_at_is_utc_text"),
    ("handler, run_at", "'a', '2026-01-01 12:00:5'", "run_at_is_utc_text"),
    ("handler, run_at", "'a', '2026-01-01 12:00:60'", "run_at_is_utc_text"),
    ("handler, run_at", "'a', '2026-01-01 12:00:00.'", "run_at_is_utc_text"),
    ("handler, run_at", "'a', '2026-01-01 12:00:00.12x'", "run_at_is_utc_text"),
    ("handler, run_at", "'a', '2026-01-01 12:00:00.123456789'", "run_at_is_utc_text"),
    ("handler, run_at", "'a', '2026-02-30 12:00'", "run_at_is_utc_text"),
    ("handler, run_at", "'a', '2027-02-29 12:00'", "run_at_is_utc_text"),
    ("handler, run_at", "'a', '2026-04-31 12:00'", "run_at_is_utc_text"),
    ("handler, run_at", "'a', '2026-13-01 12:00'", "run_at_is_utc_text"),
    ("handler, run_at", "'a', '2026-01-01 24:00'", "run_at_is_utc_text"),
    ("handler, run_at", "'a', '0000-01-01 00:00'", "run_at_is_utc_text"),
    ("handler, run_at", "'a', '-001-01-01 00:00:00'", "run_at_is_utc_text"),
    ("handler, run_at", "'a', x'323032362d30312d30312031323a3030'", "run_at_is_utc_text"),
    ("handler, run_at", "'a', NULL", "NOT NULL"),
    ("handler, created_at", "'a', 'yesterday'", "created_at_is_utc_text"),
    ("handler, created_at", "'a', '2026-02-30 12:00'", "created_at_is_utc_text"),
    ("handler, priority", "'a', 'high'", "priority_is_an_integer"),
    ("handler, priority", "'a', 1.5", "priority_is_an_integer"),
    ("handler, priority", "'a', NULL", "NOT NULL"),
    ("handler, max_attempts", "'a', 0", "max_attempts_is_1_to_1000000"),
    ("handler, max_attempts", "'a', -1", "max_attempts_is_1_to_1000000"),
    ("handler, max_attempts", "'a', 1000000000", "max_attempts_is_1_to_1000000"),
    ("handler, max_attempts", "'a', 'many'", "max_attempts_is_1_to_1000000"),
    ("handler, max_attempts", "'a', 2.5", "max_attempts_is_1_to_1000000"),
    ("handler, attempt", "'a', -1", "counters_are_not_negative"),
    ("handler, attempt", "'a', 'many'", "counters_are_not_negative"),
    ("handler, attempt", "'a', x'31'", "counters_are_not_negative"),
    ("handler, attempt", "'a', 9e999", "counters_are_not_negative"),
    ("handler, crashes", "'a', -1", "crashes_is_0_to_1000000"),
    ("handler, crashes", "'a', 'many'", "crashes_is_0_to_1000000"),
    ("handler, crashes", "'a', 1000001", "crashes_is_0_to_1000000"),
    ("handler, claim_token", "'a', -1", "counters_are_not_negative"),
    ("handler, claim_token", "'a', 'none'", "counters_are_not_negative"),
    ("handler, claim_token", "'a', x'31'", "counters_are_not_negative"),
    ("handler, claim_token", "'a', 9e999", "counters_are_not_negative"),
    ("handler, unique_key", "'a', ''", "unique_key_is_1_to_500_long"),
    ("handler, unique_key", "'a', printf('%.*c', 501, 'x')", "unique_key_is_1_to_500_long"),
    ("handler, timeout", "'a', -1", "timeout_is_positive"),
    ("handler, timeout", "'a', 0", "timeout_is_positive"),
    ("handler, timeout", "'a', 'long'", "timeout_is_positive"),
    ("handler, result", "'a', 'text'", "result_is_json"),
]


@pytest.mark.parametrize(("columns", "values", "check"), NONSENSE)
def test_nonsense_is_refused_by_the_database_and_the_check_is_named(
    path: Path, sql: Sql, columns: str, values: str, check: str
) -> None:
    with pytest.raises(sqlite3.Error, match=check):
        sql(f"INSERT INTO jobs({columns}) VALUES ({values})")
    assert sql("SELECT count(*) AS n FROM jobs") == [{"n": 0}]


def test_a_second_live_job_with_a_unique_key_is_refused(path: Path, sql: Sql) -> None:
    insert = "INSERT INTO jobs(handler, unique_key) VALUES ('mail', 'k')"
    sql(insert)
    with pytest.raises(sqlite3.IntegrityError, match=r"UNIQUE constraint failed: jobs\.unique_key"):
        sql(insert)
    sql("UPDATE jobs SET status = 'cancelled', finished_at = run_at")
    sql(insert)
    assert sql("SELECT count(*) AS n FROM jobs") == [{"n": 2}]


def test_nonsense_is_refused_in_an_update_too(path: Path, sql: Sql) -> None:
    sql("INSERT INTO jobs(handler) VALUES ('mail')")
    for change in ("run_at = 'soon'", "status = 'done'", "args = '{}'", "max_attempts = 0", "handler = ''"):
        with pytest.raises(sqlite3.IntegrityError):
            sql(f"UPDATE jobs SET {change}")


def test_what_the_database_takes_python_can_read(path: Path, sql: Sql) -> None:
    """One odd row must not hide the others from those who look."""
    sql("INSERT INTO jobs(handler, args) VALUES ('deep', ?)", "[" * 900 + "]" * 900)
    sql("INSERT INTO jobs(handler, args) VALUES ('deeper', ?)", "[" * 1900 + "]" * 1900)
    sql("INSERT INTO jobs(handler, args) VALUES ('long', ?)", f"[{'1' * 5000}]")
    sql("INSERT INTO jobs(handler, unique_key) VALUES ('odd', char(10) || char(8238))")
    sql("INSERT INTO jobs(handler, priority) VALUES ('large', 9223372036854775807)")
    sql("INSERT INTO jobs(handler, progress) VALUES ('half', 'not json')")
    with closing(DurableJobs(path)) as jobs:
        listed = jobs.list_jobs(JobFilter(statuses=(Status.PENDING,)))
        assert [job.handler for job in listed] == ["half", "large", "odd", "long", "deeper", "deep"]
        ran = []
        jobs.handler("half")(lambda: ran.append("half"))
        jobs.handler("deep")(lambda *args: ran.append("deep"))
        jobs.handler("deeper")(lambda *args: ran.append("deeper"))
        jobs.handler("long")(lambda *args: ran.append("long"))
        report = jobs.work(burst=True, concurrency=1)
        assert report.runs == 6
        assert "half" in ran
        kinds = {jobs.get(number).status for number in range(1, 7)}
        assert kinds <= {Status.SUCCEEDED, Status.FAILED, Status.SCHEDULED}
