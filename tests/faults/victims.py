"""Programs whose system calls are made to fail: started by fork, tampered with by strace.

`python -m tests.faults.victims` imports the package once and forks a child for each order; the child waits at a gate
until strace holds it, and then does its work as any program does.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
PATIENCE: Final = 60.0
_ONE_CALL: Final = re.compile(r"^\d+ +(\w+)\(", re.MULTILINE)


@dataclass(frozen=True)
class Fault:
    """What happens to a system call on the database's files: `fdatasync:error=EIO:when=3`."""

    call: str
    effect: str
    when: str

    def __str__(self) -> str:
        return f"{self.call}:{self.effect}:when={self.when}"


@dataclass(frozen=True)
class Fate:
    """What became of a program."""

    answer: dict[str, Any]
    """What it said last; empty where it died before."""
    exit_code: int
    calls: Counter[str]
    """Its system calls on the database's files."""
    injected: int
    """How many of them were tampered with."""
    log: str


class Victims:
    """Starts programs and lets strace tamper with them."""

    def __init__(self) -> None:
        self._nursery = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.victims"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        self._nursery.communicate(timeout=PATIENCE)

    def run(self, directory: Path, fault: Fault | None = None, calls: str = "all", **order: Any) -> Fate:
        """Do the order on `jobs.db` in a directory, with a fault; return what became of it."""
        gate, answer, log, trace = (directory / name for name in ("gate", "answer", "log", "trace"))
        for file in (gate, answer, log, trace):
            file.unlink(missing_ok=True)
        os.mkfifo(gate)
        pid = self._ask(directory=str(directory), **order)["pid"]
        with subprocess.Popen(
            _strace(pid, directory, trace, fault, calls), stderr=subprocess.PIPE, text=True
        ) as strace:
            assert strace.stderr is not None
            assert "attached" in strace.stderr.readline()
            with gate.open("w") as opened:
                opened.write("go\n")
            exit_code = self.wait(pid)
            strace.stderr.read()
        traced = trace.read_text(errors="replace")
        said = json.loads(answer.read_text()) if answer.exists() and answer.stat().st_size else {}
        calls_made = Counter(_ONE_CALL.findall(traced))
        return Fate(said, exit_code, calls_made, traced.count("(INJECTED)") + traced.count("DELAYED"), log.read_text())

    def start(self, directory: Path, **order: Any) -> int:
        """Start a program that nobody tampers with; return its process id."""
        return int(self._ask(directory=str(directory), free=True, **order)["pid"])

    def wait(self, pid: int) -> int:
        """Wait for the end of a program; return its exit code."""
        return int(self._ask(wait=pid)["exit_code"])

    def _ask(self, **order: Any) -> dict[str, Any]:
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        self._nursery.stdin.write(json.dumps(order) + "\n")
        self._nursery.stdin.flush()
        answer: dict[str, Any] = json.loads(self._nursery.stdout.readline())
        return answer


def _strace(pid: int, directory: Path, trace: Path, fault: Fault | None, calls: str) -> list[str]:
    paths = [directory, *(directory / f"jobs.db{suffix}" for suffix in ("", "-wal", "-journal", "-shm", "-lock"))]
    command = ["strace", "-f", "-p", str(pid), "-o", str(trace), "-s", "0"]
    command += [part for path in paths for part in ("-P", str(path))]
    return [*command, "-e", f"inject={fault}"] if fault else [*command, "-e", f"trace={calls}"]


# The nursery and its children


def enqueue(order: dict[str, Any]) -> dict[str, Any]:
    """Enqueue one job, or a batch, and say what came of it."""
    from durablejobs import DatabaseConfig, DurableJobs, DurableJobsError

    jobs = DurableJobs("jobs.db", database_config=DatabaseConfig(busy_timeout=2))
    try:
        if order["do"] == "enqueue":
            return {"stored": jobs.using(unique_key=order.get("unique_key")).enqueue("echo", 1).id}
        return {"stored": jobs.enqueue_many("echo", [(number,) for number in range(order["count"])]).count}
    except DurableJobsError as error:
        return {"error": type(error).__name__, "message": str(error)}
    finally:
        with suppress(DurableJobsError):
            jobs.close()


def work(order: dict[str, Any]) -> dict[str, Any]:
    """Be a worker until the queue is empty or the database is given up."""
    import logging

    from durablejobs import DatabaseConfig, DatabaseError, DurableJobs

    logging.basicConfig(level=logging.INFO, filename="log", format="%(message)s")
    jobs = DurableJobs("jobs.db", create=False, database_config=DatabaseConfig(busy_timeout=2))
    calls = os.open("calls", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    @jobs.handler
    def echo(value: int) -> int:
        os.write(calls, f"{value}\n".encode())
        return value

    since = time.monotonic()
    try:
        report = jobs.work(burst=True, concurrency=1, lease=order["lease"], heartbeat=order["lease"] / 4)
    except DatabaseError as error:
        return {"error": type(error).__name__, "message": str(error), "seconds": time.monotonic() - since}
    return {"succeeded": report.succeeded, "seconds": time.monotonic() - since}


def live(order: dict[str, Any]) -> None:
    """Wait at the gate, do the order, write down the answer."""
    os.chdir(order["directory"])
    descriptor = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    if not order.get("free"):
        Path("gate").read_text()
    limits = order.get("limits", {})
    if limits:
        import resource

        for name, value in limits.items():
            resource.setrlimit(getattr(resource, name), (value, value))
    if order["do"] == "client":
        from .clients import be_a_client

        be_a_client(order["name"], order["database"], order.get("hasty", False))
    answer = work(order) if order["do"] == "work" else enqueue(order)
    Path("answer").write_text(json.dumps(answer))


def serve() -> dict[str, Any] | None:
    """Answer orders until stdin ends; in a forked child, return its order."""
    # Imported once for all children.
    import psycopg  # noqa: F401
    import sqlalchemy.dialects.postgresql.psycopg  # noqa: F401

    import durablejobs.app
    import durablejobs.store.postgres
    import durablejobs.worker  # noqa: F401

    for line in iter(sys.stdin.readline, ""):
        order: dict[str, Any] = json.loads(line)
        answer = {}
        if "wait" in order:
            _, status = os.waitpid(order["wait"], 0)
            answer["exit_code"] = os.waitstatus_to_exitcode(status)
        else:
            pid = os.fork()
            if pid == 0:
                return order
            answer["pid"] = pid
        print(json.dumps(answer), flush=True)
    return None


if __name__ == "__main__":
    given = serve()
    if given is not None:
        live(given)
