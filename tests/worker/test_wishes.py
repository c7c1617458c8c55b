"""What a person asks of a single worker, with real workers and the real command."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from .harness import Queue, wait_until

pytestmark = pytest.mark.conformance


def workers(queue: Queue, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "durablejobs", "workers", *arguments, "--db", queue.database]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_what_each_worker_runs_is_listed(queue: Queue) -> None:
    queue.start(name="one", concurrency=2)
    job = queue.enqueue("pass_gate", "gate")
    queue.wait_for_call(job)
    (line,) = workers(queue, "--json").stdout.splitlines()
    record = json.loads(line)
    assert [each["id"] for each in record["jobs"]] == [job]
    assert record["jobs"][0]["handler"] == "pass_gate"
    assert "runs " in workers(queue).stdout
    queue.open_gate()


def test_a_quiet_worker_begins_nothing_more_until_it_is_to_resume(queue: Queue) -> None:
    worker = queue.start(name="one", concurrency=2)
    running = queue.enqueue("pass_gate", "gate")
    queue.wait_for_call(running)
    asked = workers(queue, "quiet", "one")
    assert asked.returncode == 0, asked.stderr
    assert "quiet" in workers(queue).stdout
    wait_until(lambda: "begin nothing more" in worker.log, "the worker has heard it")
    waiting = queue.enqueue("echo", 1)
    queue.open_gate()
    queue.wait_for("succeeded", running)
    assert queue.job(waiting).status == "pending"
    assert worker.is_alive
    assert workers(queue, "resume", str(queue.registered()[0]["id"])).returncode == 0
    queue.wait_for("succeeded", waiting)
    worker.stop()


def test_a_quiet_worker_leaves_the_jobs_to_the_others(queue: Queue) -> None:
    quiet = queue.start_idle(name="one")
    assert workers(queue, "quiet", "one").returncode == 0
    wait_until(lambda: "begin nothing more" in quiet.log, "the worker has heard it")
    other = queue.start(name="two")
    jobs = [queue.enqueue("echo", number) for number in range(5)]
    queue.wait_for("succeeded", *jobs)
    assert {call.pid for call in queue.calls() if call.job in jobs} == {other.pid}


def test_a_worker_that_is_to_stop_ends_when_its_jobs_have(queue: Queue) -> None:
    worker = queue.start(name="one")
    other = queue.start(name="two")
    job = queue.enqueue("pass_gate", "gate")
    pid = queue.wait_for_call(job).pid
    first, second = (worker, other) if pid == worker.pid else (other, worker)
    name = "one" if first is worker else "two"
    assert workers(queue, "stop", name).returncode == 0
    wait_until(lambda: "asked this worker to stop" in first.log, "the worker has heard it")
    queue.open_gate()
    assert first.wait() == 0
    assert queue.job(job).status == "succeeded"
    assert second.is_alive


def test_a_worker_that_is_not_there_is_a_mistake(queue: Queue) -> None:
    queue.jobs.open()
    answer = workers(queue, "stop", "nobody")
    assert answer.returncode == 3
    assert "nobody" in answer.stderr
    assert workers(queue, "stop").returncode == 2


def test_a_quiet_worker_that_has_to_register_again_stays_quiet(queue: Queue) -> None:
    worker = queue.start(name="one", heartbeat=0.1)
    wait_until(queue.registered, "the worker is registered", within=60)
    assert queue.jobs.quiet_worker("one") == 1
    wait_until(lambda: "begin nothing more" in worker.log, "the worker has heard it", within=60)
    queue.sql("DELETE FROM job_workers")
    wait_until(queue.registered, "the worker is registered again", within=60)
    assert [each.asked_to for each in queue.jobs.workers()] == ["quiet"]
    waiting = queue.enqueue("echo", 1)
    assert "go on" not in worker.log
    assert queue.jobs.resume_worker("one") == 1
    queue.wait_for("succeeded", waiting, within=60)
    assert queue.jobs.stop_worker(queue.registered()[0]["id"]) == 1
    assert worker.wait(60) == 0
