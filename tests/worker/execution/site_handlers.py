"""The `handlers.py` of these tests: copied into each test's directory, run by the command line and as a script.

Each call is written down in the file `calls`, one line by one system call.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

from sqlalchemy import text

from durablejobs import Backoff, DurableJobs, JobCancelled, JobDefaults, JobTimeout, current_job

HERE = Path(__file__).parent
jobs = DurableJobs(HERE / "jobs.db", defaults=JobDefaults(backoff=Backoff(base=0.05, jitter=0)))


def note(event: str) -> None:
    job = current_job()
    call = {"event": event, "job": job.id, "handler": job.handler, "pid": os.getpid(), "moment": time.monotonic()}
    descriptor = os.open(HERE / "calls", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, json.dumps(call).encode() + b"\n")
    os.close(descriptor)


def pass_gate(name: str) -> str:
    note("began")
    while not (HERE / name).exists():
        time.sleep(0.01)
    note("ended")
    return "passed"


jobs.handler("thread_gate")(pass_gate)
jobs.handler("process_gate", mode="process")(pass_gate)


@jobs.handler
async def async_gate(name: str) -> str:
    note("began")
    while not (HERE / name).exists():
        await asyncio.sleep(0.01)
    note("ended")
    return "passed"


@jobs.handler
def thread_pid() -> int:
    return os.getpid()


@jobs.handler
async def async_pid() -> int:
    return os.getpid()


@jobs.handler(mode="process")
def process_pid() -> int:
    note("began")
    return os.getpid()


@jobs.handler(mode="process", fresh=True)
def fresh_pid() -> int:
    return os.getpid()


def fork_and_come_back(n: int) -> int:
    """Of the first job: forget to end what it has forked."""
    note("began")
    if n == 1 and os.fork() == 0:
        raise RuntimeError("in the forked process")
    if n == 1:
        os.wait()
    return n


jobs.handler("thread_fork")(fork_and_come_back)
jobs.handler("process_fork", mode="process")(fork_and_come_back)


waiting = 0


@jobs.handler
async def meet(guests: int) -> int:
    """Wait until so many jobs run at once."""
    global waiting
    waiting += 1
    while waiting < guests:
        await asyncio.sleep(0.01)
    return waiting


def burn() -> None:
    note("began")
    while True:
        sum(range(1000))


jobs.handler("thread_burn", timeout=0.3, max_attempts=1)(burn)
jobs.handler("process_burn", mode="process", timeout=0.3, max_attempts=1)(burn)
jobs.handler("process_endless", mode="process")(burn)


@jobs.handler(timeout=0.3, max_attempts=1)
async def async_sleep() -> None:
    await asyncio.sleep(3600)


@jobs.handler(mode="process", timeout=0.3, max_attempts=1)
def process_sleep() -> None:
    time.sleep(3600)


@jobs.handler(mode="process", timeout=0.3, max_attempts=1)
def process_stubborn() -> None:
    while True:
        try:
            time.sleep(3600)
        except JobTimeout:
            note("asked")


@jobs.handler(timeout=0.3, max_attempts=1)
def fan_out() -> None:
    """Spend all time in what is not interrupted."""
    while True:
        jobs.enqueue("thread_pid")


@jobs.handler(timeout=0.05, max_attempts=1)
def undo(spin: float) -> None:
    """Roll back at about the moment of the timeout."""
    until = time.monotonic() + spin
    with current_job().transaction() as connection:
        connection.execute(text("SELECT 1"))
        while time.monotonic() < until:
            pass
        raise ValueError("undone")


def swallow() -> str:
    try:
        while True:
            time.sleep(0.01)
    except JobTimeout:
        return "half done"


jobs.handler("thread_swallow", timeout=0.2)(swallow)
jobs.handler("process_swallow", mode="process", timeout=0.2)(swallow)


@jobs.handler(timeout=0.2)
async def async_swallow() -> str:
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        return "half done"
    return "never"


@jobs.handler(timeout=0.2, max_attempts=1)
def stuck(seconds: float) -> str:
    """One long call into C."""
    note("began")
    time.sleep(seconds)
    return "late"


@jobs.handler
async def block_the_loop(seconds: float) -> None:
    note("began")
    time.sleep(seconds)


@jobs.handler(mode="process")
def hold_the_interpreter() -> None:
    """Call into C without giving the interpreter lock away."""
    note("began")
    ctypes.PyDLL(None).sleep(3600)


@jobs.handler
def thread_polls() -> None:
    note("began")
    while True:
        current_job().check_cancelled()
        time.sleep(0.01)


@jobs.handler
async def async_cleans_up() -> None:
    note("began")
    try:
        await asyncio.sleep(3600)
    finally:
        note("cleaned")


@jobs.handler(mode="process")
def process_cleans_up() -> None:
    note("began")
    try:
        time.sleep(3600)
    except JobCancelled:
        assert current_job().cancelled
        note("cleaned")
        raise


@jobs.handler(mode="process")
def die(how: str) -> None:
    note("began")
    if how == "exit":
        os._exit(7)
    elif how == "segfault":
        ctypes.string_at(0)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "overflow":
        sys.setrecursionlimit(10**9)
        _sink()


def _sink() -> int:
    return max([0], key=lambda _: _sink())  # through C, so that the stack of C grows


@jobs.handler
def die_in_thread() -> None:
    note("began")
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGKILL)


@jobs.handler(mode="process", max_attempts=1)
def eat_memory() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (2**30, resource.RLIM_INFINITY))
    bytearray(2**31)


@jobs.handler(mode="process")
def enqueue_more() -> int:
    return jobs.enqueue("thread_pid").id


@jobs.handler(mode="process", max_attempts=1)
def ignore_signals_from_outside() -> str:
    note("began")
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    return "still here"


@jobs.handler
def returns_a_coroutine() -> object:
    return asyncio.sleep(0)


if __name__ == "__main__":
    print(jobs.work(burst=True, concurrency=1, process_concurrency=1))


@jobs.handler(mode="process", keep_log=True)
def process_effect(how: str) -> str:
    """Write a row and enqueue a child job in the job's own transaction; then return, raise, or die."""
    job = current_job()
    job.progress(1, 2, "half-way")
    job.log("by hand")
    logging.getLogger("site").warning("by logging")
    with job.transaction() as connection:
        connection.execute(text("INSERT INTO effects VALUES (:job)"), {"job": job.id})
        jobs.using(connection=connection).enqueue("thread_pid")
    note("began")
    if how == "raise":
        raise ValueError("after its effects")
    if how == "die once" and job.crashes == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return "paid"
