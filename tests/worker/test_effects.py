"""Effects exactly once: whatever kills the worker, what a job has written in its transaction is there once."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .harness import Queue

pytestmark = pytest.mark.conformance

BUG = "ending and effect in two transactions"
DEATH = "dies after the commit"


@pytest.fixture
def queue(queue: Queue) -> Queue:
    queue.sql("DROP TABLE IF EXISTS effects")
    queue.sql("CREATE TABLE effects(job INTEGER)")
    return queue


def effects_of(queue: Queue, job_id: int) -> int:
    return int(queue.sql("SELECT count(*) AS n FROM effects WHERE job = ?", job_id)[0]["n"])


def run_with_a_crash(queue: Queue, job_id: int, planted: str | None = None) -> None:
    """Let one worker die of the job, and another one finish the work."""
    assert queue.start(planted=planted).wait() == -9
    queue.run()
    assert queue.row(job_id)["status"] == "succeeded"


@pytest.mark.parametrize("moment", ["inside", "before the commit"])
@pytest.mark.conformance("and fast")
def test_a_worker_killed_before_the_commit_leaves_no_effect_and_the_next_run_one(queue: Queue, moment: str) -> None:
    job_id = queue.enqueue("write_effect", moment)
    run_with_a_crash(queue, job_id)
    assert len(queue.calls(job=job_id)) == 2
    assert queue.row(job_id)["crashes"] == 1
    assert effects_of(queue, job_id) == 1


def test_a_worker_killed_right_after_the_commit_has_settled_its_job(queue: Queue) -> None:
    job_id = queue.enqueue("write_effect")
    run_with_a_crash(queue, job_id, planted=DEATH)
    assert len(queue.calls(job=job_id)) == 1
    assert queue.row(job_id)["crashes"] == 0
    assert effects_of(queue, job_id) == 1


def test_the_harness_finds_an_ending_that_is_written_in_a_second_transaction(queue: Queue) -> None:
    job_id = queue.enqueue("write_effect")
    run_with_a_crash(queue, job_id, planted=f"{BUG}, {DEATH}")
    assert effects_of(queue, job_id) == 2


# The settling transaction killed at each of its system calls (F05)

PROGRAM = """
import os, signal, sys
from functools import partial
from durablejobs import DurableJobs, JobDefaults, current_job
from durablejobs.clock import to_text
from durablejobs.current import NOWHERE
from durablejobs.executor import Executor
from durablejobs.store.endings import Ending
from durablejobs.store.doors.claims import ClaimRequest
from tests.worker.program import plant

if len(sys.argv) > 2:
    plant(sys.argv[2])
jobs = DurableJobs(sys.argv[1])

@jobs.handler
def write_effect():
    with current_job().transaction() as connection:
        connection.exec_driver_sql("INSERT INTO effects VALUES (?)", (current_job().id,))

store = jobs._store
[claimed] = store.claims.turn([], ClaimRequest(10**6, ("default",), 1, 1.0)).claimed
os.write(2, b"claimed")
workplace = NOWHERE._replace(transaction=partial(store.claims.transaction, last_notes=lambda _job: []))
outcome = Executor(jobs._registry, JobDefaults(), workplace).run(claimed)
now = to_text(store.clock.now())
store.claims.settle(10**6, [Ending(claimed, outcome, now, now)])
os.kill(os.getpid(), signal.SIGKILL)
"""
SYSTEM_CALLS = ("pwrite64", "fdatasync")


def run_traced(queue: Queue, trace: Path, *options: str, planted: str | None) -> str:
    """Claim a job and run it in one thread, under strace, and die; let a worker finish it; return the trace."""
    queue.enqueue("write_effect")
    command = ["strace", "-o", str(trace), "-e", f"trace=write,{','.join(SYSTEM_CALLS)}", *options, sys.executable]
    root = Path(__file__).resolve().parents[2]
    arguments = [str(queue.path), *([planted] if planted else [])]
    subprocess.run([*command, "-c", PROGRAM, *arguments], cwd=root, capture_output=True, timeout=60, check=False)
    rescuer = queue.start()  # once the lease of one second is over
    assert queue.wait_until_all_ended().keys() == {"succeeded"}
    rescuer.kill()
    return trace.read_text()


def killed_at_each_call(queue: Queue, planted: str | None) -> list[int]:
    """Kill it at each write and sync after the claim; return the number of effects each time."""
    trace = queue.directory / "trace"
    clean = run_traced(queue, trace, planted=planted)
    effects = []
    for call in SYSTEM_CALLS:
        before = len(re.findall(rf"^{call}\(", clean.partition('"claimed"')[0], re.MULTILINE))
        in_all = len(re.findall(rf"^{call}\(", clean, re.MULTILINE))
        assert in_all > before, clean
        for number in range(before + 1, in_all + 1):
            run_traced(queue, trace, "-e", f"inject={call}:signal=SIGKILL:when={number}", planted=planted)
            effects.append(effects_of(queue, queue.sql("SELECT max(id) AS id FROM jobs")[0]["id"]))
    return effects


@pytest.mark.sqlite("the system calls of its files")
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace kills the process at each system call")
def test_killed_at_each_write_and_sync_of_the_settling_transaction_the_effect_is_there_once(queue: Queue) -> None:
    effects = killed_at_each_call(queue, planted=None)
    assert len(effects) >= 3
    assert set(effects) == {1}


@pytest.mark.sqlite("the system calls of its files")
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace kills the process at each system call")
def test_the_same_finds_an_ending_that_is_written_in_a_second_transaction(queue: Queue) -> None:
    assert 2 in killed_at_each_call(queue, planted=BUG)
