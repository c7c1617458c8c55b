"""The handlers that the workers of these tests have.

Each call is written down in a file that outlives its process: one line, appended by one system call.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from sqlalchemy import text

from durablejobs import Cancel, DurableJobs, Fail, Retry, Snooze, current_job

monotonic: Final = time.monotonic


class Calls:
    """Writes down what was called; counts even for a process that is killed in the next moment."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, event: str) -> None:
        job = current_job()
        call = {
            "event": event,
            "handler": job.handler,
            "job": job.id,
            "attempt": job.attempt,
            "crashes": job.crashes,
            "pid": os.getpid(),
            "moment": time.monotonic(),  # the same clock in all processes
            "time": time.time(),
        }
        os.write(self._descriptor, json.dumps(call).encode() + b"\n")


def register(jobs: DurableJobs, calls_path: Path, gates: Path) -> None:
    """Register every handler; each notes its beginning, and its end when it gets there."""
    calls = Calls(calls_path)

    def noted(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            calls.note("began")
            result = function(*args, **kwargs)
            calls.note("ended")
            return result

        return run

    def pass_gate(name: str, result: Any = None, fails: bool = False) -> Any:
        """Wait until the test opens the gate; each attempt may have its own."""
        gate = gates / name.format(attempt=current_job().attempt)
        while not gate.exists():
            time.sleep(0.005)
        if fails:
            raise ValueError("the gate was a trap")
        return result

    def lock_database(path: str) -> None:
        """Begin a write transaction and die in it."""
        connection = sqlite3.connect(path, isolation_level=None, timeout=10)
        connection.execute("BEGIN IMMEDIATE")
        if current_job().crashes == 0:
            calls.note("locked")
            time.sleep(60)
        connection.close()

    def write_effect(dies: str = "", _key: str = "") -> None:
        """Write one row in the job's transaction; die at this moment of the first run."""
        with current_job().transaction() as connection:
            connection.execute(text("INSERT INTO effects VALUES (:job)"), {"job": current_job().id})
            if dies == "inside":
                die("kill", 1)
        calls.note("written")
        if dies == "before the commit":
            die("kill", 1)

    meeting = threading.Barrier(4, timeout=20)
    functions: dict[str, Callable[..., Any]] = {
        "echo": lambda value=None: value,
        "sleep": time.sleep,
        "burn": burn,
        "pass_gate": pass_gate,
        "meet": lambda: meeting.wait() and None,
        "die": die,
        "lock_database": lock_database,
        "write_effect": write_effect,
        "fail_until": fail_until,
        "raise_retry": raise_retry,
        "raise_snooze": raise_snooze,
        "raise_fail": raise_fail,
        "raise_cancel": raise_cancel,
        "misbehave": misbehave,
    }
    for name, function in functions.items():
        jobs.handler(name)(noted(function))

    @functools.wraps(time.sleep)
    def sleep_for(_tenant: str, seconds: float, fails: bool = False) -> None:
        time.sleep(seconds)
        if fails and current_job().attempt == 1:
            calls.note("ended")
            raise ValueError("the first attempt fails")

    jobs.handler("limited", max_running=2, running_key="{args[0]}")(noted(sleep_for))

    @jobs.handler
    def nothing() -> None:
        """Not even noted."""


def burn(seconds: float) -> int:
    """Compute in pure Python, which gives the interpreter lock away only when it must."""
    until, count = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        count += sum(range(1000))
    return count


def die(how: str, times: int) -> str:
    """End the process in a way no `except` sees, in the first so many runs."""
    if current_job().crashes >= times:
        return "survived"
    if how == "exit":
        os._exit(3)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "segfault":
        ctypes.string_at(0)
    elif how == "overflow":
        sys.setrecursionlimit(10**9)
        _sink()
    time.sleep(60)
    return "still alive"


def _sink() -> int:
    return max([0], key=lambda _: _sink())  # through C, so that the stack of C grows


def fail_until(attempt: int) -> str:
    """Raise in each attempt before this one."""
    if current_job().attempt < attempt:
        raise ValueError(f"attempt {current_job().attempt} is not {attempt}")
    return "at last"


def raise_retry(delay: float, times: int) -> str:
    if current_job().attempt <= times:
        raise Retry("not yet", delay=delay)
    return "done"


def raise_snooze(delay: float, seen: str) -> str:
    """Snooze the first time; a file tells that it is not the first, because the attempt does not."""
    if not Path(seen).exists():
        Path(seen).touch()
        raise Snooze(delay)
    return "awake"


def raise_fail() -> None:
    raise Fail("no use in trying again")


def raise_cancel() -> None:
    raise Cancel("not wanted any more")


class Unspeakable(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class HalfRetry(Retry):
    """A signal whose author forgot to call the base class."""

    def __init__(self) -> None:
        pass


class Deceitful(dict[str, Any]):
    """A result that breaks when it is looked at."""

    def items(self) -> Any:
        raise RuntimeError("do not look")


def misbehave(how: str) -> Any:
    """Do to the worker what a careless author might do."""
    raised: dict[str, Callable[[], BaseException]] = {
        "system_exit": lambda: SystemExit(3),
        "keyboard_interrupt": KeyboardInterrupt,
        "unspeakable": Unspeakable,
        "generator_exit": GeneratorExit,
        "half_retry": HalfRetry,
        "unspeakable_fail": lambda: Fail(Unspeakable()),  # type: ignore[arg-type]
        "surrogate": lambda: ValueError("\udc80 and \0"),
    }
    returned: dict[str, Callable[[], Any]] = {
        "object": object,
        "huge_integer": lambda: 10**5000,
        "nan": lambda: float("nan"),
        "surrogate_result": lambda: "\ud800",
        "nul_result": lambda: "\0",
        "large": lambda: "x" * 2_000_000,
        "deceitful": Deceitful,
    }
    if how in raised:
        raise raised[how]()
    return returned[how]()
