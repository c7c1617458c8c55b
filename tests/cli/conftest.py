"""What the tests of the command line share: the real command, in a directory with handlers."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

HANDLERS = """
from durablejobs import DurableJobs

jobs = DurableJobs("jobs.db")


@jobs.handler("mail")
def mail(to, subject="none", n=0):
    return f"{to}: {subject} {n}"


@jobs.handler("fails", max_attempts=1)
def fails():
    raise ValueError("no \\x1b[31m way")
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `durablejobs …` in a directory with a handlers.py, on jobs.db."""
    (tmp_path / "handlers.py").write_text(HANDLERS)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DURABLEJOBS_")}
    environment["DURABLEJOBS_DB"] = "jobs.db"

    def run_command(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "durablejobs", *arguments],
            cwd=tmp_path,
            env=environment | variables,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run_command


def rows(tmp_path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection:
        return connection.execute(query).fetchall()
