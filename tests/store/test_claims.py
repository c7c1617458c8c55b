"""Which job a worker gets next, and that nobody else gets it."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import closing
from datetime import timedelta
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from durablejobs.clock import to_text
from durablejobs.jobs import ClaimedJob
from durablejobs.outcomes import Crashed, Errored, Failure, GaveUp, Snoozed, Succeeded
from durablejobs.queues import parse_queues
from durablejobs.running_limits import RunningLimit
from durablejobs.statuses import Status
from durablejobs.store import Store, freezing
from durablejobs.store.claims import MOST_PROMOTED
from durablejobs.store.doors.claims import ClaimRequest

from ..clocks import START, ManualClock
from ..conftest import Claim, Enqueue, Register, Settle, Sql, new_job

FAILURE = Failure("exception", "boom")


def ids(claimed: list[ClaimedJob]) -> list[int]:
    return [job.id for job in claimed]


# What a claim is


def test_a_claim_makes_the_job_running_under_a_new_token_and_a_lease(
    enqueue: Enqueue, claim: Claim, sql: Sql, clock: ManualClock
) -> None:
    enqueue(args="[1]", kwargs='{"a": 2}', meta='{"m": 3}', priority=4, max_attempts=5)
    clock.advance(10)
    (job,) = claim(worker=7, lease=30)
    assert job == ClaimedJob(
        id=1,
        claim_token=1,
        handler="mail",
        queue="default",
        args="[1]",
        kwargs='{"a": 2}',
        priority=4,
        run_at=to_text(START),
        attempt=1,
        max_attempts=5,
        crashes=0,
        timeout=None,
        meta='{"m": 3}',
    )
    assert sql("SELECT status, claim_token, worker_id, attempt, started_at, lease_expires_at FROM jobs") == [
        {
            "status": "running",
            "claim_token": 1,
            "worker_id": 7,
            "attempt": 1,
            "started_at": to_text(clock.now()),
            "lease_expires_at": to_text(clock.now() + timedelta(seconds=30)),
        }
    ]


def test_no_job_no_claim(claim: Claim) -> None:
    assert claim(5) == []
    assert claim(5, ["mail"]) == []


def test_a_claimed_job_is_not_claimed_again(enqueue: Enqueue, claim: Claim) -> None:
    enqueue()
    assert len(claim(5, worker=1)) == 1
    assert claim(5, worker=2) == []


def test_the_token_grows_with_every_claim(enqueue: Enqueue, claim: Claim, settle: Settle) -> None:
    enqueue()
    tokens = []
    for _ in range(4):
        (job,) = claim()
        tokens.append(job.claim_token)
        settle(job, Errored(FAILURE, 0))
    assert tokens == [1, 2, 3, 4]


def test_asking_for_nothing_claims_nothing_but_promotes(
    enqueue: Enqueue, claim: Claim, clock: ManualClock, sql: Sql
) -> None:
    enqueue(delay=5)
    clock.advance(5)
    assert claim(0) == []
    assert claim(0, ["default"]) == []
    assert sql("SELECT status FROM jobs") == [{"status": "pending"}]


# Order


def test_higher_priority_first_then_lower_id(enqueue: Enqueue, claim: Claim) -> None:
    for priority in (0, 5, -3, 5, 0):
        enqueue(priority=priority)
    assert ids(claim(10)) == [2, 4, 1, 5, 3]


def test_all_queues_together_are_merged_by_priority_then_id(enqueue: Enqueue, claim: Claim) -> None:
    for queue, priority in (("a", 0), ("b", 1), ("c", 0), ("a", 2), ("b", 0), ("c", 1)):
        enqueue(queue=queue, priority=priority)
    assert ids(claim(4)) == [4, 2, 6, 1]
    assert ids(claim(4)) == [3, 5]


def test_strict_queues_come_one_after_the_other_whatever_their_priorities(enqueue: Enqueue, claim: Claim) -> None:
    for queue, priority in (("bulk", 9), ("mail", 0), ("bulk", 0), ("mail", -5), ("other", 9)):
        enqueue(queue=queue, priority=priority)
    assert ids(claim(3, ["mail", "bulk"])) == [2, 4, 1]
    assert ids(claim(3, ["mail", "bulk"])) == [3]
    assert claim(3, ["mail", "bulk"]) == []


def test_a_queue_that_was_not_asked_for_is_left_alone(enqueue: Enqueue, claim: Claim) -> None:
    enqueue(queue="a")
    assert claim(5, ["b"]) == []
    assert ids(claim(5, ["b", "a"])) == [1]


def test_weighted_queues_get_their_shares(enqueue: Enqueue, claim: Claim) -> None:
    for queue in ("mail", "bulk"):
        for _ in range(20):
            enqueue(queue=queue)
    taken = [claim(1, order)[0].queue for order in islice(parse_queues("mail=3,bulk=1").orders(), 16)]
    assert Counter(taken) == {"mail": 12, "bulk": 4}


def test_a_weighted_queue_without_jobs_gives_its_turns_to_the_others(enqueue: Enqueue, claim: Claim) -> None:
    for _ in range(8):
        enqueue(queue="bulk")
    taken = [claim(1, order)[0].queue for order in islice(parse_queues("mail=3,bulk=1").orders(), 8)]
    assert taken == ["bulk"] * 8


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.integers(-2, 2)), max_size=20),
    st.lists(st.integers(1, 7), min_size=1, max_size=6),
    st.one_of(st.none(), st.permutations("abcde").flatmap(lambda names: st.integers(1, 5).map(lambda n: names[:n]))),
)
def test_claims_come_in_the_order_of_a_plain_sort(
    store: Store,
    clock: ManualClock,
    sql: Sql,
    given_jobs: list[tuple[str, int]],
    sizes: list[int],
    queues: list[str] | None,
) -> None:
    """Of many queues and priorities, in batches of any size, against Python's own sort."""
    sql("DELETE FROM jobs")
    waiting = [
        (store.new_jobs.insert(new_job(clock, queue=queue, priority=priority))[0], queue, priority)
        for queue, priority in given_jobs
    ]
    if queues is None:
        expected = [job_id for job_id, _, _ in sorted(waiting, key=lambda job: (-job[2], job[0]))]
    else:
        served = [job for job in waiting if job[1] in queues]
        expected = [job_id for job_id, _, _ in sorted(served, key=lambda job: (queues.index(job[1]), -job[2], job[0]))]
    for size in sizes:
        claimed = store.claims.turn([], ClaimRequest(1, tuple(queues or ()), size, 30)).claimed
        assert ids(claimed) == expected[:size]
        expected = expected[size:]


def test_hundred_queues_are_served_together(enqueue: Enqueue, claim: Claim) -> None:
    for number in range(100):
        enqueue(queue=f"q{number:02}", priority=number % 10)
    assert [job.priority for job in claim(100)] == sorted((number % 10 for number in range(100)), reverse=True)


# Not before its time


def test_a_thousand_queues_are_served_in_the_same_order(store: Store, clock: ManualClock, claim: Claim) -> None:
    rows = [new_job(clock, queue=f"q{number % 1000}", priority=number * 7 % 11) for number in range(1500)]
    store.new_jobs.insert_many(rows)
    in_order = sorted(range(1, 1501), key=lambda job_id: (-rows[job_id - 1].priority, job_id))
    found: list[int] = []
    while claimed := ids(claim(most=500)):
        found += claimed
    assert found == in_order


def test_a_paused_one_of_a_thousand_queues_takes_no_place(store: Store, clock: ManualClock, claim: Claim) -> None:
    store.new_jobs.insert_many(new_job(clock, queue=f"q{number}", priority=number) for number in range(1000))
    for number in range(800, 1000):
        store.acts.pause(f"q{number}", None, None)
    assert ids(claim(most=3)) == [800, 799, 798]


def test_a_scheduled_job_is_never_claimed_before_its_moment(enqueue: Enqueue, claim: Claim, clock: ManualClock) -> None:
    enqueue(delay=60)
    clock.advance(59.999999)
    assert claim() == []
    clock.advance(0.000001)
    assert ids(claim()) == [1]


def test_a_job_of_better_priority_that_is_not_due_holds_up_nobody(enqueue: Enqueue, claim: Claim) -> None:
    enqueue(delay=60, priority=100)
    enqueue()
    assert ids(claim(5)) == [2]


def test_what_is_due_is_promoted_and_takes_its_place_by_priority(
    enqueue: Enqueue, claim: Claim, clock: ManualClock
) -> None:
    enqueue()
    enqueue(delay=5, priority=1)
    enqueue(delay=5)
    enqueue(delay=50)
    clock.advance(5)
    assert ids(claim(5)) == [2, 1, 3]


def test_a_snoozed_and_a_retried_job_wait_until_they_are_due(
    enqueue: Enqueue, claim: Claim, settle: Settle, clock: ManualClock
) -> None:
    enqueue()
    enqueue()
    first, second = claim(2)
    settle(first, Snoozed(10))
    settle(second, Errored(FAILURE, 20))
    assert claim(2) == []
    clock.advance(10)
    assert ids(claim(2)) == [1]
    clock.advance(10)
    assert ids(claim(2)) == [2]


def test_after_the_clock_was_set_back_jobs_that_were_pending_still_run(
    enqueue: Enqueue, claim: Claim, clock: ManualClock
) -> None:
    enqueue()
    clock.set(START - timedelta(hours=2))
    assert ids(claim()) == [1]


def test_more_due_jobs_than_one_turn_promotes_come_in_the_next_the_longest_due_first(
    store: Store, clock: ManualClock, claim: Claim, sql: Sql
) -> None:
    store.new_jobs.insert_many(new_job(clock, delay=3000 - number) for number in range(MOST_PROMOTED + 10))
    clock.advance(5000)
    assert claim(0) == []
    assert sql("SELECT min(id) AS low, count(*) AS n FROM jobs WHERE status = 'pending'") == [
        {"low": 11, "n": MOST_PROMOTED}
    ]
    assert claim(0) == []
    assert sql("SELECT count(*) AS n FROM jobs WHERE status = 'pending'") == [{"n": MOST_PROMOTED + 10}]


# Looking before claiming


def test_peek_says_whether_there_is_work_and_when_the_next_is_due(
    store: Store, enqueue: Enqueue, claim: Claim, clock: ManualClock
) -> None:
    assert store.claims.peek() == (False, None)
    enqueue(delay=60)
    enqueue(delay=30)
    assert store.claims.peek() == (False, START + timedelta(seconds=30))
    clock.advance(30)
    assert store.claims.peek().has_work
    assert ids(claim()) == [2]
    assert store.claims.peek() == (False, START + timedelta(seconds=60))
    enqueue()
    assert store.claims.peek() == (True, START + timedelta(seconds=60))


# Two at once


def test_two_stores_that_claim_at_once_never_get_the_same_job(database_path: Path, clock: ManualClock) -> None:
    with closing(Store(database_path)) as first, closing(Store(database_path)) as second:
        first.new_jobs.insert_many(new_job(clock, queue=f"q{number % 3}") for number in range(300))
        claimed: dict[int, list[int]] = {1: [], 2: []}
        barrier = threading.Barrier(2)

        def work(worker: int, store: Store) -> None:
            for _ in range(25):
                barrier.wait()
                claimed[worker] += ids(store.claims.turn([], ClaimRequest(worker, (), 7, 30)).claimed)

        threads = [threading.Thread(target=work, args=(number, store)) for number, store in ((1, first), (2, second))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(claimed[1] + claimed[2]) == list(range(1, 301))
    assert claimed[1]
    assert claimed[2]


# Keeping and giving back


def test_a_heartbeat_extends_the_lease_of_the_workers_own_jobs(
    store: Store, enqueue: Enqueue, claim: Claim, register: Register, clock: ManualClock, sql: Sql
) -> None:
    worker = register()
    enqueue()
    enqueue()
    claim(worker=worker, lease=30)
    claim(worker=worker + 1, lease=30)
    clock.advance(20)
    assert store.workers.heartbeat(worker, lease=30) is True
    leases = {row["id"]: row["lease_expires_at"] for row in sql("SELECT id, lease_expires_at FROM jobs")}
    assert leases == {1: to_text(START + timedelta(seconds=50)), 2: to_text(START + timedelta(seconds=30))}


def test_a_heartbeat_tells_a_worker_that_it_is_not_registered_any_more(store: Store, register: Register) -> None:
    worker = register()
    store.workers.unregister(worker)
    assert store.workers.heartbeat(worker, lease=30) is False


def test_a_job_that_is_given_back_has_not_spent_its_attempt(
    store: Store, enqueue: Enqueue, claim: Claim, sql: Sql
) -> None:
    enqueue()
    claimed = claim()
    assert store.claims.release(claimed) == 1
    assert sql("SELECT status, attempt, worker_id, lease_expires_at, started_at, claim_token FROM jobs") == [
        {
            "status": "pending",
            "attempt": 0,
            "worker_id": None,
            "lease_expires_at": None,
            "started_at": None,
            "claim_token": 1,
        }
    ]
    assert claim()[0].claim_token == 2


def test_who_has_lost_a_claim_cannot_give_the_job_back(store: Store, enqueue: Enqueue, claim: Claim) -> None:
    enqueue()
    stale = claim()
    store.claims.release(stale)
    claim(worker=2)
    assert store.claims.release(stale) == 0
    job = store.reads.get(1)
    assert job is not None
    assert (job.status, job.attempt, job.worker_id) == ("running", 1, 2)


def test_a_job_that_was_to_be_cancelled_is_cancelled_when_it_is_given_back(
    store: Store, enqueue: Enqueue, claim: Claim, clock: ManualClock
) -> None:
    enqueue()
    claimed = claim()
    store.acts.cancel(1)
    clock.advance(5)
    assert store.claims.release(claimed) == 1
    job = store.reads.get(1)
    assert job is not None
    assert (job.status, job.finished_at, job.attempt) == ("cancelled", START + timedelta(seconds=5), 0)


def test_what_a_worker_does_not_know_it_has_claimed_is_given_back(store: Store, enqueue: Enqueue, claim: Claim) -> None:
    """After a commit that reported an error, although it had arrived."""
    for _ in range(4):
        enqueue()
    known = claim(2, worker=1)
    claim(1, worker=1)
    other = claim(1, worker=2)
    assert store.claims.release_unknown(1, {job.id: job.claim_token for job in known}) == 1
    statuses = {job.id: job.status for job in (store.reads.get(number) for number in range(1, 5)) if job}
    assert statuses == {1: "running", 2: "running", 3: "pending", other[0].id: "running"}


def test_a_newer_claim_than_it_knows_of_is_given_back_too(store: Store, enqueue: Enqueue, claim: Claim) -> None:
    enqueue()
    (old,) = claim()
    store.claims.release([old])
    claim()
    assert store.claims.release_unknown(1, {old.id: old.claim_token}) == 1


def test_a_queue_that_moves_away_gives_out_no_jobs(store: Store, enqueue: Enqueue, claim: Claim, sql: Sql) -> None:
    enqueue()
    enqueue(running_key="sync")
    with store.database.write() as connection:
        freezing.begin_move(connection, "to", "elsewhere", START, store.database.schema)
    limits = {"mail": RunningLimit.of("mail", 1, None, None)}
    request = ClaimRequest(1, (), 5, 30)
    assert claim(5) == []
    assert store.claims.turn([], request, limits=limits).claimed == []
    assert store.claims.idle_turn(request).claimed == []
    assert sql("SELECT DISTINCT status, attempt FROM jobs") == [{"status": "pending", "attempt": 0}]


@pytest.mark.sqlite
def test_what_a_trigger_of_the_users_keeps_back_is_not_claimed(
    store: Store, enqueue: Enqueue, claim: Claim, sql: Sql
) -> None:
    for _ in range(3):
        enqueue()
    sql("CREATE TRIGGER keep_back BEFORE UPDATE ON jobs WHEN NEW.id = 2 BEGIN SELECT RAISE(IGNORE); END")
    assert [job.id for job in claim(5)] == [1, 3]


LARGEST = {"attempt": 2**31 - 1, "claim_token": 2**63 - 1, "crashes": 1_000_000}


@pytest.mark.parametrize("column", LARGEST)
def test_the_largest_number_in_a_row_is_in_nobodys_way(
    store: Store, enqueue: Enqueue, claim: Claim, settle: Settle, sql: Sql, column: str
) -> None:
    """Another program may have written it; one more would be refused, and all that is claimed with it."""
    enqueue()
    enqueue()
    sql(f"UPDATE jobs SET {column} = {LARGEST[column]} WHERE id = 1")
    odd, healthy = claim(2)
    assert store.claims.release([odd]) == 1
    (odd,) = claim(2)
    settle(odd, Crashed(Failure("crash", "it died"), False))
    settle(healthy, Succeeded(None))
    odd, *_ = claim(2)
    settle(odd, GaveUp(Failure("fail", "no")))
    assert store.acts.retry(1).status is Status.PENDING


def test_an_attempt_that_nobody_has_counted_is_in_nobodys_way(
    store: Store, enqueue: Enqueue, claim: Claim, settle: Settle, sql: Sql
) -> None:
    """Another program may have set it back while the job ran; one less would be refused, and all with it."""
    enqueue()
    enqueue()
    claimed = claim(2)
    sql("UPDATE jobs SET attempt = 0")
    assert store.claims.release(claimed) == 2
    odd, _ = claim(2)
    sql("UPDATE jobs SET attempt = 0")
    assert settle(odd, Snoozed(0)).lost == []
    assert store.claims.release_unknown(1, {}) == 1
    assert sql("SELECT DISTINCT attempt FROM jobs") == [{"attempt": 0}]
