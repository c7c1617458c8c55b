"""`durablejobs doctor` and `durablejobs verify`, through the real command."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from .conftest import Run, rows


def test_the_doctor_says_what_why_and_what_to_do_and_exits_with_4(run: Run) -> None:
    run("migrate")
    assert run("doctor").returncode == 0
    run("enqueue", "mail", "a")
    ill = run("doctor")
    assert ill.returncode == 4
    assert "wrong   queues" in ill.stdout
    assert "why: " in ill.stdout
    assert "do:  Start a worker" in ill.stdout
    assert ill.stderr.strip() == "1 thing wrong"


def test_the_doctor_prints_one_object_a_line(run: Run) -> None:
    run("migrate")
    found = [json.loads(line) for line in run("doctor", "--json", "--deep").stdout.splitlines()]
    assert all(set(each) == {"check", "level", "what", "why", "remedy"} for each in found)
    assert {"SQLite version", "journal mode", "file system", "integrity"} <= {each["check"] for each in found}


def test_the_doctor_asks_the_app_for_its_handlers(run: Run) -> None:
    run("enqueue", "mial")
    assert "did you mean 'mail'?" in run("doctor", "--app", "handlers").stdout
    assert "did you mean" not in run("doctor").stdout


def test_there_is_nothing_to_examine_without_a_database(run: Run, tmp_path: Path) -> None:
    answer = run("doctor", "--db", "none.db")
    assert (answer.returncode, answer.stderr.count("\n")) == (5, 1)
    assert "no such database" in answer.stderr
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize("path", ["x" * 300, "unreadable/jobs.db"])
def test_a_path_that_cannot_be_looked_at_is_refused_as_by_every_command(run: Run, tmp_path: Path, path: str) -> None:
    (tmp_path / "unreadable").mkdir(mode=0)
    examined, listed = run("doctor", "--db", path), run("list", "--db", path)
    assert (examined.returncode, examined.stderr) == (listed.returncode, listed.stderr)
    assert examined.returncode == 5


def test_verify_reads_all_and_says_that_all_is_kept(run: Run) -> None:
    run("enqueue", "mail", "a")
    run("worker", "--burst")
    verified = run("verify")
    assert verified.returncode == 0
    assert "1 job and 0 errors were read: all promises are kept" in verified.stderr


def test_verify_names_what_is_broken_and_exits_with_4(run: Run, tmp_path: Path) -> None:
    run("enqueue", "mail", "a")
    with closing(sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)) as connection:
        connection.execute("UPDATE jobs SET status = 'succeeded', finished_at = created_at")
    verified = run("verify")
    assert verified.returncode == 4
    assert "broken  I5   a job that succeeded has been claimed and has run: 1 time, among them 1" in verified.stdout
    broken = [json.loads(line) for line in run("verify", "--json").stdout.splitlines()]
    assert [each["promise"] for each in broken if each["broken"]] == ["I5"]
    assert rows(tmp_path, "SELECT status FROM jobs") == [("succeeded",)]
