"""Jobs that kill their worker are stopped after some crashes; those that merely ran beside them are not."""

from __future__ import annotations

import signal

import pytest

from .harness import Queue

pytestmark = pytest.mark.conformance

INNOCENT = 200
MOST_STARTS = 60


def _restart_until_done(queue: Queue, **options: object) -> list[int]:
    """Start workers, one after another, until one comes to its regular end; return their exit codes."""
    codes: list[int] = []
    while not codes or codes[-1] != 0:
        assert len(codes) < MOST_STARTS
        codes.append(queue.start(burst=True, **options).wait())
    return codes


def _check(queue: Queue, poison: list[int], crashes: int = 5) -> None:
    assert queue.statuses() == {"succeeded": INNOCENT, "failed": len(poison)}
    for job_id in poison:
        row, errors = queue.row(job_id), queue.errors(job_id)
        assert (row["status"], row["crashes"]) == ("failed", crashes)
        assert row["error"] == f"its worker died while it ran this job; stopped after {crashes} crashes"
        assert [error["kind"] for error in errors] == ["crash"] * crashes
    worst = queue.sql("SELECT max(crashes) AS worst FROM jobs WHERE status = 'succeeded'")[0]["worst"]
    assert worst < crashes
    assert queue.registered() == []


def _enqueue(queue: Queue, how: str, poisonous: int) -> list[int]:
    """Enqueue poisonous jobs in the midst of innocent ones."""
    queue.enqueue_many("sleep", INNOCENT // 2, 0.003)
    poison = [queue.enqueue("die", how, 99) for _ in range(poisonous)]
    queue.enqueue_many("sleep", INNOCENT // 2, 0.003)
    return poison


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize(
    ("how", "code"),
    [("exit", 3), ("kill", -signal.SIGKILL), ("segfault", -signal.SIGSEGV), ("overflow", -signal.SIGSEGV)],
)
def test_a_poisonous_job_is_stopped_and_all_others_succeed(queue: Queue, how: str, code: int, concurrency: int) -> None:
    poison = _enqueue(queue, how, 1)
    codes = _restart_until_done(queue, concurrency=concurrency)
    assert codes == [code] * 5 + [0]
    _check(queue, poison)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_two_poisonous_jobs_are_stopped_and_all_others_succeed(queue: Queue, concurrency: int) -> None:
    poison = _enqueue(queue, "kill", 2)
    codes = _restart_until_done(queue, concurrency=concurrency)
    assert len(codes) <= 11
    _check(queue, poison)


def test_a_poisonous_job_that_came_last_is_stopped_too(queue: Queue) -> None:
    queue.enqueue_many("sleep", INNOCENT, 0.003)
    poison = queue.enqueue("die", "kill", 99)
    _restart_until_done(queue, concurrency=4)
    _check(queue, [poison])


@pytest.mark.parametrize("most", [1, 2])
def test_max_crashes_says_when_a_job_is_stopped(queue: Queue, most: int) -> None:
    poison = _enqueue(queue, "kill", 1)
    _restart_until_done(queue, concurrency=1, max_crashes=most)
    _check(queue, poison, crashes=most)


def test_living_workers_are_not_dragged_down_together(queue: Queue) -> None:
    poison = _enqueue(queue, "kill", 1)
    workers = [queue.start(concurrency=2) for _ in range(8)]
    assert queue.wait_until_all_ended() == {"succeeded": INNOCENT, "failed": 1}
    assert sum(worker.is_alive for worker in workers) == 3
    assert queue.row(poison[0])["crashes"] == 5


def test_a_job_that_has_nearly_crashed_too_often_runs_alone(queue: Queue) -> None:
    job_id = queue.enqueue("die", "exit", 4)
    queue.enqueue_many("sleep", INNOCENT, 0.003)
    _restart_until_done(queue, concurrency=4)
    assert queue.statuses() == {"succeeded": INNOCENT + 1}
    assert queue.row(job_id)["crashes"] == 4
    last = [call for call in queue.calls() if call.job == job_id][-1]
    end = next(call for call in queue.calls("ended") if call.job == job_id)
    beside = [call for call in queue.calls() if last.moment < call.moment < end.moment]
    assert beside == []


def test_an_operator_can_give_a_stopped_job_another_chance(queue: Queue) -> None:
    job_id = queue.enqueue("die", "kill", 99)
    _restart_until_done(queue)
    assert queue.row(job_id)["status"] == "failed"
    queue.sql("UPDATE jobs SET args = '[\"kill\", 0]' WHERE id = ?", job_id)  # the cause is removed
    queue.jobs.retry(job_id)
    assert queue.run()["succeeded"] == 1
    assert queue.job(job_id).result == "survived"
