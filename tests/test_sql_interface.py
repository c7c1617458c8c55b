"""`INSERT INTO jobs` by other programs, with their own SQLite clients, is a complete enqueue."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from durablejobs import DurableJobs

ARGS = '["a@b.c", 2]'
PROGRAMS = {
    "sqlite3": ["sqlite3", "DB", f"INSERT INTO jobs(handler, args) VALUES ('mail', '{ARGS}')"],
    "perl": [
        "perl",
        "-MDBI",
        "-e",
        (
            'DBI->connect("dbi:SQLite:$ARGV[0]", "", "", {RaiseError => 1})'
            '->do("INSERT INTO jobs(handler, args) VALUES (?, ?)", undef, "mail", $ARGV[1])'
        ),
        "DB",
        ARGS,
    ],
    "php": [
        "php",
        "-r",
        (
            '$s = (new PDO("sqlite:" . $argv[1]))->prepare("INSERT INTO jobs(handler, args) VALUES (?, ?)");'
            '$s->execute(["mail", $argv[2]]) or exit(1);'
        ),
        "DB",
        ARGS,
    ],
    "ruby": [
        "ruby",
        "-rsqlite3",
        "-e",
        'SQLite3::Database.new(ARGV[0]).execute("INSERT INTO jobs(handler, args) VALUES (?, ?)", ["mail", ARGV[1]])',
        "DB",
        ARGS,
    ],
    "tclsh": ["tclsh", "SCRIPT", "DB", ARGS],
}
PROBES = {
    "perl": ["perl", "-MDBD::SQLite", "-e", "1"],
    "php": ["php", "-r", 'exit(extension_loaded("pdo_sqlite") ? 0 : 1);'],
    "ruby": ["ruby", "-rsqlite3", "-e", "1"],
}
TCL = """
package require sqlite3
sqlite3 db [lindex $argv 0]
set args [lindex $argv 1]
db eval {INSERT INTO jobs(handler, args) VALUES ('mail', $args)}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with closing(DurableJobs(tmp_path / "jobs.db")) as jobs:
        jobs.migrate()
    return tmp_path / "jobs.db"


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_job_of_another_language_is_complete_and_runs(path: Path, tmp_path: Path, program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"there is no {program}")
    if program in PROBES and subprocess.run(PROBES[program], capture_output=True, check=False).returncode:
        pytest.skip(f"{program} has no client for SQLite")
    (tmp_path / "enqueue.tcl").write_text(TCL)
    words = {"DB": str(path), "SCRIPT": str(tmp_path / "enqueue.tcl")}
    done = subprocess.run(
        [words.get(word, word) for word in PROGRAMS[program]], capture_output=True, text=True, timeout=60, check=False
    )
    if program == "tclsh" and "can't find package" in done.stderr:
        pytest.skip("Tcl has no client for SQLite")
    assert done.returncode == 0, done.stderr
    with closing(DurableJobs(path)) as jobs:
        jobs.handler("mail")(lambda to, number: f"{to} {number}")
        assert jobs.get(1).status == "pending"
        jobs.work(burst=True, concurrency=1)
        assert jobs.get(1).result == "a@b.c 2"


def test_a_job_for_later_is_scheduled_and_a_unique_key_holds(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO jobs(handler, run_at) VALUES ('mail', datetime('now', '+1 hour'))")
        connection.execute("INSERT INTO jobs(handler, unique_key, queue, priority) VALUES ('mail', 'k', 'bulk', 7)")
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute("INSERT INTO jobs(handler, unique_key) VALUES ('mail', 'k')")
        rows = connection.execute("SELECT status, queue, priority FROM jobs ORDER BY id").fetchall()
    assert rows == [("scheduled", "default", 0), ("pending", "bulk", 7)]


@pytest.mark.parametrize(
    ("columns", "values"),
    [
        ("handler", "''"),
        ("handler", "'two words'"),
        ("handler", "'a' || char(10)"),
        ("handler", "printf('%.*c', 10000, 'x')"),
        ("handler", "NULL"),
        ("handler, queue", "'a', 'no good'"),
        ("handler, args", "'a', '{}'"),
        ("handler, args", "'a', '[1'"),
        ("handler, kwargs", "'a', '[]'"),
        ("handler, meta", "'a', '3'"),
        ("handler, status", "'a', 'waiting'"),
        ("handler, status", "'a', 'running'"),
        ("handler, status", "'a', 'succeeded'"),
        ("handler, finished_at", "'a', '2026-01-01 00:00:00'"),
        ("handler, run_at", "'a', 'tomorrow'"),
        ("handler, run_at", "'a', '2026-01-01T00:00:00Z'"),
        ("handler, run_at", "'a', 17"),
        ("handler, priority", "'a', 'high'"),
        ("handler, max_attempts", "'a', 0"),
        ("handler, max_attempts", "'a', 1000000000"),
        ("handler, attempt", "'a', -1"),
        ("handler, unique_key", "'a', ''"),
        ("handler, timeout", "'a', -1"),
        ("handler, result", "'a', 'text'"),
    ],
)
def test_nonsense_is_refused_by_the_database(path: Path, columns: str, values: str) -> None:
    with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute(f"INSERT INTO jobs({columns}) VALUES ({values})")
