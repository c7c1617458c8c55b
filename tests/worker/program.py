"""The processes of these tests. Nothing here is imported by the tests themselves.

`python -m tests.worker.program` is a nursery: it imports the package once and forks a fresh process for each order it
reads, which costs a hundredth of starting an interpreter. The child opens everything itself and ends as any program
does. Orders and answers are JSON, one a line.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from durablejobs import Backoff, DatabaseConfig, DurableJobs, JobDefaults, Worker, WorkerConfig, WorkerReport
from durablejobs.clock import to_text
from durablejobs.outcomes import Succeeded
from durablejobs.store import endings
from durablejobs.store.effects import JobTransaction

from . import handlers


class ShiftedClock:
    """A wall clock that somebody sets: a file says by how many seconds it is wrong."""

    def __init__(self, shift: Path) -> None:
        self._shift = shift
        self._system = handlers.monotonic

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=float(self._shift.read_text()))

    def now_text(self) -> str:
        return to_text(self.now())

    def monotonic(self) -> float:
        return self._system()


def work(order: dict[str, Any]) -> None:
    """Be a worker until it ends; the report goes to stdout as JSON."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if order["planted"]:
        plant(order["planted"])
    jobs = DurableJobs(
        order["database"],
        defaults=JobDefaults(backoff=Backoff(base=order["backoff"], jitter=0), max_attempts=order["max_attempts"]),
        database_config=DatabaseConfig(busy_timeout=order["busy_timeout"]),
        clock=ShiftedClock(Path(order["clock"])) if order["clock"] else None,
        create=False,
    )
    handlers.register(jobs, Path(order["calls"]), Path(order["gates"]))
    report = _in_a_thread(jobs, order) if order["in_a_thread"] else jobs.work(WorkerConfig(**order["config"]))
    print(json.dumps(asdict(report)), flush=True)


def plant(names: str) -> None:
    """Give this process faults: bugs that the tests must find, and a death at the worst moment."""
    for name in names.split(", "):
        _FAULTS[name]()


def _forget_the_claim_token() -> None:
    guard, correct = "AND jobs.claim_token = ended.column2", endings.succeed_statement
    assert guard in correct(1)
    endings.succeed_statement = lambda count: correct(count).replace(guard, "")  # type: ignore[assignment]
    on_postgres = endings.SUCCEED_IN_POSTGRES.on_postgres("public")
    forgetful = re.sub(r"AND \S+claim_token = ended.token", "", on_postgres.sql)
    assert forgetful != on_postgres.sql
    on_postgres.sql = forgetful  # type: ignore[misc]


def _commit_effects_alone() -> None:
    async def settle(transaction: JobTransaction, _outcome: Succeeded, _seconds: float) -> bool:
        if transaction._close():
            transaction._transaction.commit()
        return False

    JobTransaction.settle = settle  # type: ignore[method-assign]


def _die_after_the_commit() -> None:
    correct = JobTransaction.settle

    async def settle(transaction: JobTransaction, outcome: Succeeded, seconds: float) -> bool:
        await correct(transaction, outcome, seconds)
        os.kill(os.getpid(), signal.SIGKILL)
        return True

    JobTransaction.settle = settle  # type: ignore[method-assign]


_FAULTS: dict[str, Callable[[], None]] = {
    "no claim token": _forget_the_claim_token,
    "ending and effect in two transactions": _commit_effects_alone,
    "dies after the commit": _die_after_the_commit,
}


def _in_a_thread(jobs: DurableJobs, order: dict[str, Any]) -> WorkerReport:
    """Run the worker outside of the main thread, where no signal handler can be set; SIGTERM calls `stop`."""
    worker: Worker = jobs.worker(WorkerConfig(**order["config"]))
    signal.signal(signal.SIGTERM, lambda _number, _frame: worker.stop())
    reports: list[WorkerReport] = []
    thread = threading.Thread(target=lambda: reports.append(worker.run()))
    thread.start()
    while thread.is_alive():
        thread.join(0.02)
    return reports[0]


def fork(order: dict[str, Any]) -> int:
    """Return the id of a new process that does the order; in the child, return 0."""
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 1)
        os.dup2(os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
    return pid


def serve() -> dict[str, Any] | None:
    """Answer orders until stdin ends; in a forked child, return its order."""
    children: set[int] = set()
    for line in iter(sys.stdin.readline, ""):
        order = json.loads(line)
        answer: dict[str, Any] = {}
        if order["do"] == "work":
            pid = fork(order)
            if pid == 0:
                return order
            children.add(pid)
            answer["pid"] = pid
        else:
            pid, status = os.waitpid(order["pid"], os.WNOHANG)
            if pid:
                children.discard(pid)
                answer["exit_code"] = os.waitstatus_to_exitcode(status)
        print(json.dumps(answer), flush=True)
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return None


if __name__ == "__main__":
    given = serve()
    if given is not None:
        work(given)
