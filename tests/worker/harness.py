"""Real workers for the tests: how they are started, watched, signalled and counted.

Nothing sleeps for a fixed time and hopes: `wait_until` looks for a condition and gives up loudly.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from durablejobs import DurableJobs, EnqueueOptions, Job, WorkerConfig
from durablejobs.store import Store

from ..conftest import Sql, sql_on_postgres, sql_on_sqlite

T = TypeVar("T")

PATIENCE: Final = 60.0
"""Seconds after which a test gives up waiting; never what a test measures."""
LIVE: Final = ("scheduled", "pending", "blocked", "running")
_ROOT: Final = Path(__file__).resolve().parents[2]
_TICKS: Final = os.sysconf("SC_CLK_TCK")


def wait_until(condition: Callable[[], T], what: str, within: float = PATIENCE, every: float = 0.004) -> T:
    """Return the condition's value as soon as it is true."""
    give_up = time.monotonic() + within
    while not (value := condition()):
        if time.monotonic() > give_up:
            raise AssertionError(f"waited {within:g} s in vain until {what}")
        time.sleep(every)
    return value


class Nursery:
    """Starts worker processes quickly; see `program`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.worker.program"],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lock = threading.Lock()

    def ask(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        self._process.communicate(timeout=PATIENCE)


class WorkerProcess:
    """A worker in a process of its own."""

    def __init__(self, nursery: Nursery, output: Path, log: Path, order: dict[str, Any]) -> None:
        self._nursery = nursery
        self._output = output
        self._log = log
        self.exit_code: int | None = None
        log.touch()
        self.pid: int = nursery.ask(do="work", output=str(output), log=str(log), **order)["pid"]

    @property
    def is_alive(self) -> bool:
        if self.exit_code is None:
            self.exit_code = self._nursery.ask(do="look", pid=self.pid).get("exit_code")
        return self.exit_code is None

    def wait(self, within: float = PATIENCE) -> int:
        """Return the exit code once the process has ended; minus the number of a signal that ended it."""
        try:
            wait_until(lambda: not self.is_alive, f"worker {self.pid} ends", within)
        except AssertionError as error:
            error.add_note(self.log)
            raise
        assert self.exit_code is not None
        return self.exit_code

    def send(self, number: signal.Signals) -> None:
        if self.is_alive:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self.send(signal.SIGKILL)
        self.wait()

    def stop(self) -> dict[str, int]:
        """End it as `kill` does; return its report."""
        self.send(signal.SIGTERM)
        return self.finish()

    def finish(self, within: float = PATIENCE) -> dict[str, int]:
        """Wait for its regular end; return its report."""
        assert self.wait(within) == 0, self.log
        report: dict[str, int] = json.loads(self._output.read_text())
        return report

    @property
    def log(self) -> str:
        return self._log.read_text()

    def cpu_seconds(self) -> float:
        """Processor time of all its threads so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_bytes(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass
class Call:
    """One line that a handler wrote; `moment` is the monotonic clock, the same in all processes."""

    event: str
    handler: str
    job: int
    attempt: int
    crashes: int
    pid: int
    moment: float
    time: float


@dataclass
class Queue:
    """A database with its workers, and what their handlers wrote down."""

    directory: Path
    nursery: Nursery
    given_path: Path | None = None
    url: str | None = None
    """Where a server keeps the jobs."""
    workers: list[WorkerProcess] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.path = self.given_path or self.directory / "jobs.db"
        self.calls_path = self.directory / "calls"
        self.gates = self.directory / "gates"
        self.gates.mkdir()
        self.database = self.url or str(self.path)
        self.jobs = DurableJobs(self.database)
        self._run_sql: Sql | None = None
        self._connections = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.send(signal.SIGKILL)
        for worker in self.workers:
            worker.wait()
        self.jobs.close()
        self.forget_connection()

    # Workers

    def start(
        self,
        *,
        busy_timeout: float = 30,
        backoff: float = 0.05,
        max_attempts: int = 20,
        clock: Path | None = None,
        in_a_thread: bool = False,
        database: Path | None = None,
        planted: str | None = None,
        **config: Any,
    ) -> WorkerProcess:
        """Start a worker; the options that are not named here are those of `WorkerConfig`.

        `planted` are faults that it is to have, see `program`: a test that cannot find a bug proves nothing.
        """
        config.setdefault("concurrency", 1)
        WorkerConfig(**config)  # a wrong option fails here, not in the process
        number = len(self.workers)
        worker = WorkerProcess(
            self.nursery,
            self.directory / f"worker-{number}.out",
            self.directory / f"worker-{number}.log",
            {
                "database": str(database or self.database),
                "calls": str(self.calls_path),
                "gates": str(self.gates),
                "busy_timeout": busy_timeout,
                "backoff": backoff,
                "max_attempts": max_attempts,
                "clock": str(clock) if clock else None,
                "in_a_thread": in_a_thread,
                "planted": planted,
                "config": config,
            },
        )
        self.workers.append(worker)
        return worker

    def start_idle(self, **options: Any) -> WorkerProcess:
        """Start a worker that has proved by a first job that it works, and waits for the next one."""
        worker = self.start(**options)
        first = self.enqueue("echo", options=EnqueueOptions(queue=options.get("queues")))
        self.wait_for("succeeded", first)
        wait_until(lambda: self.row(first)["worker_id"] is None, "the first job is settled")
        return worker

    def run(self, **options: Any) -> dict[str, int]:
        """Run a worker until nothing is left; return its report."""
        return self.start(burst=True, **options).finish()

    # Jobs

    def enqueue(self, handler: str, *args: Any, options: EnqueueOptions | None = None) -> int:
        return self.jobs.client(options).enqueue(handler, *args).id

    def enqueue_many(self, handler: str, count: int, *args: Any, queue: str = "default") -> range:
        """Enqueue so many equal jobs in one transaction; return their ids."""
        self.jobs.using(queue=queue).enqueue_many(handler, [args] * count)
        last = self.sql("SELECT max(id) AS id FROM jobs")[0]["id"]
        return range(last - count + 1, last + 1)

    def insert_unchecked(self, handler: str, **columns: Any) -> int:
        """Store a job although the database's own checks refuse it; return its id."""
        self.sql("PRAGMA ignore_check_constraints = ON")
        names = ", ".join(["handler", *columns])
        marks = ", ".join("?" * (len(columns) + 1))
        inserted = self.sql(f"INSERT INTO jobs({names}) VALUES ({marks}) RETURNING id", handler, *columns.values())
        self.sql("PRAGMA ignore_check_constraints = OFF")
        return int(inserted[0]["id"])

    def open_gate(self, name: str = "gate") -> None:
        (self.gates / name).touch()

    def job(self, job_id: int) -> Job:
        return self.jobs.get(job_id)

    def row(self, job_id: int) -> dict[str, Any]:
        return self.sql("SELECT * FROM jobs WHERE id = ?", job_id)[0]

    def errors(self, job_id: int) -> list[dict[str, Any]]:
        return self.sql("SELECT * FROM job_errors WHERE job_id = ? ORDER BY id", job_id)

    def sql(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        """Run one statement as another program would, and commit."""
        if self._run_sql is None:
            run = sql_on_postgres(self.url) if self.url else sql_on_sqlite(str(self.path), PATIENCE)
            self._run_sql = self._connections.enter_context(run)
        return self._run_sql(statement, *values)

    def connect(self) -> sqlite3.Connection:
        """Open the file as another program would."""
        return sqlite3.connect(self.path, isolation_level=None, timeout=PATIENCE)

    def forget_connection(self) -> None:
        """Open the file afresh for the next statement: another one may be in its place."""
        self._connections.close()
        self._run_sql = None

    def statuses(self) -> dict[str, int]:
        rows = self.sql("SELECT status, count(*) AS jobs FROM jobs GROUP BY status")
        return {row["status"]: row["jobs"] for row in rows}

    def wait_for(self, status: str, *job_ids: int, within: float = PATIENCE) -> None:
        for job_id in job_ids:
            wait_until(lambda: self.row(job_id)["status"] == status, f"job {job_id} is {status}", within)  # noqa: B023

    def wait_until_all_ended(self, within: float = PATIENCE) -> dict[str, int]:
        """Wait until no job is live; return the counts by status."""
        wait_until(lambda: not set(self.statuses()) & set(LIVE), "all jobs have ended", within, every=0.02)
        return self.statuses()

    def registered(self) -> list[dict[str, Any]]:
        return self.sql("SELECT * FROM job_workers ORDER BY id")

    def check_integrity(self) -> None:
        if self.url:
            with closing(Store(self.url)) as store:
                broken = [each for each in store.checks.rules() if each.broken]
                assert not broken, broken
            return
        assert self.sql("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
        assert self.sql("PRAGMA foreign_key_check") == []

    # Calls

    def calls(self, event: str = "began", handler: str | None = None, job: int | None = None) -> list[Call]:
        """What the handlers wrote, in the order in which they wrote it."""
        if not self.calls_path.exists():
            return []
        lines = self.calls_path.read_text().splitlines(keepends=True)
        calls = [Call(**json.loads(line)) for line in lines if line.endswith("\n")]
        return [
            call
            for call in calls
            if call.event == event and handler in (None, call.handler) and job in (None, call.job)
        ]

    def calls_by_job(self) -> Counter[int]:
        return Counter(call.job for call in self.calls())

    def wait_for_call(self, job_id: int, number: int = 1, event: str = "began", within: float = PATIENCE) -> Call:
        """Return the job's n-th call once it is there."""

        def look() -> Call | None:
            calls = self.calls(event, job=job_id)
            return calls[number - 1] if len(calls) >= number else None

        found = wait_until(look, f"call {number} of job {job_id} {event}", within, every=0.002)
        assert found is not None
        return found
