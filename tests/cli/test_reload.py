"""`durablejobs worker --reload`: new code is run by the next job, and running jobs finish first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from durablejobs import DurableJobs

from ..worker.harness import wait_until

CODE = """
import time
from pathlib import Path
from durablejobs import DurableJobs
from answers import ANSWER

jobs = DurableJobs("jobs.db")


@jobs.handler
def ask(wait_for=None):
    Path("asked").touch()
    while wait_for and not Path(wait_for).exists():
        time.sleep(0.01)
    return ANSWER
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "handlers.py").write_text(CODE)
    write(tmp_path, "ANSWER = 1")
    return tmp_path


def write(project: Path, code: str) -> None:
    """Replace a module as an editor does, within the second: its compiled form cannot be told by time and size."""
    path = project / "answers.py"
    new = project / "answers.new"
    new.write_text(code + "\n")
    moment = path.stat().st_mtime_ns + 1_000_000 if path.exists() else 1_800_000_000_000_000_000
    os.utime(new, ns=(moment, moment))
    new.replace(path)


@pytest.fixture
def worker(project: Path) -> Iterator[subprocess.Popen[str]]:
    with (project / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "durablejobs", "worker", "--reload"],
            cwd=project,
            stderr=log,
            text=True,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": ""},
        )
        yield process
        process.kill()
        process.wait()


@pytest.fixture
def app(project: Path) -> Iterator[DurableJobs]:
    with closing(DurableJobs(project / "jobs.db")) as jobs:
        yield jobs


def wait_for_log(project: Path, text: str, times: int = 1) -> None:
    wait_until(lambda: (project / "log").read_text().count(text) >= times, f"the worker says {text!r}", within=60)


def test_the_next_job_runs_the_new_code(project: Path, worker: subprocess.Popen[str], app: DurableJobs) -> None:
    assert app.enqueue("ask").wait(timeout=60) == 1
    write(project, "ANSWER = 2")
    wait_for_log(project, " started:", times=2)
    assert app.enqueue("ask").wait(timeout=60) == 2
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0


def test_a_running_job_finishes_first(project: Path, worker: subprocess.Popen[str], app: DurableJobs) -> None:
    job = app.enqueue("ask", "gate")
    wait_until((project / "asked").exists, "the job runs", within=60)
    write(project, "ANSWER = 2")
    wait_for_log(project, "starting again")
    (project / "gate").touch()
    assert job.wait(timeout=60) == 1
    assert job.refresh().attempt == 1
    assert app.enqueue("ask").wait(timeout=60) == 2
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0


def test_code_that_cannot_be_imported_is_waited_for(
    project: Path, worker: subprocess.Popen[str], app: DurableJobs
) -> None:
    assert app.enqueue("ask").wait(timeout=60) == 1
    write(project, "ANSWER = = 2")
    wait_for_log(project, "waiting for a change of the code")
    assert worker.poll() is None
    write(project, "ANSWER = 3")
    assert app.enqueue("ask").wait(timeout=60) == 3


def test_it_is_for_one_worker(project: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "durablejobs", "worker", "--reload", "--processes", "2"],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 2
    assert "--reload" in answer.stderr
