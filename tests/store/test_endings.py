"""How an attempt ends in the rows, and that only the owner of a claim can end it."""

from __future__ import annotations

from dataclasses import astuple
from datetime import timedelta
from typing import Any

import pytest

from durablejobs import Job, JobError
from durablejobs.clock import to_text
from durablejobs.jobs import ClaimedJob
from durablejobs.outcomes import Errored, Failure, GaveUp, Outcome, Snoozed, Stopped, Succeeded
from durablejobs.statuses import Status
from durablejobs.store import Store
from durablejobs.store.doors.claims import ClaimRequest
from durablejobs.store.endings import ERROR_SHOWN, Ending

from ..clocks import START, ManualClock
from ..conftest import Claim, Enqueue, Settle, Sql, new_job

FAILURE = Failure("exception", "ValueError: boom", "Traceback …")


@pytest.fixture
def run(enqueue: Enqueue, claim: Claim, store: Store, clock: ManualClock) -> Any:
    """Enqueue a job, claim it, let it run for two seconds to this outcome; return it as it is then, with its errors."""

    def to(outcome: Outcome, **columns: Any) -> tuple[Job, list[JobError]]:
        job_id = enqueue(**columns)
        (job,) = claim()
        started, ended = to_text(clock.now()), to_text(clock.advance(2))
        assert store.claims.settle(1, [Ending(job, outcome, started, ended)]).lost == []
        found, errors = store.reads.get_with_errors(job_id)
        assert found is not None
        return found, errors

    return to


# Each outcome


def test_a_success_keeps_its_result_and_its_times(run: Any) -> None:
    job, errors = run(Succeeded('{"n": 1}'))
    assert (job.status, job.result, job.error, job.attempt) == (Status.SUCCEEDED, {"n": 1}, None, 1)
    assert (job.started_at, job.finished_at) == (START, START + timedelta(seconds=2))
    assert (job.worker_id, job.lease_expires_at) == (None, None)
    assert errors == []


def test_an_error_schedules_the_next_attempt_and_is_kept(run: Any) -> None:
    job, errors = run(Errored(FAILURE, 30))
    assert (job.status, job.error, job.attempt) == (Status.SCHEDULED, "ValueError: boom", 1)
    assert (job.run_at, job.finished_at, job.worker_id) == (START + timedelta(seconds=32), None, None)
    assert astuple(errors[0]) == (
        1,
        1,
        1,
        START,
        START + timedelta(seconds=2),
        "exception",
        "ValueError: boom",
        "Traceback …",
    )


def test_an_error_in_the_last_attempt_fails_the_job(run: Any) -> None:
    job, errors = run(Errored(FAILURE, 30), max_attempts=1)
    assert (job.status, job.error, job.finished_at) == (
        Status.FAILED,
        "ValueError: boom",
        START + timedelta(seconds=2),
    )
    assert job.run_at == START
    assert len(errors) == 1


def test_giving_up_fails_the_job_whatever_attempts_are_left(run: Any) -> None:
    job, errors = run(GaveUp(Failure("fail", "no such user")), max_attempts=20)
    assert (job.status, job.error) == (Status.FAILED, "no such user")
    assert [error.kind for error in errors] == ["fail"]


def test_a_snooze_comes_back_later_and_keeps_its_attempt(run: Any) -> None:
    job, errors = run(Snoozed(60), max_attempts=1)
    assert (job.status, job.attempt, job.run_at) == (Status.SCHEDULED, 0, START + timedelta(seconds=62))
    assert errors == []


def test_a_handler_that_cancels_ends_its_job_as_cancelled_without_an_error_row(run: Any) -> None:
    job, errors = run(Stopped(Failure("cancel", "not needed")))
    assert (job.status, job.error, job.finished_at) == (Status.CANCELLED, "not needed", START + timedelta(seconds=2))
    assert errors == []


def test_all_attempts_are_kept_and_the_job_shows_the_last(
    enqueue: Enqueue, claim: Claim, settle: Settle, store: Store
) -> None:
    enqueue(max_attempts=3)
    for number in range(1, 4):
        (job,) = claim()
        assert job.attempt == number
        settle(job, Errored(Failure("exception", f"boom {number}"), 0))
    found, errors = store.reads.get_with_errors(1)
    assert found is not None
    assert (found.status, found.error) == (Status.FAILED, "boom 3")
    assert [(error.attempt, error.message) for error in errors] == [(1, "boom 1"), (2, "boom 2"), (3, "boom 3")]


def test_the_last_error_stays_visible_after_a_snooze_and_after_a_success(
    enqueue: Enqueue, claim: Claim, settle: Settle, store: Store, clock: ManualClock
) -> None:
    enqueue()
    for outcome in (Errored(FAILURE, 0), Snoozed(0), Succeeded(None)):
        settle(claim()[0], outcome)
        job = store.reads.get(1)
        assert job is not None
        assert job.error == "ValueError: boom", outcome


def test_a_long_error_is_shown_short_and_kept_whole(run: Any) -> None:
    job, errors = run(Errored(Failure("exception", "x" * 5000), 1))
    assert job.error == "x" * ERROR_SHOWN
    assert errors[0].message == "x" * 5000


def test_crashes_are_not_counted_as_attempts(
    enqueue: Enqueue, claim: Claim, settle: Settle, sql: Sql, store: Store
) -> None:
    enqueue(max_attempts=2)
    sql("UPDATE jobs SET attempt = 3, crashes = 3")
    settle(claim()[0], Errored(FAILURE, 0))
    job = store.reads.get(1)
    assert job is not None
    assert (job.status, job.attempt, job.spent_attempts) == (Status.SCHEDULED, 4, 1)
    settle(claim()[0], Errored(FAILURE, 0))
    job = store.reads.get(1)
    assert job is not None
    assert (job.status, job.spent_attempts) == (Status.FAILED, 2)


# The claim token


OUTCOMES: list[Outcome] = [
    Succeeded("1"),
    Errored(FAILURE, 0),
    Errored(FAILURE, 60),
    GaveUp(FAILURE),
    Snoozed(5),
    Stopped(FAILURE),
]


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("now", ["pending", "running again", "succeeded", "failed", "cancelled", "deleted"])
def test_who_has_lost_his_claim_changes_nothing_and_is_told(
    enqueue: Enqueue, claim: Claim, settle: Settle, store: Store, sql: Sql, outcome: Outcome, now: str
) -> None:
    """Whatever has become of the job since: the row and its errors stay as they are."""
    enqueue()
    (stale,) = claim(worker=1)
    store.claims.release([stale])
    if now != "pending":
        (taken_over,) = claim(worker=2)
        if now == "succeeded":
            settle(taken_over, Succeeded('"two"'), worker=2)
        elif now == "failed":
            settle(taken_over, GaveUp(Failure("fail", "two")), worker=2)
        elif now in ("cancelled", "deleted"):
            settle(taken_over, Stopped(Failure("cancel", "two")), worker=2)
    if now == "deleted":
        store.acts.delete(1)
    before = sql("SELECT * FROM jobs"), sql("SELECT * FROM job_errors")
    settlement = settle(stale, outcome, worker=1)
    assert settlement.lost == [stale]
    assert settlement.statuses == {}
    assert (sql("SELECT * FROM jobs"), sql("SELECT * FROM job_errors")) == before


def test_a_success_that_is_settled_twice_is_not_lost(enqueue: Enqueue, claim: Claim, settle: Settle, sql: Sql) -> None:
    """The first commit reported an error and had arrived after all."""
    enqueue()
    (job,) = claim()
    settle(job, Succeeded('"first"'))
    before = sql("SELECT * FROM jobs")
    assert settle(job, Succeeded('"first"')).lost == []
    assert sql("SELECT * FROM jobs") == before


def test_the_statuses_of_what_did_not_succeed_are_returned(
    store: Store, enqueue: Enqueue, claim: Claim, clock: ManualClock
) -> None:
    for number in range(7):
        enqueue(max_attempts=1 if number == 6 else 20)
    claimed = claim(7)
    now = to_text(clock.now())
    outcomes = [*OUTCOMES, Errored(FAILURE, 0)]
    settlement = store.claims.settle(
        1, [Ending(job, outcome, now, now) for job, outcome in zip(claimed, outcomes, strict=True)]
    )
    assert settlement.lost == []
    assert settlement.statuses == {
        2: Status.SCHEDULED,
        3: Status.SCHEDULED,
        4: Status.FAILED,
        5: Status.SCHEDULED,
        6: Status.CANCELLED,
        7: Status.FAILED,
    }


@pytest.mark.parametrize("count", [0, 1, 2, 5, 17, 63, 64, 65, 255, 257, 341, 600])
def test_any_number_of_successes_is_settled_each_with_its_own_result(
    store: Store, clock: ManualClock, claim: Claim, sql: Sql, count: int
) -> None:
    store.new_jobs.insert_many(new_job(clock) for _ in range(count))
    claimed = claim(count)
    now = to_text(clock.now())
    assert store.claims.settle(1, [Ending(job, Succeeded(str(job.id)), now, now) for job in claimed]).lost == []
    assert [row["result"] for row in sql("SELECT result FROM jobs WHERE status = 'succeeded' ORDER BY id")] == [
        str(number) for number in range(1, count + 1)
    ]


def test_among_hundreds_exactly_the_lost_ones_are_named(
    store: Store, clock: ManualClock, claim: Claim, sql: Sql
) -> None:
    store.new_jobs.insert_many(new_job(clock) for _ in range(400))
    claimed = claim(400)
    lost = [job for job in claimed if job.id % 37 == 0]
    store.claims.release(lost)
    now = to_text(clock.now())
    settlement = store.claims.settle(1, [Ending(job, Succeeded(None), now, now) for job in claimed])
    assert sorted(job.id for job in settlement.lost) == [job.id for job in lost]
    assert sql("SELECT count(*) AS n FROM jobs WHERE status = 'succeeded'") == [{"n": 400 - len(lost)}]


def test_one_turn_settles_promotes_and_claims_together(
    store: Store, enqueue: Enqueue, claim: Claim, clock: ManualClock
) -> None:
    enqueue()
    enqueue(delay=1)
    (job,) = claim()
    clock.advance(1)
    now = to_text(clock.now())
    turn = store.claims.turn([Ending(job, Errored(FAILURE, 0), now, now)], ClaimRequest(1, (), 5, 30))
    assert turn.settlement.statuses == {1: Status.SCHEDULED}
    assert [each.id for each in turn.claimed] == [1, 2]


# Cancelling what runs


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Errored(FAILURE, 60), Status.CANCELLED),
        (Snoozed(60), Status.CANCELLED),
        (Stopped(FAILURE), Status.CANCELLED),
        (Succeeded("1"), Status.SUCCEEDED),
        (GaveUp(FAILURE), Status.FAILED),
    ],
)
def test_a_requested_cancel_wins_over_coming_back_and_not_over_an_ending(
    enqueue: Enqueue, claim: Claim, settle: Settle, store: Store, clock: ManualClock, outcome: Outcome, status: Status
) -> None:
    enqueue()
    (job,) = claim()
    store.acts.cancel(1)
    clock.advance(3)
    settlement = settle(job, outcome)
    found = store.reads.get(1)
    assert found is not None
    assert (found.status, found.finished_at) == (status, START + timedelta(seconds=3))
    assert settlement.statuses == ({} if status is Status.SUCCEEDED else {1: status})


def test_what_a_cancelled_attempt_went_wrong_with_is_kept(
    enqueue: Enqueue, claim: Claim, settle: Settle, store: Store
) -> None:
    enqueue()
    (job,) = claim()
    store.acts.cancel(1)
    settle(job, Errored(FAILURE, 60))
    _, errors = store.reads.get_with_errors(1)
    assert [error.message for error in errors] == ["ValueError: boom"]


def test_a_claimed_job_knows_whether_another_attempt_is_left() -> None:
    def job(attempt: int, crashes: int, max_attempts: int) -> ClaimedJob:
        return ClaimedJob(1, 1, "h", "q", "[]", "{}", 0, "", attempt, max_attempts, crashes, None, "{}")

    assert job(1, 0, 2).has_attempt_left
    assert not job(2, 0, 2).has_attempt_left
    assert job(3, 2, 2).has_attempt_left
    assert not job(1, 0, 1).has_attempt_left
