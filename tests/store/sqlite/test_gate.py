"""The gate before the write lock: everybody gets a turn, and nobody waits for the dead."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from durablejobs import DatabaseBusyError, DatabaseConfig, DurableJobs
from durablejobs.statuses import Status
from durablejobs.store import Store
from durablejobs.store.presence import HAS_LOCKS
from durablejobs.store.sqlite.files import use_lock_file_of
from durablejobs.store.sqlite.gate import Gate

pytestmark = pytest.mark.skipif(not HAS_LOCKS, reason="the platform has no byte-range locks")

HOLD = """
import sys
from functools import partial
from pathlib import Path
from durablejobs.store.sqlite.gate import Gate
from durablejobs.store.sqlite.files import use_lock_file_of

gate = Gate(partial(use_lock_file_of, Path(sys.argv[1])))
assert gate.enter(10)
print("inside", flush=True)
sys.stdin.readline()
gate.leave()
print("outside", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def holder(database_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that is inside the gate until it gets a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, database_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "inside\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def gate(database_path: Path) -> Iterator[Gate]:
    made = Gate(partial(use_lock_file_of, database_path))
    yield made
    made.close()


def test_nobody_comes_in_while_another_process_is_inside(gate: Gate, holder: subprocess.Popen[str]) -> None:
    assert gate.enter(0.05) is False
    assert gate.enter(0) is False
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.stdin.write("\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == "outside\n"
    assert gate.enter(0) is True
    gate.leave()


def test_the_gate_opens_when_a_process_is_killed_inside(gate: Gate, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    assert gate.enter(0) is True
    gate.leave()


def test_who_gave_up_waiting_is_in_nobodys_way(gate: Gate, holder: subprocess.Popen[str], database_path: Path) -> None:
    assert gate.enter(0.02) is False
    holder.kill()
    holder.wait()
    code = HOLD.replace("sys.stdin.readline()\ngate.leave()", "gate.leave()").rpartition("sys.stdin")[0]
    done = subprocess.run(
        [sys.executable, "-c", code, database_path], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "inside\noutside\n"


def test_the_threads_of_one_process_come_in_one_at_a_time(gate: Gate) -> None:
    inside = 0
    most_inside = 0
    entered = 0

    def go() -> None:
        nonlocal inside, most_inside, entered
        for _ in range(50):
            assert gate.enter(30)
            inside += 1
            most_inside = max(most_inside, inside)
            entered += 1
            inside -= 1
            gate.leave()

    threads = [threading.Thread(target=go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most_inside, entered) == (1, 400)


def test_a_thread_that_is_inside_is_not_let_in_again(gate: Gate) -> None:
    assert gate.enter(0)
    with pytest.raises(RuntimeError, match="would wait for itself for ever"):
        gate.enter(10)
    gate.leave()


def test_without_locks_of_the_platform_the_threads_still_come_in_one_at_a_time() -> None:
    gate = Gate(lambda: None)
    assert gate.enter(0)
    refused = []
    other = threading.Thread(target=lambda: refused.append(gate.enter(0.01)))
    other.start()
    other.join()
    assert refused == [False]
    gate.leave()


def test_a_process_that_is_stopped_inside_makes_the_others_wait_until_their_timeout_and_no_longer(
    database_path: Path, holder: subprocess.Popen[str]
) -> None:
    with closing(DurableJobs(database_path, database_config=DatabaseConfig(busy_timeout=0.05))) as jobs:
        holder.send_signal(signal.SIGSTOP)
        with pytest.raises(DatabaseBusyError):
            jobs.enqueue("mail")
        holder.kill()  # a stopped process dies of it too
        holder.wait()
        assert jobs.enqueue("mail").id == 1


def test_a_write_inside_a_write_of_the_same_thread_is_refused_and_the_outer_one_goes_on(store: Store) -> None:
    with store.database.write() as connection:
        with pytest.raises(RuntimeError, match="would wait for itself for ever"):
            store.workers.heartbeat(1, 30)
        connection.exec_driver_sql("INSERT INTO jobs(handler) VALUES ('mail')")
    assert store.reads.get(1) is not None
    assert store.workers.heartbeat(1, 30) is False


CONTEND = """
import sys, time
from durablejobs import DurableJobs

jobs = DurableJobs(sys.argv[1])
jobs.open()
print("ready", flush=True)
sys.stdin.readline()
until = time.monotonic() + float(sys.argv[2])
written, worst = 0, 0.0
while (began := time.monotonic()) < until:
    jobs.enqueue("mail")
    worst = max(worst, time.monotonic() - began)
    written += 1
print(written, worst)
"""


def contend(database: Path, writers: int, seconds: float) -> tuple[list[int], float]:
    """Let so many processes enqueue without pause; return how many jobs each has stored, and the longest wait."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CONTEND, database, str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(writers)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    ended = [process.communicate(timeout=100) for process in processes]
    assert [error for _, error in ended if error] == []
    written = [int(output.split()[0]) for output, _ in ended]
    return written, max(float(output.split()[1]) for output, _ in ended)


def test_four_processes_that_write_without_pause_get_like_shares_and_lose_nothing(
    database_path: Path, store: Store
) -> None:
    written, _ = contend(database_path, 4, 1)
    assert max(written) <= 3 * min(written), written
    assert sum(each.counts[Status.PENDING] for each in store.reads.statistics(5)) == sum(written)


@pytest.mark.slow
def test_sixteen_processes_that_write_without_pause_all_get_a_fair_share(database_path: Path) -> None:
    """No writer is told that the database is busy, and the longest wait is far below a third of the lease."""
    written, worst = contend(database_path, 16, 4)
    assert worst < 30 / 3
    assert min(written) * 5 > max(written), written
