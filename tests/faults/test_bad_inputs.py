"""Bad input gets one clear line, before anything is stored, on both databases."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from durablejobs import DurableJobs

from .conftest import Ask, CountStored

pytestmark = pytest.mark.conformance

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
    (["list", "--db", ""], 2, "database"),
    (["list", "--db", "mongodb://user:secret@host/x"], 2, "mongodb"),
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
]

REFUSED_FILES: list[tuple[list[str], int, str]] = [
    (["list", "--db", "none.db"], 5, "no such database"),
    (["list", "--db", "."], 5, "is a directory"),
    (["enqueue", "mail", "--db", "none/jobs.db"], 5, "does not exist"),
    (["list", "--db", "handlers.py"], 5, "is not a SQLite database"),
    (["list", "--db", ":memory:"], 2, ":memory:"),
    (["worker", "--db", ":memory:", "--burst"], 2, ":memory:"),
    (["list", "--db", "jobs.db\x00x"], 2, ""),
    (["backup", "."], 5, "is a directory"),
    (["backup", "jobs.db", "--replace"], 5, "is the database itself"),
]


def check_refusal(ask: Ask, count_stored: CountStored, arguments: list[str], code: int, part: str) -> None:
    answer, out, err = ask(*arguments)
    assert (answer, out) == (code, ""), err
    assert part in err
    assert err.startswith("durablejobs: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert "secret" not in err
    assert "\x1b" not in err
    assert count_stored() == 0


@pytest.mark.parametrize(("arguments", "code", "part"), REFUSED, ids=lambda value: str(value)[:60])
def test_bad_input_gets_one_clear_line_and_nothing_is_stored(
    ask: Ask, count_stored: CountStored, arguments: list[str], code: int, part: str
) -> None:
    check_refusal(ask, count_stored, arguments, code, part)


@pytest.mark.sqlite
@pytest.mark.parametrize(("arguments", "code", "part"), REFUSED_FILES, ids=lambda value: str(value)[:60])
def test_what_is_no_database_of_ours_gets_one_clear_line(
    ask: Ask, count_stored: CountStored, arguments: list[str], code: int, part: str
) -> None:
    check_refusal(ask, count_stored, arguments, code, part)


def test_a_batch_with_one_bad_line_of_a_thousand_stores_nothing_and_names_it(
    ask: Ask, count_stored: CountStored
) -> None:
    lines = ['{"handler": "mail", "args": ["a"]}'] * 1000
    lines[617] = '{"handler": "mail", "argz": []}'
    Path("batch").write_text("\n".join(lines))
    code, _, err = ask("enqueue", "--batch", "batch")
    assert (code, "line 618" in err, "did you mean args" in err) == (2, True, True), err
    assert count_stored() == 0


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


def durablejobs(place: Path, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = f"{sys.executable} -m durablejobs {command}"
    kept = {"PATH": os.environ["PATH"], "DURABLEJOBS_DB": os.environ["DURABLEJOBS_DB"]}
    return subprocess.run(
        ["bash", "-c", program],
        cwd=place,
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
def test_a_poor_environment_is_enough(place: Path, app: DurableJobs, command: str, environment: dict[str, str]) -> None:
    app.using(queue="other").enqueue("mail", "ünï\u202ecode \x1b[31m")
    done = durablejobs(place, command, **environment)
    assert done.returncode in (0, 4), done.stderr
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stdout


def test_a_closed_stdout_is_no_traceback(place: Path, count_stored: CountStored) -> None:
    done = durablejobs(place, "enqueue mail a >&-")
    assert "Traceback" not in done.stderr
    assert count_stored() == 1


def test_a_full_stdout_is_one_line(place: Path, app: DurableJobs) -> None:
    done = durablejobs(place, "list --json >/dev/full")
    assert done.returncode in (0, 1)
    assert "Traceback" not in done.stderr
    app.enqueue("mail")
    done = durablejobs(place, "list --json >/dev/full")
    assert (done.returncode, done.stderr) == (1, "durablejobs: standard output: No space left on device\n")


@pytest.mark.parametrize("form", ["", " --json"])
def test_an_enqueue_whose_id_cannot_be_printed_says_that_the_job_is_stored(
    place: Path, count_stored: CountStored, form: str
) -> None:
    done = durablejobs(place, f"enqueue mail a{form} >/dev/full")
    assert done.returncode == 1
    assert "durablejobs: standard output: No space left on device" in done.stderr
    assert "job 1 is stored; do not enqueue it again" in done.stderr
    assert count_stored() == 1


def test_a_batch_whose_count_cannot_be_printed_says_how_many_jobs_are_stored(
    place: Path, count_stored: CountStored
) -> None:
    (place / "b.jsonl").write_text('{"handler": "mail"}\n{"handler": "mail"}\n')
    done = durablejobs(place, "enqueue --batch b.jsonl --json >/dev/full")
    assert done.returncode == 1
    assert "2 jobs enqueued" in done.stderr
    assert count_stored() == 2


def test_a_working_directory_that_is_gone_is_named(place: Path) -> None:
    (place / "gone").mkdir()
    command = f"--version >/dev/null; rmdir ../gone; {sys.executable} -m durablejobs list --db j.db"
    done = durablejobs(place / "gone", command)
    assert (done.returncode, done.stderr) == (
        1,
        "durablejobs: the working directory is gone; change to one that is there\n",
    )
