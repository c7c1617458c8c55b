"""What a person does to jobs: cancel, retry, delete, one or many; and what is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from durablejobs import DuplicateJobError, IllegalActError, Job, JobFilter, JobNotFoundError
from durablejobs.clock import to_text
from durablejobs.outcomes import Errored, Failure, GaveUp, Snoozed, Stopped, Succeeded
from durablejobs.statuses import FINAL, Status
from durablejobs.store import Store
from durablejobs.store.acts import BATCH

from ..clocks import START, ManualClock
from ..conftest import Claim, Enqueue, Settle, Sql, new_job

FAILURE = Failure("exception", "boom")


@pytest.fixture
def job_in(enqueue: Enqueue, claim: Claim, settle: Settle, sql: Sql) -> Any:
    """Bring a job into a status by the ways that lead there; return its id."""

    def make(status: Status | str, **columns: Any) -> int:
        job_id = enqueue(delay=60 if status == Status.SCHEDULED else 0, **columns)
        if status == Status.BLOCKED:
            sql("UPDATE jobs SET status = 'blocked' WHERE id = ?", job_id)
        elif status not in (Status.SCHEDULED, Status.PENDING):
            (job,) = claim()
            assert job.id == job_id
            match status:
                case Status.SUCCEEDED:
                    settle(job, Succeeded('"done"'))
                case Status.FAILED:
                    settle(job, GaveUp(FAILURE))
                case Status.CANCELLED:
                    settle(job, Stopped(FAILURE))
                case "retrying":
                    settle(job, Errored(FAILURE, 60))
                case "snoozed":
                    settle(job, Snoozed(60))
        return job_id

    return make


def read(store: Store, job_id: int) -> Job:
    job = store.reads.get(job_id)
    assert job is not None
    return job


# Cancel


@pytest.mark.parametrize("status", [Status.SCHEDULED, Status.PENDING, Status.BLOCKED, "retrying", "snoozed"])
def test_a_job_that_waits_is_cancelled_at_once(store: Store, job_in: Any, clock: ManualClock, status: Any) -> None:
    job_id = job_in(status)
    clock.advance(5)
    job = store.acts.cancel(job_id)
    assert (job.status, job.finished_at) == (Status.CANCELLED, START + timedelta(seconds=5))
    assert job == read(store, job_id)


def test_a_job_that_runs_is_asked_to_stop_and_the_first_request_counts(
    store: Store, job_in: Any, clock: ManualClock
) -> None:
    job_id = job_in(Status.RUNNING)
    job = store.acts.cancel(job_id)
    assert (job.status, job.cancel_requested_at, job.finished_at) == (Status.RUNNING, START, None)
    clock.advance(5)
    assert store.acts.cancel(job_id).cancel_requested_at == START


@pytest.mark.parametrize("status", sorted(FINAL))
def test_what_has_ended_cannot_be_cancelled(store: Store, job_in: Any, sql: Sql, status: Status) -> None:
    job_id = job_in(status)
    before = sql("SELECT * FROM jobs")
    with pytest.raises(IllegalActError, match=f"^cannot cancel job {job_id}: it is {status}$") as caught:
        store.acts.cancel(job_id)
    assert (caught.value.act, caught.value.job_id, caught.value.status) == ("cancel", job_id, status)
    assert sql("SELECT * FROM jobs") == before


# Retry


@pytest.mark.parametrize("status", [*sorted(FINAL), Status.SCHEDULED, "retrying", "snoozed"])
def test_what_has_ended_or_waits_for_its_time_can_be_retried_at_once(
    store: Store, job_in: Any, claim: Claim, clock: ManualClock, status: Any
) -> None:
    job_id = job_in(status)
    clock.advance(5)
    job = store.acts.retry(job_id)
    assert (job.status, job.run_at, job.finished_at, job.result) == (Status.PENDING, clock.now(), None, None)
    assert [each.id for each in claim()] == [job_id]


@pytest.mark.parametrize("status", [Status.PENDING, Status.RUNNING, Status.BLOCKED])
def test_what_is_ready_runs_or_is_blocked_cannot_be_retried(
    store: Store, job_in: Any, sql: Sql, status: Status
) -> None:
    job_id = job_in(status)
    before = sql("SELECT * FROM jobs")
    with pytest.raises(IllegalActError, match=f"cannot retry job {job_id}: it is {status}"):
        store.acts.retry(job_id)
    assert sql("SELECT * FROM jobs") == before


def test_a_retried_job_has_at_least_one_more_attempt(
    store: Store, enqueue: Enqueue, claim: Claim, settle: Settle
) -> None:
    enqueue(max_attempts=1)
    for spent in (1, 2, 3):
        (job,) = claim()
        assert not job.has_attempt_left
        settle(job, Errored(FAILURE, 0))
        assert read(store, 1).status is Status.FAILED
        retried = store.acts.retry(1)
        assert (retried.attempt, retried.max_attempts) == (spent, spent + 1)


def test_a_retried_job_keeps_the_attempts_it_had_left(
    store: Store, enqueue: Enqueue, claim: Claim, settle: Settle
) -> None:
    enqueue(max_attempts=20)
    settle(claim()[0], GaveUp(FAILURE))
    assert store.acts.retry(1).max_attempts == 20


def test_a_job_that_was_stopped_for_its_crashes_begins_again_with_none(
    store: Store, enqueue: Enqueue, claim: Claim, settle: Settle, sql: Sql
) -> None:
    enqueue(max_attempts=3)
    sql("UPDATE jobs SET attempt = 4, crashes = 4")
    settle(claim()[0], GaveUp(FAILURE))
    job = store.acts.retry(1)
    assert (job.crashes, job.attempt, job.max_attempts) == (0, 5, 6)
    assert claim()[0].crashes == 0


def test_a_retry_takes_back_a_requested_cancel(store: Store, job_in: Any, settle: Settle, claim: Claim) -> None:
    job_id = job_in(Status.PENDING)
    (job,) = claim()
    store.acts.cancel(job_id)
    settle(job, Errored(FAILURE, 0))
    assert read(store, job_id).status is Status.CANCELLED
    assert store.acts.retry(job_id).cancel_requested_at is None
    settle(claim()[0], Errored(FAILURE, 0))
    assert read(store, job_id).status is Status.SCHEDULED


def test_a_retry_is_refused_while_another_job_has_the_unique_key(
    store: Store, job_in: Any, enqueue: Enqueue, sql: Sql
) -> None:
    job_id = job_in(Status.FAILED, unique_key="k")
    other = enqueue(unique_key="k")
    before = sql("SELECT * FROM jobs")
    with pytest.raises(DuplicateJobError, match="holds the unique key 'k'"):
        store.acts.retry(job_id)
    assert sql("SELECT * FROM jobs") == before
    store.acts.cancel(other)
    assert store.acts.retry(job_id).status is Status.PENDING


def test_a_scheduled_job_with_a_unique_key_of_its_own_can_be_retried(store: Store, job_in: Any) -> None:
    assert store.acts.retry(job_in(Status.SCHEDULED, unique_key="k")).status is Status.PENDING


# Delete


@pytest.mark.parametrize("status", [*sorted(FINAL), Status.SCHEDULED, Status.PENDING, Status.BLOCKED, "retrying"])
def test_what_does_not_run_can_be_deleted_with_its_errors(store: Store, job_in: Any, sql: Sql, status: Any) -> None:
    job_id = job_in(status)
    store.acts.delete(job_id)
    assert store.reads.get(job_id) is None
    assert sql("SELECT * FROM job_errors") == []


def test_what_runs_cannot_be_deleted(store: Store, job_in: Any) -> None:
    job_id = job_in(Status.RUNNING)
    with pytest.raises(IllegalActError, match=f"cannot delete job {job_id}: it is running"):
        store.acts.delete(job_id)
    assert read(store, job_id).status is Status.RUNNING


@pytest.mark.parametrize("act", ["cancel", "retry", "delete"])
def test_what_is_not_there_is_not_found(store: Store, act: str) -> None:
    with pytest.raises(JobNotFoundError, match=r"^no job 7$"):
        getattr(store.acts, act)(7)


# Many


def act_on_all(store: Store, act: str, wanted: JobFilter) -> list[int]:
    """Act batch by batch to the end; return how many each batch changed."""
    return list(store.acts.on_batches(act, wanted))


def test_a_filter_without_anything_means_all_and_a_narrow_one_just_those(
    store: Store, enqueue: Enqueue, sql: Sql
) -> None:
    for handler in ("mail", "thumbnail"):
        for queue in ("a", "b"):
            enqueue(handler=handler, queue=queue)
    assert store.acts.count("cancel", JobFilter(handler="mail")) == 2
    assert act_on_all(store, "cancel", JobFilter(handler="mail", queue="b")) == [1]
    assert [row["id"] for row in sql("SELECT id FROM jobs WHERE status = 'cancelled'")] == [2]
    assert act_on_all(store, "cancel", JobFilter()) == [3]
    assert act_on_all(store, "cancel", JobFilter()) == []


def test_many_are_changed_in_batches_so_that_workers_go_on_between(store: Store, clock: ManualClock, sql: Sql) -> None:
    store.new_jobs.insert_many(new_job(clock) for _ in range(2 * BATCH + 3))
    assert act_on_all(store, "cancel", JobFilter()) == [BATCH, BATCH, 3]
    assert store.acts.count("retry", JobFilter(statuses=(Status.CANCELLED,))) == 2 * BATCH + 3
    assert act_on_all(store, "retry", JobFilter(statuses=(Status.CANCELLED,))) == [BATCH, BATCH, 3]
    assert act_on_all(store, "delete", JobFilter()) == [BATCH, BATCH, 3]
    assert sql("SELECT count(*) AS n FROM jobs") == [{"n": 0}]


def test_exactly_one_batch_is_one_transaction(store: Store, clock: ManualClock) -> None:
    store.new_jobs.insert_many(new_job(clock) for _ in range(BATCH))
    assert act_on_all(store, "cancel", JobFilter()) == [BATCH]


def test_what_has_become_of_a_job_since_it_was_found_counts(
    store: Store, clock: ManualClock, job_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`delete --status failed` deletes no job that somebody has retried meanwhile."""
    job_id = job_in(Status.FAILED)
    look = store.acts._matching

    def look_and_be_overtaken(act: str, wanted: JobFilter, after: int) -> list[int]:
        found = look(act, wanted, after)
        if found:
            store.acts.retry(job_id)
        return found

    monkeypatch.setattr(store.acts, "_matching", look_and_be_overtaken)
    assert act_on_all(store, "delete", JobFilter(statuses=(Status.FAILED,))) == [0]
    assert store.reads.get(job_id) is not None


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        ("cancel", {Status.SCHEDULED, Status.PENDING, Status.BLOCKED, Status.RUNNING}),
        ("retry", {Status.SCHEDULED, *FINAL}),
        ("delete", set(Status) - {Status.RUNNING}),
    ],
)
def test_an_act_on_all_concerns_just_those_whose_status_allows_it(
    store: Store, job_in: Any, act: str, expected: set[Status], sql: Sql
) -> None:
    concerned = {job_in(status): status for status in Status if status is not Status.PENDING}
    concerned[job_in(Status.PENDING)] = Status.PENDING  # last, or it would be claimed
    before = {row["id"]: row for row in sql("SELECT * FROM jobs")}
    assert store.acts.count(act, JobFilter()) == len(expected)
    assert act_on_all(store, act, JobFilter()) == [len(expected)]
    after = {row["id"]: row for row in sql("SELECT * FROM jobs")}
    assert {concerned[job_id] for job_id in before if before[job_id] != after.get(job_id)} == expected


def test_of_two_ended_jobs_with_one_unique_key_only_one_is_retried(store: Store, job_in: Any, sql: Sql) -> None:
    for _ in range(2):
        job_in(Status.FAILED, unique_key="k")
    assert act_on_all(store, "retry", JobFilter()) == [1]
    assert [row["status"] for row in sql("SELECT status FROM jobs ORDER BY id")] == ["pending", "failed"]


# Prune


def ended(store: Store, clock: ManualClock, sql: Sql, status: Status, seconds_ago: float, count: int = 1) -> None:
    moment = ManualClock(clock.now())
    moment.advance(-seconds_ago)
    store.new_jobs.insert_many(new_job(moment) for _ in range(count))
    sql("UPDATE jobs SET status = ?, finished_at = ? WHERE status = 'pending'", status, to_text(moment.now()))


def prune_all(store: Store, finished_before: Any) -> list[int]:
    sizes = []
    while pruned := store.upkeep.prune(finished_before):
        sizes.append(pruned)
    return sizes


def test_a_job_is_pruned_when_it_ended_before_its_statuss_moment(store: Store, clock: ManualClock, sql: Sql) -> None:
    for status in (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED):
        for seconds in (10, 20, 30):
            ended(store, clock, sql, status, seconds)
    moments = {
        Status.SUCCEEDED: START - timedelta(seconds=10),
        Status.FAILED: START - timedelta(seconds=25),
    }
    assert store.upkeep.count_prunable(moments) == 3
    assert prune_all(store, moments) == [3]
    left = sql("SELECT status, finished_at FROM jobs ORDER BY id")
    assert [(row["status"], row["finished_at"][17:19]) for row in left] == [
        ("succeeded", "50"),
        ("failed", "50"),
        ("failed", "40"),
        ("cancelled", "50"),
        ("cancelled", "40"),
        ("cancelled", "30"),
    ]


def test_live_jobs_are_never_pruned_however_old(store: Store, job_in: Any, clock: ManualClock) -> None:
    live = [job_in(Status.SCHEDULED), job_in(Status.RUNNING), job_in(Status.PENDING)]
    clock.advance(10**8)
    moments = dict.fromkeys(FINAL, clock.now())
    assert prune_all(store, moments) == []
    assert [read(store, job_id).id for job_id in live] == live


def test_pruning_takes_one_batch_at_a_time_and_the_errors_with_it(store: Store, clock: ManualClock, sql: Sql) -> None:
    ended(store, clock, sql, Status.FAILED, 100, count=BATCH + 10)
    ended(store, clock, sql, Status.SUCCEEDED, 100, count=BATCH - 5)
    sql(
        "INSERT INTO job_errors(job_id, attempt, ended_at, kind, message) SELECT id, 1, finished_at, 'x', 'y' FROM jobs"
    )
    moments = {Status.FAILED: clock.now(), Status.SUCCEEDED: clock.now()}
    assert prune_all(store, moments) == [BATCH, BATCH, 5]
    assert sql("SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM job_errors) AS n") == [{"n": 0}]


def test_without_any_moment_nothing_is_pruned(store: Store, clock: ManualClock, sql: Sql) -> None:
    ended(store, clock, sql, Status.SUCCEEDED, 10**9)
    assert store.upkeep.prune({}) == 0
    assert store.upkeep.count_prunable({}) == 0


@pytest.mark.sqlite("it has one writer at a time")
def test_pruning_waits_for_no_writer_when_there_is_nothing_to_do(store: Store, sql: Sql, clock: ManualClock) -> None:
    sql("BEGIN IMMEDIATE")
    assert store.upkeep.prune({Status.SUCCEEDED: clock.now()}) == 0
    sql("ROLLBACK")
