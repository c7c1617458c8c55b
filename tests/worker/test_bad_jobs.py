"""Whatever a job or its row does, it is recorded, and the worker goes on with the others."""

from __future__ import annotations

import json

import pytest

from .harness import Queue

pytestmark = pytest.mark.conformance


def _run_among_others(queue: Queue, handler: str, *args: object) -> int:
    """Run one job between ten innocent ones, with one attempt; return its id."""
    before = queue.enqueue_many("echo", 5)
    job_id = queue.jobs.using(max_attempts=1).enqueue(handler, *args).id
    after = queue.enqueue_many("echo", 5)
    queue.run(concurrency=2)
    assert {queue.row(each)["status"] for each in (*before, *after)} == {"succeeded"}
    assert queue.sql("SELECT count(*) AS jobs FROM jobs WHERE status = 'running'") == [{"jobs": 0}]
    return job_id


def test_an_unknown_handler_fails_with_the_names_that_are_known(queue: Queue) -> None:
    job_id = _run_among_others(queue, "ecco")
    job, [error] = queue.job(job_id), queue.errors(job_id)
    assert job.status == "failed"
    assert error["kind"] == "unknown_handler"
    assert error["message"] == "no handler 'ecco'; did you mean 'echo'?"


def test_an_unknown_handler_is_tried_again_later(queue: Queue) -> None:
    job_id = queue.enqueue("ecco")
    queue.run(backoff=600)
    row = queue.row(job_id)
    assert (row["status"], row["attempt"]) == ("scheduled", 1)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("system_exit", "SystemExit: 3"),
        ("keyboard_interrupt", "KeyboardInterrupt"),
        ("generator_exit", "GeneratorExit"),
        ("unspeakable", "Unspeakable: (its __str__ raised)"),
        ("surrogate", "ValueError: \\udc80 and \\x00"),
    ],
)
def test_whatever_a_handler_raises_is_recorded(queue: Queue, how: str, message: str) -> None:
    job_id = _run_among_others(queue, "misbehave", how)
    row, [error] = queue.row(job_id), queue.errors(job_id)
    assert (row["status"], row["error"]) == ("failed", message)
    assert (error["kind"], error["message"]) == ("exception", message)
    assert "in misbehave" in error["traceback"]


@pytest.mark.parametrize("how", ["half_retry", "unspeakable_fail"])
def test_a_broken_signal_is_a_failure(queue: Queue, how: str) -> None:
    job_id = _run_among_others(queue, "misbehave", how)
    assert queue.row(job_id)["status"] == "failed"
    assert len(queue.errors(job_id)) == 1


@pytest.mark.parametrize(
    "how", ["object", "huge_integer", "nan", "surrogate_result", "nul_result", "large", "deceitful"]
)
def test_a_result_that_cannot_be_stored_is_replaced_and_the_job_has_succeeded(queue: Queue, how: str) -> None:
    job_id = _run_among_others(queue, "misbehave", how)
    job = queue.job(job_id)
    assert job.status == "succeeded"
    assert job.result["durablejobs"] == "the result could not be stored"
    assert queue.calls_by_job()[job_id] == 1


@pytest.mark.sqlite("its checks can be switched off")
@pytest.mark.parametrize(
    "columns",
    [
        {"args": "[1"},
        {"args": ""},
        {"args": "7"},
        {"kwargs": "{'a': 1}"},
        {"kwargs": "[[1, 2, 3]]"},
        {"kwargs": "null"},
        {"args": "[" * 100_000 + "]" * 100_000},
    ],
    ids=lambda columns: json.dumps(columns)[:30],
)
def test_a_row_that_cannot_be_decoded_fails_alone(queue: Queue, columns: dict[str, str]) -> None:
    before = queue.enqueue_many("echo", 5)
    broken = queue.insert_unchecked("echo", **columns)
    after = queue.enqueue_many("echo", 5)
    queue.run()
    assert {queue.row(each)["status"] for each in (*before, *after)} == {"succeeded"}
    row, [error] = queue.row(broken), queue.errors(broken)
    assert (row["status"], row["attempt"]) == ("failed", 1)
    assert error["kind"] == "bad_arguments"
    queue.sql("DELETE FROM jobs WHERE id = ?", broken)  # the file is to be sound at the end


@pytest.mark.parametrize("args", [(), (1, 2, 3)])
def test_arguments_that_do_not_fit_fail_at_once(queue: Queue, args: tuple[int, ...]) -> None:
    job_id = queue.enqueue("fail_until", *args)
    queue.run()
    row, [error] = queue.row(job_id), queue.errors(job_id)
    assert (row["status"], row["attempt"], error["kind"]) == ("failed", 1, "bad_arguments")


@pytest.mark.sqlite("its checks can be switched off")
@pytest.mark.parametrize("run_at", ["2999-02-30 12:00:00", "2999-01-31 24:00", "2999-01-31   12:00", "soon"])
def test_a_moment_that_python_cannot_read_does_not_end_the_worker(queue: Queue, run_at: str) -> None:
    odd = queue.insert_unchecked("echo", status="scheduled", run_at=run_at)
    other = queue.enqueue("echo")
    queue.run()
    assert queue.row(other)["status"] == "succeeded"
    queue.sql("DELETE FROM jobs WHERE id = ?", odd)
