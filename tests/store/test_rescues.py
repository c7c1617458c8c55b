"""What becomes of the jobs of a worker that is gone."""

from __future__ import annotations

import threading
from collections.abc import Set
from datetime import timedelta

import pytest

from durablejobs.outcomes import Errored, Failure, Succeeded
from durablejobs.statuses import Status
from durablejobs.store import Store
from durablejobs.store.rescues import BATCH, Rescued
from durablejobs.store.workers import Vital

from ..clocks import START, ManualClock
from ..conftest import Claim, Enqueue, Register, Settle, Sql, new_job


def rescue(
    store: Store, worker: int = 1, started: Set[int] | None = frozenset(), max_crashes: int = 5, is_dead: bool = True
) -> list[tuple[int, Status, bool]]:
    """Rescue all there is, batch by batch; return each job's id, its new status, and whether it has crashed."""
    looked_at = {vital.id: vital for vital in store.workers.vitals()}
    vital = looked_at.get(worker) or Vital(worker, "worker", "host", 1, None, "")
    rescued: list[Rescued] = []
    while batch := store.upkeep.rescue_worker(vital, is_dead, started, max_crashes, "its worker died"):
        rescued += batch
    return shortly(rescued)


def shortly(rescued: list[Rescued]) -> list[tuple[int, Status, bool]]:
    return [(each.job_id, each.status, each.crashed) for each in rescued]


def test_a_job_that_was_only_claimed_goes_back_as_if_nothing_had_happened(
    store: Store, enqueue: Enqueue, claim: Claim, sql: Sql
) -> None:
    enqueue()
    claim()
    assert rescue(store, started=set()) == [(1, Status.PENDING, False)]
    assert sql("SELECT status, attempt, crashes, worker_id, lease_expires_at, error, finished_at FROM jobs") == [
        {
            "status": "pending",
            "attempt": 0,
            "crashes": 0,
            "worker_id": None,
            "lease_expires_at": None,
            "error": None,
            "finished_at": None,
        }
    ]
    assert sql("SELECT * FROM job_errors") == []


def test_a_job_that_was_running_goes_back_with_a_crash_and_its_attempts_unspent(
    store: Store, enqueue: Enqueue, claim: Claim, clock: ManualClock
) -> None:
    enqueue()
    claim()
    clock.advance(7)
    assert rescue(store, started={1}) == [(1, Status.PENDING, True)]
    job, errors = store.reads.get_with_errors(1)
    assert job is not None
    assert (job.status, job.attempt, job.crashes, job.spent_attempts) == (Status.PENDING, 1, 1, 0)
    assert job.error == "its worker died while it ran this job (crash 1)"
    (error,) = errors
    assert (error.kind, error.attempt, error.worker_id) == ("crash", 1, 1)
    assert (error.started_at, error.ended_at) == (START, START + timedelta(seconds=7))


def test_a_rescued_job_is_pending_at_once_and_its_old_claim_is_worth_nothing(
    store: Store, enqueue: Enqueue, claim: Claim, settle: Settle
) -> None:
    enqueue()
    (stale,) = claim()
    rescue(store, started={1})
    (job,) = claim(worker=2)
    assert (job.claim_token, job.crashes, job.attempt) == (2, 1, 2)
    assert settle(stale, Succeeded("1")).lost == [stale]
    assert settle(job, Succeeded("2"), worker=2).lost == []


def test_the_last_error_of_a_job_that_was_only_claimed_stays_visible(
    store: Store, enqueue: Enqueue, claim: Claim, settle: Settle
) -> None:
    enqueue()
    settle(claim()[0], Errored(Failure("exception", "boom"), 0))
    claim()
    rescue(store, started=set())
    job = store.reads.get(1)
    assert job is not None
    assert (job.status, job.error) == (Status.PENDING, "boom")


def test_only_the_dead_workers_jobs_are_rescued(store: Store, enqueue: Enqueue, claim: Claim) -> None:
    enqueue()
    enqueue()
    claim(worker=1)
    claim(worker=2)
    assert [job_id for job_id, *_ in rescue(store, worker=1)] == [1]
    job = store.reads.get(2)
    assert job is not None
    assert job.status is Status.RUNNING


# Blame


def test_a_job_that_ran_alone_is_stopped_when_it_has_crashed_too_often(
    store: Store, enqueue: Enqueue, claim: Claim
) -> None:
    enqueue(max_attempts=1)
    for crash in range(1, 4):
        claim()
        assert rescue(store, started={1}, max_crashes=4) == [(1, Status.PENDING, True)], crash
    claim()
    assert rescue(store, started={1}, max_crashes=4) == [(1, Status.FAILED, True)]
    job, errors = store.reads.get_with_errors(1)
    assert job is not None
    assert (job.status, job.crashes, job.finished_at) == (Status.FAILED, 4, START)
    assert job.error == "its worker died while it ran this job; stopped after 4 crashes"
    assert len(errors) == 4


def test_jobs_that_ran_together_are_not_stopped_because_the_blame_is_not_exact(
    store: Store, enqueue: Enqueue, claim: Claim, sql: Sql
) -> None:
    enqueue()
    enqueue()
    sql("UPDATE jobs SET attempt = 9, crashes = 9")
    claim(2)
    assert rescue(store, started={1, 2}, max_crashes=3) == [
        (1, Status.PENDING, True),
        (2, Status.PENDING, True),
    ]


def test_a_job_that_ran_alone_is_blamed_and_those_that_were_only_claimed_are_not(
    store: Store, enqueue: Enqueue, claim: Claim, sql: Sql
) -> None:
    for _ in range(3):
        enqueue()
    sql("UPDATE jobs SET attempt = 2, crashes = 2")
    claim(3)
    assert rescue(store, started={2}, max_crashes=3) == [
        (1, Status.PENDING, False),
        (2, Status.FAILED, True),
        (3, Status.PENDING, False),
    ]
    assert [row["crashes"] for row in sql("SELECT crashes FROM jobs ORDER BY id")] == [2, 3, 2]


def test_where_nobody_knows_what_ran_each_may_have_crashed_and_only_a_single_one_is_stopped(
    store: Store, enqueue: Enqueue, claim: Claim, sql: Sql
) -> None:
    enqueue()
    enqueue()
    sql("UPDATE jobs SET attempt = 2, crashes = 2")
    claim(2)
    assert {status for _, status, _ in rescue(store, started=None, max_crashes=3)} == {Status.PENDING}
    assert [row["crashes"] for row in sql("SELECT crashes FROM jobs")] == [3, 3]
    claim(1)
    assert rescue(store, started=None, max_crashes=3) == [(1, Status.FAILED, True)]


def test_a_mark_of_a_job_that_ended_in_time_does_not_matter(store: Store, enqueue: Enqueue, claim: Claim) -> None:
    enqueue()
    claim()
    assert rescue(store, started={1, 999}) == [(1, Status.PENDING, True)]


# Cancelled meanwhile


@pytest.mark.parametrize("started", [set(), {1}, None])
def test_a_job_that_was_to_be_cancelled_ends_cancelled(
    store: Store, enqueue: Enqueue, claim: Claim, clock: ManualClock, started: set[int] | None
) -> None:
    """Its worker is dead, so nobody else will ever end it."""
    enqueue()
    claim()
    store.acts.cancel(1)
    clock.advance(5)
    assert [status for _, status, _ in rescue(store, started=started, max_crashes=1)] == [Status.CANCELLED]
    job = store.reads.get(1)
    assert job is not None
    assert (job.status, job.finished_at) == (Status.CANCELLED, START + timedelta(seconds=5))


# The worker's row


def test_a_dead_worker_is_removed_after_its_last_job_and_a_hung_one_stays(
    store: Store, enqueue: Enqueue, claim: Claim, register: Register
) -> None:
    dead, hung = register("dead"), register("hung")
    for worker in (dead, hung):
        enqueue()
        claim(worker=worker)
    vital = Vital(dead, "dead", "host", 1, None, "")
    assert len(store.upkeep.rescue_worker(vital, True, set(), 5, "it died")) == 1
    assert [each.id for each in store.workers.vitals()] == [dead, hung]
    assert store.upkeep.rescue_worker(vital, True, set(), 5, "it died") == []
    assert [each.id for each in store.workers.vitals()] == [hung]
    assert len(rescue(store, worker=hung, is_dead=False)) == 1
    assert [each.id for each in store.workers.vitals()] == [hung]


def test_a_hung_worker_that_has_beaten_since_it_was_looked_at_keeps_its_jobs(
    store: Store, register: Register, enqueue: Enqueue, claim: Claim, clock: ManualClock
) -> None:
    worker = register()
    enqueue()
    claim(worker=worker)
    [before] = store.workers.vitals()
    clock.advance(1)
    store.workers.heartbeat(worker, lease=30)
    assert store.upkeep.rescue_worker(before, False, None, 5, "it was silent") == []
    [now] = store.workers.vitals()
    assert len(store.upkeep.rescue_worker(now, False, None, 5, "it was silent")) == 1


def test_a_worker_that_was_taken_for_dead_registers_again_under_its_old_id(store: Store, register: Register) -> None:
    from durablejobs.store.workers import Registration

    worker = register()
    store.workers.unregister(worker)
    again = Registration("back", "host", 1, None, "all", 1, "0", "2030-01-01", "2030-01-01")
    store.workers.register_again(worker, again)
    assert [(each.id, each.name) for each in store.workers.vitals()] == [(worker, "back")]
    assert register() == worker + 1


def test_worker_ids_are_never_used_again(store: Store, register: Register) -> None:
    first = register()
    store.workers.unregister(first)
    assert register() == first + 1


def test_the_register_tells_how_many_jobs_each_worker_has_claimed(
    store: Store, enqueue: Enqueue, claim: Claim, register: Register
) -> None:
    first, second = register("first"), register("second")
    for _ in range(3):
        enqueue()
    claim(2, worker=second)
    assert [(worker.name, worker.running) for worker in store.workers.records()] == [("first", 0), ("second", 2)]
    assert {worker.id for worker in store.workers.records()} == {first, second}


def test_orphans_are_rescued_in_batches(store: Store, clock: ManualClock, claim: Claim, register: Register) -> None:
    worker = register()
    store.new_jobs.insert_many(new_job(clock) for _ in range(2 * BATCH + 7))
    claim(3 * BATCH, worker=worker)
    vital = Vital(worker, "worker", "host", 1, None, "")
    sizes = [len(store.upkeep.rescue_worker(vital, True, set(), 5, "it died")) for _ in range(4)]
    assert sizes == [BATCH, BATCH, 7, 0]
    assert len(claim(3 * BATCH, worker=2)) == 2 * BATCH + 7


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_hundred_thousand_orphans_come_back_in_batches_while_others_claim(
    store: Store, clock: ManualClock, claim: Claim, register: Register, enqueue: Enqueue, sql: Sql
) -> None:
    dead, living = register("dead"), register("living")
    store.new_jobs.insert_many(new_job(clock, queue="old") for _ in range(100_000))
    sql(
        "UPDATE jobs SET status = 'running', worker_id = ?, attempt = 1, claim_token = 1, started_at = run_at, "
        "lease_expires_at = run_at",
        dead,
    )
    vital, sizes, claimed = Vital(dead, "dead", "host", 1, None, ""), [], 0

    def rescue_all() -> None:
        while batch := store.upkeep.rescue_worker(vital, True, set(), 5, "it died"):
            sizes.append(len(batch))

    rescuer = threading.Thread(target=rescue_all)
    rescuer.start()
    while rescuer.is_alive():
        enqueue(queue="new")
        claimed += len(claim(queues=["new"], worker=living))
    rescuer.join()
    assert (sum(sizes), max(sizes)) == (100_000, BATCH)
    assert claimed > 10
    assert sql("SELECT status, count(*) AS number FROM jobs WHERE queue = 'old' GROUP BY status") == [
        {"status": "pending", "number": 100_000}
    ]


# Strays: running, but of no worker


@pytest.mark.sqlite  # PostgreSQL takes none of it
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("started_at", "x'00ff'"),
        ("started_at", "'yesterday' || char(0) || '!'"),
        ("worker_id", "x'00ff'"),
        ("worker_id", "9e999"),
        ("worker_id", "1.5"),
        ("attempt", "1.5"),
        ("claim_token", "1.5"),
    ],
)
def test_nonsense_in_an_orphan_is_in_nobodys_way(store: Store, sql: Sql, column: str, value: str) -> None:
    sql(
        f"INSERT INTO jobs(handler, status, lease_expires_at, {column}) "
        f"VALUES ('mail', 'running', '2020-01-01 00:00:00', {value})"
    )
    assert shortly(store.upkeep.rescue_strays(5, "its worker vanished")) == [(1, Status.PENDING, True)]
    assert sql("SELECT job_id, kind FROM job_errors") == [{"job_id": 1, "kind": "crash"}]


def test_a_running_job_of_nobody_is_rescued_when_its_lease_has_expired(
    store: Store, enqueue: Enqueue, claim: Claim, clock: ManualClock
) -> None:
    enqueue()
    claim(worker=99, lease=30)
    clock.advance(30)
    assert store.upkeep.rescue_strays(5, "its worker vanished") == []
    clock.advance(0.001)
    assert shortly(store.upkeep.rescue_strays(5, "its worker vanished")) == [(1, Status.PENDING, True)]
    job = store.reads.get(1)
    assert job is not None
    assert job.error == "its worker vanished while it ran this job (crash 1)"


def test_a_running_job_of_a_registered_worker_is_no_stray(
    store: Store, enqueue: Enqueue, claim: Claim, register: Register, clock: ManualClock
) -> None:
    """A late heartbeat is judged by those who watch the worker, not by the clock on the wall."""
    enqueue()
    claim(worker=register(), lease=30)
    clock.advance(3600)
    assert store.upkeep.rescue_strays(5, "its worker vanished") == []


def test_a_running_job_without_any_worker_id_is_a_stray(
    store: Store, enqueue: Enqueue, sql: Sql, clock: ManualClock
) -> None:
    enqueue()
    sql("UPDATE jobs SET status = 'running', lease_expires_at = '2029-01-01 00:00:00'")
    assert [each.job_id for each in store.upkeep.rescue_strays(5, "its worker vanished")] == [1]
