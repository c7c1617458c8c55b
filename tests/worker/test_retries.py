"""How often a job runs, and how its handler chooses its ending."""

from __future__ import annotations

import itertools

import pytest

from .harness import Queue

pytestmark = pytest.mark.conformance


def test_a_job_that_fails_twice_succeeds_at_its_third_attempt(queue: Queue) -> None:
    job_id = queue.enqueue("fail_until", 3)
    worker = queue.start(backoff=0.05)
    queue.wait_for("succeeded", job_id)
    worker.stop()
    job, errors = queue.job(job_id), queue.errors(job_id)
    assert (job.attempt, job.result) == (3, "at last")
    assert [(error["attempt"], error["kind"]) for error in errors] == [(1, "exception"), (2, "exception")]


def test_each_attempt_waits_for_its_backoff(queue: Queue) -> None:
    job_id = queue.enqueue("fail_until", 4)
    queue.start(backoff=0.1)  # doubled each time
    queue.wait_for("succeeded", job_id)
    moments = [call.moment for call in queue.calls()]
    waits = [later - sooner for sooner, later in itertools.pairwise(moments)]
    for wait, backoff in zip(waits, (0.1, 0.2, 0.4), strict=True):
        assert backoff <= wait < backoff + 0.6


def test_a_job_whose_attempts_are_spent_has_failed_with_each_of_them_recorded(queue: Queue) -> None:
    job_id = queue.jobs.using(max_attempts=3).enqueue("fail_until", 99).id
    worker = queue.start(backoff=0.02)
    queue.wait_for("failed", job_id)
    worker.stop()
    row, errors = queue.row(job_id), queue.errors(job_id)
    assert (row["attempt"], row["crashes"], row["error"]) == (3, 0, "ValueError: attempt 3 is not 99")
    assert row["finished_at"] is not None
    assert row["worker_id"] is None
    assert [error["attempt"] for error in errors] == [1, 2, 3]
    for error in errors:
        assert "Traceback (most recent call last)" in error["traceback"]
        assert "in fail_until" in error["traceback"]
        assert error["started_at"] <= error["ended_at"]


def test_retry_chooses_the_delay_and_spends_the_attempt(queue: Queue) -> None:
    job_id = queue.enqueue("raise_retry", 0.2, 1)
    queue.start(backoff=600)
    queue.wait_for("succeeded", job_id)
    first, second = queue.calls()
    assert second.moment - first.moment >= 0.2
    assert queue.row(job_id)["attempt"] == 2
    assert [(error["kind"], error["message"]) for error in queue.errors(job_id)] == [("retry", "not yet")]


def test_retry_on_the_last_attempt_is_a_failure(queue: Queue) -> None:
    job_id = queue.jobs.using(max_attempts=2).enqueue("raise_retry", 0.02, 99).id
    queue.start()
    queue.wait_for("failed", job_id)
    assert len(queue.calls()) == 2


def test_snooze_runs_again_later_and_spends_nothing(queue: Queue) -> None:
    job_id = queue.jobs.using(max_attempts=1).enqueue("raise_snooze", 0.2, str(queue.directory / "seen")).id
    queue.start()
    queue.wait_for("succeeded", job_id)
    first, second = queue.calls()
    assert second.moment - first.moment >= 0.2
    assert (first.attempt, second.attempt) == (1, 1)
    assert queue.row(job_id)["attempt"] == 1
    assert queue.errors(job_id) == []


def test_fail_gives_up_whatever_attempts_are_left(queue: Queue) -> None:
    job_id = queue.enqueue("raise_fail")
    queue.run()
    row, [error] = queue.row(job_id), queue.errors(job_id)
    assert (row["status"], row["attempt"], row["error"]) == ("failed", 1, "no use in trying again")
    assert error["kind"] == "fail"


def test_cancel_ends_the_job_as_cancelled(queue: Queue) -> None:
    job_id = queue.enqueue("raise_cancel")
    queue.run()
    row = queue.row(job_id)
    assert (row["status"], row["error"]) == ("cancelled", "not wanted any more")
    assert queue.errors(job_id) == []
