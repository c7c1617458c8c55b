"""What a person stops: a running job, and one whose worker is dead."""

from __future__ import annotations

import pytest

from durablejobs import EnqueueOptions

from .harness import Queue

pytestmark = pytest.mark.conformance


def test_a_job_that_is_cancelled_while_it_runs_is_not_tried_again_when_it_fails(queue: Queue) -> None:
    worker = queue.start()
    job_id = queue.enqueue("pass_gate", "gate", None, True)
    queue.wait_for_call(job_id)
    queue.jobs.cancel(job_id)
    assert queue.row(job_id)["status"] == "running"
    queue.open_gate()
    queue.wait_for("cancelled", job_id)
    worker.stop()
    assert queue.row(job_id)["finished_at"] is not None
    assert len(queue.calls()) == 1


def test_a_job_that_is_cancelled_while_it_runs_has_succeeded_if_it_still_does(queue: Queue) -> None:
    queue.start()
    job_id = queue.enqueue("pass_gate", "gate", "done")
    queue.wait_for_call(job_id)
    queue.jobs.cancel(job_id)
    queue.open_gate()
    queue.wait_for("succeeded", job_id)
    assert queue.job(job_id).result == "done"


def test_a_job_that_is_cancelled_while_it_runs_does_not_come_back_from_a_snooze(queue: Queue) -> None:
    queue.start()
    gate = queue.enqueue("pass_gate", "gate")
    job_id = queue.enqueue("raise_snooze", 0, str(queue.directory / "seen"))
    queue.wait_for_call(gate)
    queue.jobs.cancel(job_id)  # not even begun
    queue.open_gate()
    queue.wait_for("succeeded", gate)
    assert queue.row(job_id)["status"] == "cancelled"
    assert queue.calls(job=job_id) == []


def test_a_running_job_that_is_cancelled_ends_cancelled_when_its_worker_dies(queue: Queue) -> None:
    worker = queue.start()
    job_id = queue.enqueue("pass_gate", "gate")
    queue.wait_for_call(job_id)
    queue.jobs.cancel(job_id)
    worker.kill()
    queue.run()
    assert queue.row(job_id)["status"] == "cancelled"
    assert len(queue.calls()) == 1


def test_a_running_job_of_a_dead_worker_can_be_cancelled(queue: Queue) -> None:
    worker = queue.start()
    job_id = queue.enqueue("pass_gate", "gate")
    queue.wait_for_call(job_id)
    worker.kill()
    queue.jobs.cancel(job_id)
    queue.run()
    row = queue.row(job_id)
    assert (row["status"], row["worker_id"]) == ("cancelled", None)
    assert len(queue.calls()) == 1


def test_a_running_job_that_is_cancelled_ends_cancelled_when_its_worker_gives_it_back(queue: Queue) -> None:
    worker = queue.start(grace=0.1)
    job_id = queue.enqueue("pass_gate", "gate")
    queue.wait_for_call(job_id)
    queue.jobs.cancel(job_id)
    assert worker.stop()["given_back"] == 1
    assert queue.row(job_id)["status"] == "cancelled"


def test_a_scheduled_job_that_is_cancelled_never_runs(queue: Queue) -> None:
    queue.start_idle()
    job_id = queue.enqueue("echo", options=EnqueueOptions(delay=0.3))
    queue.jobs.cancel(job_id)
    later = queue.enqueue("echo", options=EnqueueOptions(delay=0.4))
    queue.wait_for("succeeded", later)
    assert queue.calls(job=job_id) == []
