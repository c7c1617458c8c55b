"""Bad input gets one clear line, before anything is stored; whatever gets through does no harm."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from durablejobs import DurableJobs, Status
from durablejobs.cli.root import root

from .promises import broken_promises

HANDLERS = """
from durablejobs import DurableJobs

jobs = DurableJobs("jobs.db")


@jobs.handler("mail")
def mail(to, subject="none"):
    return to
"""

Answer = tuple[int, str, str]
Ask = Callable[..., Answer]


@pytest.fixture
def ask(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> Ask:
    """Run the command line in this process, beside an empty queue; return the exit code, stdout and stderr."""
    shutil.copyfile(empty_database, tmp_path / "jobs.db")
    (tmp_path / "handlers.py").write_text(HANDLERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DURABLEJOBS_DB", "jobs.db")

    def run(*arguments: str) -> Answer:
        with pytest.raises(SystemExit) as ended:
            root.main(list(arguments))
        said = capfd.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def stored(path: Path = Path("jobs.db")) -> int:
    with closing(sqlite3.connect(path)) as connection:
        assert broken_promises(connection) == []
        return int(connection.execute("SELECT count(*) FROM jobs").fetchone()[0])


REFUSED: list[tuple[list[str], int, str]] = [
    # Arguments
    (["enqueue", "mail", "n:={x"], 2, "line 1 column 2"),
    (["enqueue", "mail", "n:=NaN"], 2, "NaN is not a JSON number"),
    (["enqueue", "mail", "n:=[Infinity]"], 2, "Infinity is not a JSON number"),
    (["enqueue", "mail", "n:=" + "[" * 101 + "]" * 101], 2, "nested deeper than 100"),
    (["enqueue", "mail", "n:=" + "[" * 100_000], 2, "deeper"),
    (["enqueue", "mail", "n:=" + "9" * 5000], 2, "n"),
    (["enqueue", "mail", 'n:="\\ud800"'], 2, "surrogate"),
    (["enqueue", "mail", 'n:="\\u0000"'], 2, "NUL"),
    (["enqueue", "mail", "to=" + "x" * (1024 * 1024)], 2, "over the limit of 1,048,576"),
    # Names
    (["enqueue", "emial", "a", "--app", "handlers"], 3, "did you mean 'mail'"),
    (["enqueue", "mail", "--app", "handlers"], 2, "mail(to, subject='none')"),
    (["enqueue", ""], 2, "handler"),
    (["enqueue", "a b"], 2, "handler"),
    (["enqueue", "a\x1b[31m"], 2, "handler"),
    (["enqueue", "x" * 10_000], 2, "10,000 characters"),
    (["enqueue", "mail", "--queue", "a b"], 2, "queue"),
    (["enqueue", "mail", "--queue", ""], 2, "queue"),
    (["enqueue", "mail", "--unique-key", ""], 2, "unique_key"),
    (["enqueue", "mail", "--unique-key", "a\nb"], 2, "unique_key"),
    (["enqueue", "mail", "--unique-key", "x" * 501], 2, "unique_key"),
    # Times and numbers
    (["enqueue", "mail", "--at", "2030-01-01 12:00"], 2, "no time zone"),
    (["enqueue", "mail", "--at", "tomorrow"], 2, "must be a time such as"),
    (["enqueue", "mail", "--at", "9999-12-31T23:59-12:00"], 2, "year"),
    (["enqueue", "mail", "--in", "-5"], 2, "duration"),
    (["enqueue", "mail", "--in", "nan"], 2, "duration"),
    (["enqueue", "mail", "--in", "1e300"], 2, "duration"),
    (["enqueue", "mail", "--in", "9" * 400], 2, ""),
    (["enqueue", "mail", "--priority", "99999999999"], 2, "priority"),
    (["enqueue", "mail", "--priority", "1.5"], 2, "priority"),
    (["enqueue", "mail", "--max-attempts", "0"], 2, "max_attempts"),
    (["enqueue", "mail", "--max-attempts", "-1"], 2, "max_attempts"),
    (["enqueue", "mail", "--max-attempts", "1000000000"], 2, "1000000"),
    # Databases
    (["list", "--db", "none.db"], 5, "no such database"),
    (["list", "--db", "."], 5, "is a directory"),
    (["enqueue", "mail", "--db", "none/jobs.db"], 5, "does not exist"),
    (["list", "--db", "handlers.py"], 5, "is not a SQLite database"),
    (["list", "--db", ":memory:"], 2, ":memory:"),
    (["worker", "--db", ":memory:", "--burst"], 2, ":memory:"),
    (["list", "--db", ""], 2, "database"),
    (["list", "--db", "mongodb://user:secret@host/x"], 2, "mongodb"),
    (["list", "--db", "jobs.db\x00x"], 2, ""),
    # Ids, filters, pages
    (["show", "0"], 3, "no job 0"),
    (["show", "--", "-1"], 3, "no job -1"),
    (["show", "-1"], 3, "no job -1"),
    (["show", "1" + "0" * 30], 3, "no job"),
    (["show", "1 OR 1=1"], 3, "no job 1 OR 1=1"),
    (["show", "１"], 3, "no job"),  # a digit that is not ASCII
    (["retry", "1_0"], 3, "no job 1_0"),
    (["cancel", "99"], 3, "no job 99"),
    (["list", "--status", "pendng"], 2, "did you mean 'pending'"),
    (["list", "--status", "retrying"], 2, "use scheduled"),
    (["list", "--limit", "-1"], 2, "limit"),
    (["list", "--limit", "1000000000"], 2, "limit"),
    (["list", "--before", "1" + "0" * 30], 2, "before"),
    (["prune", "--older-than", "-1"], 2, "duration"),
    (["prune", "--status", "pending"], 2, "pending jobs have not ended"),
    (["stats", "--minutes", "nan"], 2, "minutes"),
    # Workers
    (["worker", "--burst", "--concurrency", "0"], 2, "concurrency"),
    (["worker", "--burst", "--concurrency", "1001"], 2, "concurrency"),
    (["worker", "--burst", "--interval", "0"], 2, "interval"),
    (["worker", "--burst", "--lease", "0"], 2, "lease"),
    (["worker", "--burst", "--queues", "a,,b"], 2, "empty name"),
    (["worker", "--burst", "--queues", "a=1,b"], 2, "no weight"),
    (["worker", "--burst", "--queues", "a,a"], 2, "twice"),
    (["worker", "--burst", "--app", "nowhere"], 2, "nowhere"),
    (["worker", "--burst", "--app", "handlers:nothing"], 2, "nothing"),
    # Commands
    (["lst"], 2, "did you mean 'list'"),
    (["list", "--jsn"], 2, "--json"),
    (["backup", "."], 5, "is a directory"),
    (["backup", "jobs.db", "--replace"], 5, "is the database itself"),
]


@pytest.mark.parametrize(("arguments", "code", "part"), REFUSED, ids=lambda value: str(value)[:60])
def test_bad_input_gets_one_clear_line_and_nothing_is_stored(
    ask: Ask, arguments: list[str], code: int, part: str
) -> None:
    answer, out, err = ask(*arguments)
    assert (answer, out) == (code, ""), err
    assert part in err
    assert err.startswith("durablejobs: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert "secret" not in err
    assert "\x1b" not in err
    assert stored() == 0


def test_a_batch_with_one_bad_line_of_a_thousand_stores_nothing_and_names_it(ask: Ask) -> None:
    lines = ['{"handler": "mail", "args": ["a"]}'] * 1000
    lines[617] = '{"handler": "mail", "argz": []}'
    Path("batch").write_text("\n".join(lines))
    code, _, err = ask("enqueue", "--batch", "batch")
    assert (code, "line 618" in err, "did you mean args" in err) == (2, True, True), err
    assert stored() == 0


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[tool.durablejobs]\nconcurency = 3", "did you mean concurrency"),
        ("[tool.durablejobs]\nconcurrency = 'three'", "must be a whole number"),
        ("[tool.durablejobs]\nlease = nan", "lease"),
        ("[tool]\ndurablejobs = 3", "must be a table"),
        ("[tool.durablejobs", "pyproject.toml"),
    ],
)
def test_a_bad_setting_is_named(ask: Ask, text: str, part: str) -> None:
    Path("pyproject.toml").write_text(text)
    code, out, err = ask("worker", "--burst")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert part in err


# The surroundings of a process


def durablejobs(directory: Path, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = f"{sys.executable} -m durablejobs {command}"
    kept = {"PATH": os.environ["PATH"], "DURABLEJOBS_DB": "jobs.db"}
    return subprocess.run(
        ["bash", "-c", program],
        cwd=directory,
        env=kept | environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("command", "environment"),
    [
        ("list", {"LANG": "C", "LC_ALL": "C"}),
        ("list", {"COLUMNS": "0"}),
        ("list", {"PYTHONIOENCODING": "ascii"}),
        ("list <&-", {}),
        ("list 2>&-", {}),
        ("enqueue mail a <&- 2>&-", {}),
        ("doctor --json", {"LC_ALL": "C"}),
        ("worker --burst <&-", {}),
    ],
)
def test_a_poor_environment_is_enough(ask: Ask, tmp_path: Path, command: str, environment: dict[str, str]) -> None:
    DurableJobs(tmp_path / "jobs.db").using(queue="other").enqueue("mail", "ünï\u202ecode \x1b[31m")
    done = durablejobs(tmp_path, command, **environment)
    assert done.returncode in (0, 4), done.stderr
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stdout


def test_a_closed_stdout_is_no_traceback(ask: Ask, tmp_path: Path) -> None:
    done = durablejobs(tmp_path, "enqueue mail a >&-")
    assert "Traceback" not in done.stderr
    assert stored(tmp_path / "jobs.db") == 1


def test_a_full_stdout_is_one_line(ask: Ask, tmp_path: Path) -> None:
    done = durablejobs(tmp_path, "list --json >/dev/full")
    assert done.returncode in (0, 1)
    assert "Traceback" not in done.stderr
    DurableJobs(tmp_path / "jobs.db").enqueue("mail")
    done = durablejobs(tmp_path, "list --json >/dev/full")
    assert (done.returncode, done.stderr) == (1, "durablejobs: standard output: No space left on device\n")


# Fuzz

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
arguments = st.builds(lambda command, rest: [command, *rest], st.sampled_from(COMMANDS), st.lists(words, max_size=6))


@given(arguments)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_no_command_line_gets_a_traceback(ask: Ask, given_arguments: list[str]) -> None:
    check_command_line(ask, given_arguments)


@pytest.mark.slow
@pytest.mark.timeout(300)
@given(arguments)
@settings(max_examples=2500, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_no_command_line_gets_a_traceback_for_long(ask: Ask, given_arguments: list[str]) -> None:
    check_command_line(ask, given_arguments)


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


# What SQL may put into the table

sql_values = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.binary(max_size=10),
    st.sampled_from(["[]", "{}", "[1]", "mail", "pending", "running", "default", "2030-01-01 00:00:00", "now", "1"]),
    st.sampled_from(list(Status)),
)
COLUMNS = ["handler", "queue", "args", "kwargs", "status", "priority", "run_at", "attempt", "max_attempts", "crashes"]
COLUMNS += ["claim_token", "unique_key", "timeout", "result", "meta", "created_at", "finished_at", "lease_expires_at"]
rows = st.dictionaries(st.sampled_from(COLUMNS), sql_values, min_size=1, max_size=5)


def insert(connection: sqlite3.Connection, row: dict[str, Any]) -> bool:
    columns = {"handler": "mail", "args": '["a"]'} | row
    marks = ", ".join("?" * len(columns))
    try:
        connection.execute(f"INSERT INTO jobs({', '.join(columns)}) VALUES ({marks})", list(columns.values()))
    except (sqlite3.Error, UnicodeEncodeError):
        return False
    return True


@given(st.lists(rows, min_size=1, max_size=12))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_whatever_sql_inserts_is_refused_or_harms_no_other_job(ask: Ask, many: list[dict[str, Any]]) -> None:
    check_inserts(many)


@pytest.mark.slow
@pytest.mark.timeout(300)
@given(st.lists(rows, min_size=1, max_size=12))
@settings(max_examples=1000, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_whatever_sql_inserts_is_refused_or_harms_no_other_job_for_long(ask: Ask, many: list[dict[str, Any]]) -> None:
    check_inserts(many)


def check_inserts(many: list[dict[str, Any]]) -> None:
    """Rows that get in can be read, and a worker does its other work beside them."""
    jobs = DurableJobs("jobs.db")
    jobs.handler("mail")(lambda *args, **kwargs: None)
    with closing(sqlite3.connect("jobs.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM jobs")
        for row in many:
            insert(connection, row)
        innocent = jobs.using(priority=-(2**31)).enqueue("mail", 1)
        for job in jobs.list_jobs(limit=1000):
            json.dumps([job.args, job.kwargs, job.meta])
        worker = jobs.worker(concurrency=1, max_jobs=None, burst=True)
        worker.run()
        assert jobs.get(innocent.id).status is Status.SUCCEEDED
        left = connection.execute("SELECT count(*) FROM jobs WHERE status = 'pending'").fetchone()[0]
        assert left == 0
    jobs.close()
