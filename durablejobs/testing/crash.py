"""A worker in a process of its own that is killed with a job in hand: the test's side. See `doomed` for the other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from ..app import DurableJobs
from ..jobs import Job
from ..records import JobFilter
from ..statuses import Status

_LOOK_EVERY: Final = 0.005


def crashed(
    jobs: DurableJobs,
    now: datetime,
    at: str,
    handler: str | None,
    when: Callable[[], bool] | None,
    timeout: float,
) -> Job:
    """Start a worker that is killed at this point; return the job that it had in hand."""
    if at not in ("start", "end"):
        raise ValueError(f"at must be 'start' or 'end', not {at!r}")
    order = {
        "app": _name_of(jobs),
        "modules": sorted({definition.module for definition in jobs.registry}),
        "database": jobs.location,
        "now": now.isoformat(),
        "at": None if when is not None else at,
        "handler": handler,
    }
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))}
    process = subprocess.Popen(  # noqa: S603 - this interpreter and a module of ours
        [sys.executable, "-m", "durablejobs.testing.doomed", json.dumps(order)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _wait(process, when, timeout)
        errors = process.communicate(timeout=timeout)[1]
    finally:
        process.kill()
        process.communicate()
    if process.returncode != -signal.SIGKILL:
        raise AssertionError(f"the worker was to be killed, but it ended with {process.returncode}:\n{errors}")
    running = jobs.list_jobs(JobFilter((Status.RUNNING,), handler))
    if not running:
        raise AssertionError("the worker was killed, but it had no job in hand")
    return running[-1]


def _wait(process: subprocess.Popen[str], when: Callable[[], bool] | None, timeout: float) -> None:
    """Wait for the process's end, or kill it when it is time."""
    give_up = time.monotonic() + timeout
    while process.poll() is None:
        if when is not None and when():
            process.kill()
            return
        if time.monotonic() > give_up:
            process.kill()
            raise AssertionError(f"in {timeout:g} s the worker did not come to the point where it is to be killed")
        time.sleep(_LOOK_EVERY)


def _name_of(jobs: DurableJobs) -> str:
    """Return `module:name` of the application, by which another process can import it."""
    for module_name, module in list(sys.modules.items()):
        if module_name == "__main__":
            continue
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is jobs:
                return f"{module_name}:{name}"
    raise AssertionError(
        "crash_worker() starts another process, which has to import the DurableJobs and its handlers: "
        "keep them at the top level of a module"
    )
