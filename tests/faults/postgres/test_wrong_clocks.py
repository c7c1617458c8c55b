"""Machines whose time of day is ten minutes off work by the server's clock."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import DictRow

from durablejobs import DurableJobs

from .workers import PATIENCE, running

# What a program asks for the time of day is answered wrong; monotonic clocks stay as they are.
_WRONG_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t which, struct timespec *now) {
    static int (*correct)(clockid_t, struct timespec *);
    if (!correct) correct = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = correct(which, now);
    if (!failed && which == CLOCK_REALTIME) now->tv_sec += atoi(getenv("WRONG_BY"));
    return failed;
}
"""

_SCRIPT = """
import sys, time
from durablejobs import DurableJobs
jobs = DurableJobs(sys.argv[1])

@jobs.handler
def note(): pass

@jobs.handler
def long(): raise AssertionError("stolen")

jobs.using(delay=300).enqueue("note")
jobs.using(delay=0.5).enqueue("note")
jobs.work(max_jobs=1, interval=0.1, concurrency=1)
print(time.time())
"""


@pytest.fixture(scope="module")
def wrong_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that, loaded before others, sets the clock of a program wrong."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("no C compiler to make a wrong clock with")
    directory = tmp_path_factory.mktemp("clock")
    (directory / "clock.c").write_text(_WRONG_CLOCK)
    made = directory / "clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", made, directory / "clock.c", "-ldl"], check=True)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("wrong_by", [600, -600])
def test_a_machine_whose_clock_is_off_steals_nothing_and_is_neither_early_nor_late(
    postgres_url: str, direct: psycopg.Connection[DictRow], wrong_clock: Path, wrong_by: int
) -> None:
    began, may_end = threading.Event(), threading.Event()
    with closing(DurableJobs(postgres_url)) as jobs:

        @jobs.handler
        def long() -> None:
            began.set()
            assert may_end.wait(PATIENCE)

        long.enqueue()
        with running(jobs, concurrency=1, queues="default", heartbeat=1.0, max_jobs=1) as worker:
            assert began.wait(PATIENCE)
            environment = os.environ | {"LD_PRELOAD": str(wrong_clock), "WRONG_BY": str(wrong_by)}
            command = [sys.executable, "-c", _SCRIPT, postgres_url]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
            assert done.returncode == 0, done.stderr
            assert abs(float(done.stdout) - wrong_by - time.time()) < 60  # it was really wrong
            may_end.set()
            assert worker.finish().succeeded == 1
    rows = direct.execute(
        "SELECT status, attempt, crashes, run_at - created_at AS delay, started_at >= run_at AS is_due FROM jobs "
        "ORDER BY id"
    ).fetchall()
    assert [row["status"] for row in rows] == ["succeeded", "scheduled", "succeeded"]
    assert [row["delay"].total_seconds() for row in rows] == [0.0, 300.0, 0.5]
    assert rows[0]["attempt"] == 1
    assert rows[2]["is_due"]
    close = direct.execute("SELECT created_at FROM jobs WHERE abs(extract(epoch FROM now() - created_at)) > 120")
    assert close.fetchall() == []
