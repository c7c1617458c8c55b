"""The wheel works where there is no checkout."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HANDLERS = """
from durablejobs import DurableJobs

jobs = DurableJobs("jobs.db")


@jobs.handler("mail")
def mail(to):
    return f"sent to {to}"
"""


def _run(*command: object, cwd: Path) -> str:
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_wheel_carries_its_migrations_and_runs_a_job_in_an_empty_environment(tmp_path: Path) -> None:
    _run(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path / "dist", cwd=ROOT)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert "durablejobs/migrations/versions/0001_create_jobs.py" in zipfile.ZipFile(wheel).namelist()
    (entry_points,) = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("entry_points.txt"))
    assert "[pytest11]\ndurablejobs = durablejobs.pytest_plugin" in zipfile.ZipFile(wheel).read(entry_points).decode()
    _run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    programs = tmp_path / "venv" / "bin"
    _run(programs / "pip", "install", "--quiet", wheel, cwd=tmp_path)
    (tmp_path / "handlers.py").write_text(HANDLERS)
    assert _run(programs / "durablejobs", "enqueue", "mail", "a@b.c", "--db", "jobs.db", cwd=tmp_path) == "1\n"
    _run(programs / "python", "-m", "durablejobs", "worker", "--db", "jobs.db", "--burst", cwd=tmp_path)
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection:
        rows = connection.execute("SELECT status, result FROM jobs").fetchall()
    assert rows == [("succeeded", '"sent to a@b.c"')]
