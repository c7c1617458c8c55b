"""`durablejobs queues`, `pause`, `resume` and `limit`, through the real command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Run, rows


def test_a_paused_queue_is_shown_with_its_reason_and_nothing_of_it_runs_until_it_is_resumed(
    run: Run, tmp_path: Path
) -> None:
    run("enqueue", "mail", "a", "--queue", "letters")
    paused = run("pause", "letters", "--reason", "the server \x1b[31m is down", "--for", "10m")
    assert paused.returncode == 0
    assert "1 job waiting" in paused.stderr
    shown = run("queues").stdout
    assert "paused" in shown
    assert "is down" in shown
    assert "\x1b" not in shown
    assert run("worker", "--burst").returncode == 0
    assert rows(tmp_path, "SELECT status FROM jobs") == [("pending",)]
    assert "is resumed" in run("resume", "letters").stderr
    assert "was not paused" in run("resume", "letters").stderr
    assert run("worker", "--burst").returncode == 0
    assert rows(tmp_path, "SELECT status FROM jobs") == [("succeeded",)]


def test_a_limit_is_set_shown_and_lifted(run: Run) -> None:
    run("migrate")
    assert run("limit", "letters", "3").returncode == 0
    (line,) = run("queues", "--json").stdout.splitlines()
    assert json.loads(line)["max_running"] == 3
    assert run("limit", "letters", "none").returncode == 0
    assert run("queues", "--json").stdout == ""


def test_mistakes_are_told_in_one_line_and_change_nothing(run: Run, tmp_path: Path) -> None:
    run("migrate")
    for arguments in (
        ("limit", "letters", "0"),
        ("limit", "letters", "many"),
        ("pause", "letters", "no such name"),
        ("pause", "letters", "--for", "1h", "--until", "2026-01-31T12:00Z"),
        ("pause", "letters", "--until", "2026-01-31T12:00"),
    ):
        answer = run(*arguments)
        assert answer.returncode == 2, arguments
        assert "Traceback" not in answer.stderr
    assert rows(tmp_path, "SELECT * FROM job_queues") == []


def test_show_says_that_the_queue_of_a_waiting_job_is_paused_why_and_until_when(run: Run) -> None:
    run("enqueue", "mail", "a", "--queue", "letters")
    run("pause", "letters", "--reason", "the server is down", "--until", "2999-01-31T12:00Z")
    shown = run("show", "1").stdout
    assert "queue letters is paused until 2999-01-31 12:00:00.000 UTC: the server is down" in shown
    assert "as soon as" not in shown
    run("resume", "letters")
    assert "paused" not in run("show", "1").stdout


@pytest.mark.parametrize("reason", ["x" * 501, "\udcff"])
def test_a_reason_that_cannot_be_kept_is_refused_in_one_line(run: Run, reason: str) -> None:
    run("enqueue", "mail", "a")
    refused = run("pause", "letters", "--reason", reason)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert refused.stderr.startswith("durablejobs: reason: must be ")
    assert run("pause", "letters", "--reason", "x" * 500).returncode == 0
