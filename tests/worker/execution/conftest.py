"""A user's directory with a `handlers.py`, and workers that are started in it by the command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from durablejobs import DurableJobs, Job
from durablejobs.client import Client

from ...conftest import sql_on_postgres, sql_on_sqlite
from ..harness import wait_until

PATIENCE = 60.0
"""Seconds after which a test gives up: each of these processes imports everything by itself."""


@dataclass
class Site:
    """The directory, and what runs in it."""

    directory: Path
    jobs: DurableJobs
    url: str | None = None
    """Where a server keeps the jobs."""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def database(self) -> str:
        return self.url or "jobs.db"

    # Workers

    def start(self, *arguments: object) -> subprocess.Popen[bytes]:
        """Start `durablejobs worker` with these arguments."""
        return self.start_python("-m", "durablejobs", "worker", "--db", self.database, *arguments)

    def start_python(self, *arguments: object) -> subprocess.Popen[bytes]:
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *map(str, arguments)], cwd=self.directory, stdin=subprocess.DEVNULL, stderr=log
            )
        self.processes.append(process)
        return process

    def run(self, *arguments: object) -> None:
        """Run a worker until nothing is left."""
        assert self.start("--burst", *arguments).wait(PATIENCE) == 0, self.log

    def command(self, *arguments: object) -> str:
        """Run any command of the command line; return what it prints."""
        return subprocess.run(
            [sys.executable, "-m", "durablejobs", *map(str, arguments), "--db", self.database],
            cwd=self.directory,
            capture_output=True,
            check=True,
            text=True,
            timeout=PATIENCE,
        ).stdout

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def wait_for_log(self, text: str, number: int = 1) -> None:
        wait_until(lambda: self.log.count(text) >= number, f"the log says {text!r}", PATIENCE, every=0.02)

    def open_gate(self, name: str = "gate") -> None:
        (self.directory / name).touch()

    # Jobs

    def using(self, **options: Any) -> Client:
        return self.jobs.using(**options)

    def enqueue(self, handler: str, *args: Any) -> int:
        return self.jobs.enqueue(handler, *args).id

    def job(self, job_id: int) -> Job:
        return self.jobs.get(job_id)

    def wait_for(self, status: str, *job_ids: int) -> None:
        for job_id in job_ids:
            wait_until(lambda: self.job(job_id).status == status, f"job {job_id} is {status}", PATIENCE, every=0.02)  # noqa: B023

    def statuses(self) -> dict[str, int]:
        rows = self.sql("SELECT status, count(*) AS jobs FROM jobs GROUP BY status")
        return {row["status"]: row["jobs"] for row in rows}

    def errors(self, job_id: int) -> list[dict[str, Any]]:
        return self.sql("SELECT * FROM job_errors WHERE job_id = ? ORDER BY id", job_id)

    def sql(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        path = str(self.directory / "jobs.db")
        with sql_on_postgres(self.url) if self.url else sql_on_sqlite(path, PATIENCE) as run:
            return run(statement, *values)

    # Calls

    def calls(self, event: str = "began", job: int | None = None) -> list[dict[str, Any]]:
        path = self.directory / "calls"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        calls = [json.loads(line) for line in lines if line.endswith("\n")]
        return [call for call in calls if call["event"] == event and job in (None, call["job"])]

    def wait_for_call(self, job_id: int, event: str = "began", number: int = 1) -> dict[str, Any]:
        wait_until(lambda: len(self.calls(event, job_id)) >= number, f"job {job_id} {event}", PATIENCE, every=0.01)
        return self.calls(event, job_id)[number - 1]


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie, whose parent has not looked yet, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def site(tmp_path: Path, empty_database: Path, dialect: str, request: pytest.FixtureRequest) -> Iterator[Site]:
    url = request.getfixturevalue("postgres_url") if dialect == "postgresql" else None
    if url is None:
        shutil.copyfile(empty_database, tmp_path / "jobs.db")
    shutil.copyfile(Path(__file__).with_name("site_handlers.py"), tmp_path / "handlers.py")
    jobs = DurableJobs(url or tmp_path / "jobs.db")
    site = Site(tmp_path, jobs, url)
    yield site
    for process in site.processes:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)
    jobs.close()
