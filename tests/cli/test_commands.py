"""The command line, through the real command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Run, rows


def test_an_enqueued_job_is_run_by_a_worker_and_shown(run: Run, tmp_path: Path) -> None:
    enqueued = run("enqueue", "mail", "a@b.c", "subject=hi", "n:=3")
    assert (enqueued.returncode, enqueued.stdout) == (0, "1\n")
    assert "created" in enqueued.stderr
    worked = run("worker", "--burst")
    assert worked.returncode == 0, worked.stderr
    assert rows(tmp_path, "SELECT status, result FROM jobs") == [("succeeded", '"a@b.c: hi 3"')]
    assert "succeeded" in run("list").stdout
    shown = json.loads(run("show", "1", "--json").stdout)
    assert shown["result"] == "a@b.c: hi 3"
    assert run("wait", "1").stdout == '"a@b.c: hi 3"\n'


def test_a_failed_job_is_shown_with_its_traceback_and_escaped_and_can_be_retried(run: Run, tmp_path: Path) -> None:
    run("enqueue", "fails", "--max-attempts", "1")
    run("worker", "--burst")
    shown = run("show", "1")
    assert "ValueError" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert run("wait", "1").returncode == 4
    assert run("retry", "1").returncode == 0
    assert rows(tmp_path, "SELECT status FROM jobs") == [("pending",)]


def test_a_batch_is_stored_whole(run: Run, tmp_path: Path) -> None:
    lines = "\n".join(json.dumps({"handler": "mail", "args": [str(number)]}) for number in range(50))
    assert run("enqueue", "--batch", "-", stdin=lines).returncode == 0
    assert rows(tmp_path, "SELECT count(*) FROM jobs") == [(50,)]


def test_a_batch_with_one_bad_line_stores_nothing_and_names_the_line(run: Run, tmp_path: Path) -> None:
    run("migrate")
    answer = run("enqueue", "--batch", "-", stdin='{"handler": "mail"}\n{"handler": mail}\n')
    assert answer.returncode == 2
    assert "line 2" in answer.stderr
    assert rows(tmp_path, "SELECT count(*) FROM jobs") == [(0,)]


def test_jobs_are_cancelled_and_deleted_by_filter_after_a_dry_run(run: Run, tmp_path: Path) -> None:
    for _ in range(3):
        run("enqueue", "mail", "a", "--in", "10m")
    assert "3" in run("cancel", "--status", "scheduled", "--dry-run").stdout
    assert rows(tmp_path, "SELECT DISTINCT status FROM jobs") == [("scheduled",)]
    assert run("cancel", "--status", "scheduled", "--yes").returncode == 0
    assert rows(tmp_path, "SELECT DISTINCT status FROM jobs") == [("cancelled",)]
    assert run("delete", "--all", "--yes").returncode == 0
    assert rows(tmp_path, "SELECT count(*) FROM jobs") == [(0,)]


def test_a_unique_key_returns_the_job_that_is_there(run: Run) -> None:
    assert run("enqueue", "mail", "a", "--unique-key", "k").stdout == "1\n"
    again = run("enqueue", "mail", "a", "--unique-key", "k")
    assert again.stdout == "1\n"
    assert again.stderr


def test_statistics_count_by_queue(run: Run) -> None:
    run("enqueue", "mail", "a", "--queue", "bulk")
    (line,) = run("stats", "--json").stdout.splitlines()
    assert json.loads(line)["queue"] == "bulk"


def test_migrate_tells_the_state(run: Run) -> None:
    assert run("migrate", "--check").returncode == 5
    assert run("migrate").returncode == 0
    assert run("migrate", "--check").returncode == 0
    assert "CREATE TABLE jobs" in run("migrate", "--sql").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["enqueue", "mail", "n:={x"], 2, "n"),
        (["enqueue", "em ail"], 2, "handler"),
        (["enqueue", "mail", "--at", "tomorrow"], 2, "tomorrow"),
        (["enqueue", "mail", "--in", "-5"], 2, ""),
        (["enqueue", "mail", "--max-attempts", "0"], 2, "max_attempts"),
        (["enqueue", "emial", "--app", "handlers"], 3, "did you mean 'mail'"),
        (["worker", "--queues", "mail=x", "--burst"], 2, "weight"),
        (["worker", "--queues", "mail=", "--burst"], 2, "weight"),
        (["worker", "--concurrency", "0", "--burst"], 2, "concurrency"),
        (["worker", "--app", "nowhere", "--burst"], 2, "nowhere"),
        (["list", "--status", "pendng"], 2, "pending"),
        (["show", "99"], 3, "no job 99"),
        (["show", "0"], 3, "no job 0"),
        (["show", "1 OR 1=1"], 3, "no job"),
        (["cancel", "1000000000000000000000000000000"], 3, "no job"),
        (["enqueue", "mail", "--db", ":memory:"], 2, "memory"),
        (["lst"], 2, "list"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_gets_one_clear_line(run: Run, arguments: list[str], code: int, part: str) -> None:
    run("migrate")
    answer = run(*arguments)
    assert answer.returncode == code, answer.stderr
    assert part in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_missing_database_is_not_created_by_looking(run: Run, tmp_path: Path) -> None:
    answer = run("list")
    assert answer.returncode == 5
    assert "no such database" in answer.stderr
    assert not (tmp_path / "jobs.db").exists()


def test_a_file_that_is_no_database_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "jobs.db").write_text("not a database at all, but long enough to be read as one" * 20)
    answer = run("list")
    assert answer.returncode == 5
    assert "is not a SQLite database" in answer.stderr


def test_help_does_not_import_sqlalchemy() -> None:
    code = """
import sys
import durablejobs.cli
sys.argv = ["durablejobs", "--help"]
try:
    durablejobs.cli.main()
except SystemExit:
    print("sqlalchemy" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.endswith("False\n")


def test_every_command_shows_examples(run: Run) -> None:
    from durablejobs.cli.root import COMMANDS

    for name in COMMANDS:
        assert "Examples:" in run(name, "--help").stdout, name


def test_a_reader_that_goes_away_is_no_error(run: Run, tmp_path: Path) -> None:
    run("enqueue", "--batch", "-", stdin='{"handler": "mail"}\n' * 2000)
    command = f"{sys.executable} -m durablejobs list --db jobs.db --limit 2000 | head -1"
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("option", [[], ["--parallel"]], ids=["in order", "parallel"])
def test_the_demonstration_tells_its_story_to_the_end(run: Run, option: list[str]) -> None:
    done = run("demo", *option)
    assert done.returncode == 0, done.stderr
    assert "runs again" in done.stdout


def test_arguments_that_a_handler_redacts_are_shown_nowhere(run: Run, tmp_path: Path) -> None:
    (tmp_path / "handlers.py").write_text(
        "from durablejobs import DurableJobs\n"
        "jobs = DurableJobs('jobs.db')\n"
        "@jobs.handler(redact=['password'], max_attempts=1)\n"
        "def login(user, password):\n"
        "    raise ValueError(f'{password} is wrong')\n"
    )
    run("enqueue", "login", "ann", "password=hunter22", "--app", "handlers")
    worked = run("worker", "--burst", "--verbose")
    outputs = [
        run("list"),
        run("list", "--json"),
        run("show", "1"),
        run("show", "1", "--json"),
        run("wait", "1"),
        worked,
    ]
    text = "".join(output.stdout + output.stderr for output in outputs)
    assert "hunter22" not in text
    assert text.count("[redacted]") >= 6
    assert "ann" in text


def test_handlers_whose_import_raises_what_cannot_be_shown_are_refused_in_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text("class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd\n")
    refused = run("worker", "--burst", "--app", "odd")
    assert refused.returncode == 1
    assert refused.stderr == "durablejobs: cannot import odd: odd.py:3: Odd: (its __str__ raised)\n"


def test_a_line_of_a_batch_may_name_its_durations_as_options_do(run: Run, tmp_path: Path) -> None:
    lines = '{"handler": "mail", "timeout": "5m"}\n{"handler": "mail", "timeout": 1.5, "delay": "10m"}\n'
    assert run("enqueue", "--batch", "-", stdin=lines).returncode == 0
    assert rows(tmp_path, "SELECT timeout, status FROM jobs") == [(300.0, "pending"), (1.5, "scheduled")]
    refused = run("enqueue", "--batch", "-", stdin='{"handler": "mail", "timeout": "soon"}')
    assert refused.returncode == 2
    assert "line 1: timeout: must be a duration such as" in refused.stderr
