"""Faults that need the machine: a worker's memory is used up, process ids come back, a reader never ends, storms."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from durablejobs import DurableJobs

from ..worker.harness import Queue, wait_until
from .promises import broken_promises

ROOT = Path(__file__).resolve().parents[2]
MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")

HANDLERS = """
import os
from durablejobs import DurableJobs, current_job

jobs = DurableJobs("jobs.db")


@jobs.handler
def echo(value=None):
    return value


@jobs.handler
def die_once():
    pids = open("pids", "a")
    pids.write(f"{os.getpid()}\\n")
    pids.close()
    if current_job().crashes == 0:
        os._exit(9)  # not SIGKILL: the first process of a namespace does not hear its own


@jobs.handler
def eat(megabytes):
    if current_job().crashes < 2:
        hoard = [bytearray(1024 * 1024) for _ in range(megabytes)]
        for block in hoard:
            block[::4096] = b"x" * 256
    return "survived"
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with handlers; the queue in it is `jobs.db`."""
    (tmp_path / "handlers.py").write_text(HANDLERS)
    return tmp_path


def worker_command(*options: str) -> list[str]:
    return [sys.executable, "-m", "durablejobs", "worker", "--db", "jobs.db", *options]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DURABLEJOBS_")}
    return kept | {"PYTHONPATH": str(ROOT)}


def check_promises(place: Path) -> None:
    with closing(sqlite3.connect(place / "jobs.db")) as connection:
        assert broken_promises(connection) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a namespace of process ids")
def test_a_worker_with_the_same_name_host_and_process_id_recovers_what_its_predecessor_ran(place: Path) -> None:
    """As in a container that is started again: nothing but the kernel's lock tells the two apart."""
    jobs = DurableJobs(place / "jobs.db")
    job = jobs.enqueue("die_once")
    command = ["unshare", "--pid", "--fork", "--kill-child", *worker_command("--burst", "--name", "worker")]
    if subprocess.run([*command[:4], "true"], check=False, capture_output=True).returncode:
        pytest.skip("no namespace of process ids can be made here")
    ends = [
        subprocess.run(command, cwd=place, env=environment(), capture_output=True, check=False, timeout=60).returncode
        for _ in range(2)
    ]
    assert ends == [9, 0]
    assert len(set((place / "pids").read_text().split())) == 1
    ended = jobs.get(job.id)
    assert (ended.status, ended.attempt, ended.crashes) == ("succeeded", 2, 1)
    jobs.close()
    check_promises(place)


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """A control group with 150 MB."""
    group = MEMORY_GROUPS / f"durablejobs-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(150 * 1024 * 1024))
        with suppress(OSError):  # where swap is not accounted
            (group / "memory.memsw.limit_in_bytes").write_text(str(150 * 1024 * 1024))
    except OSError:
        pytest.skip("no memory control group can be made here")
    yield group
    with suppress(OSError):
        group.rmdir()


@pytest.mark.slow
def test_a_job_that_is_killed_for_its_memory_is_a_crash_and_other_workers_live(place: Path, small_memory: Path) -> None:
    jobs = DurableJobs(place / "jobs.db")
    greedy = jobs.using(queue="greedy").enqueue("eat", 400)
    command = worker_command("--queues", "default")
    other = subprocess.Popen(command, cwd=place, env=environment(), stderr=subprocess.DEVNULL)
    into_the_group = ["sh", "-c", f'echo $$ > {small_memory}/cgroup.procs; exec "$@"', "sh"]
    try:
        for _ in range(3):
            killed = subprocess.run(
                [*into_the_group, *worker_command("--queues", "greedy", "--burst")],
                cwd=place,
                env=environment(),
                capture_output=True,
                check=False,
                timeout=60,
            )
            if killed.returncode == 0:
                break
            assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert jobs.enqueue("echo", 1).wait(timeout=30) == 1
        ended = jobs.get(greedy.id)
        assert (ended.status, ended.crashes, ended.result) == ("succeeded", 2, "survived")
    finally:
        other.kill()
        other.wait()
    jobs.close()
    check_promises(place)


def test_a_reader_that_stays_lets_the_log_grow_and_nothing_else_happens(queue: Queue) -> None:
    log = queue.directory / "jobs.db-wal"
    with closing(sqlite3.connect(queue.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        before = reader.execute("SELECT count(*) FROM jobs").fetchone()
        queue.start(concurrency=2)
        queue.enqueue_many("nothing", 6000)
        queue.wait_until_all_ended(within=60)
        assert reader.execute("SELECT count(*) FROM jobs").fetchone() == before  # the moment it has begun with
        grown = log.stat().st_size
        assert grown > 1000 * 4096  # more than SQLite keeps when nobody reads
        reader.execute("ROLLBACK")
    for _ in range(3):
        queue.enqueue_many("nothing", 1000)
        queue.wait_until_all_ended(within=60)
    assert log.stat().st_size < grown + 1000 * 4096  # it has begun again at the front


@pytest.mark.slow
def test_processes_that_start_at_once_while_some_are_killed_make_one_schema(place: Path) -> None:
    program = "import sys; from durablejobs import DurableJobs; print(DurableJobs('jobs.db').enqueue('echo').id)"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(8)
    ]
    wait_until(lambda: (place / "jobs.db").exists(), "one of them has created the file", within=60)
    for victim in started[::3]:
        victim.kill()
    said = [process.communicate(timeout=60) for process in started]
    ids = [int(out) for out, _ in said if out]
    assert [err for _, err in said if err] == []
    assert len(set(ids)) == len(ids)
    with closing(sqlite3.connect(place / "jobs.db")) as connection:
        stored = {job_id for (job_id,) in connection.execute("SELECT id FROM jobs")}
    assert set(ids) <= stored
    check_promises(place)


NO_THREADS = """
import sys, threading
from durablejobs import DurableJobs

jobs = DurableJobs("jobs.db")
jobs.handler("echo")(lambda: None)
start, left = threading.Thread.start, [int(sys.argv[1])]

def start_if_there_is_room(thread):
    if not left[0]:
        raise RuntimeError("can't start new thread")
    left[0] -= 1
    start(thread)

threading.Thread.start = start_if_there_is_room
jobs.work(burst=True, concurrency=2)
"""


def test_a_worker_that_gets_no_thread_ends_and_its_jobs_wait_for_the_next(place: Path) -> None:
    """Whichever of its threads it is that the system refuses."""
    with closing(DurableJobs(place / "jobs.db")) as jobs:
        job = jobs.enqueue("echo")
        codes = []
        for room in (0, 1, 2, 3):
            command = [sys.executable, "-c", NO_THREADS, str(room)]
            done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False, timeout=60)
            codes.append(done.returncode)
            assert "can't start new thread" in done.stderr
            assert (job.refresh().status, job.refresh().attempt) == ("pending", 0)
        assert codes == [1, 1, 1, 1]
        jobs.handler("echo")(lambda: None)
        jobs.work(burst=True, concurrency=1)
        assert job.refresh().status == "succeeded"
    check_promises(place)


def test_the_command_says_in_one_line_that_the_system_gives_no_more_threads(place: Path) -> None:
    code = NO_THREADS.replace(
        "jobs.work(burst=True, concurrency=2)",
        "import runpy\nsys.argv = ['durablejobs', 'worker', '--db', 'jobs.db', '--burst', '--quiet']\n"
        "runpy.run_module('durablejobs', run_name='__main__')",
    )
    assert "runpy" in code
    done = subprocess.run(
        [sys.executable, "-c", code, "0"], cwd=place, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "\ndurablejobs: the system gives no more threads; lower --concurrency" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_prune_of_a_hundred_thousand_jobs_that_is_killed_leaves_whole_jobs_and_true_counts(place: Path) -> None:
    many = 100_000
    with closing(DurableJobs(place / "jobs.db")) as jobs:
        jobs.enqueue_many("echo", ([] for _ in range(many)))
    with closing(sqlite3.connect(place / "jobs.db", isolation_level=None)) as connection:
        connection.execute("UPDATE jobs SET status = 'cancelled', finished_at = '2020-01-01 00:00:00.000000'")

        def left() -> int:
            return int(connection.execute("SELECT count(*) FROM jobs").fetchone()[0])

        command = [sys.executable, "-m", "durablejobs", "prune", "--db", "jobs.db", "--older-than", "0"]
        with subprocess.Popen(command, cwd=place, env=environment(), stdout=subprocess.DEVNULL) as prune:
            wait_until(lambda: left() < many, "some are gone", within=60)
            prune.kill()
        assert 0 < left() < many
        check_promises(place)
        subprocess.run(command, cwd=place, env=environment(), stdout=subprocess.DEVNULL, check=True, timeout=100)
        assert left() == 0
        check_promises(place)
