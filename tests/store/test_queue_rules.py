"""Queues that are paused or limited: what a claim takes because of it, whoever claims."""

from __future__ import annotations

import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from durablejobs.outcomes import Succeeded
from durablejobs.store import Store
from durablejobs.store.claims import HandlerFilter
from durablejobs.store.doors.claims import ClaimRequest

from ..clocks import ManualClock
from ..conftest import Claim, Enqueue, Settle, Sql


def test_of_a_paused_queue_nothing_is_claimed_and_the_others_go_on(
    store: Store, enqueue: Enqueue, claim: Claim
) -> None:
    enqueue(queue="mail", priority=5)
    enqueue(queue="default")
    store.acts.pause("mail", None, None)
    assert [job.queue for job in claim(10)] == ["default"]
    assert claim(10, ["mail", "default"]) == []
    assert store.acts.resume("mail")
    assert [job.queue for job in claim(10)] == ["mail"]


def test_a_pause_ends_at_its_time(store: Store, enqueue: Enqueue, claim: Claim, clock: ManualClock) -> None:
    enqueue(queue="mail")
    store.acts.pause("mail", clock.now() + timedelta(seconds=60), "dinner")
    clock.advance(59)
    assert claim(10) == []
    clock.advance(1)
    assert not store.reads.queues()[0].is_paused
    assert len(claim(10)) == 1


def test_a_paused_queue_takes_in_and_promotes(store: Store, enqueue: Enqueue, claim: Claim, clock: ManualClock) -> None:
    store.acts.pause("mail", None, None)
    enqueue(queue="mail", delay=5)
    clock.advance(5)
    assert claim(10) == []
    (state,) = store.reads.queues()
    assert (state.pending, state.scheduled, state.running) == (1, 0, 0)


def test_a_second_pause_replaces_the_first(store: Store, clock: ManualClock) -> None:
    store.acts.pause("mail", clock.now() + timedelta(seconds=60), "dinner")
    store.acts.pause("mail", None, "holidays")
    (state,) = store.reads.queues()
    assert (state.paused_until, state.reason) == (None, "holidays")


def test_a_queue_that_is_neither_paused_nor_limited_has_no_row(store: Store, sql: Sql) -> None:
    store.acts.pause("mail", None, None)
    store.acts.limit("mail", 3)
    assert store.acts.resume("mail")
    assert [row["max_running"] for row in sql("SELECT * FROM job_queues")] == [3]
    store.acts.limit("mail", None)
    assert sql("SELECT * FROM job_queues") == []
    assert not store.acts.resume("mail")


@pytest.mark.parametrize("queues", [(), ("mail",), ("mail", "default")])
def test_a_limit_holds_across_workers_and_turns(
    store: Store, enqueue: Enqueue, claim: Claim, settle: Settle, queues: tuple[str, ...]
) -> None:
    for _ in range(5):
        enqueue(queue="mail")
    store.acts.limit("mail", 3)
    first = claim(2, queues, worker=1)
    second = claim(10, queues, worker=2)
    assert (len(first), len(second)) == (2, 1)
    assert claim(10, queues, worker=3) == []
    settle(first[0], Succeeded(None))
    assert len(claim(10, queues, worker=2)) == 1


def test_priorities_of_several_queues_hold_beside_a_limit(store: Store, enqueue: Enqueue, claim: Claim) -> None:
    store.acts.limit("mail", 1)
    enqueue(queue="default", priority=1)
    enqueue(queue="mail", priority=0)
    enqueue(queue="mail", priority=2)
    enqueue(queue="default", priority=3)
    assert [(job.queue, job.priority) for job in claim(3)] == [("default", 3), ("mail", 2), ("default", 1)]


def test_the_lanes_of_a_worker_share_the_room(store: Store, enqueue: Enqueue) -> None:
    store.acts.limit("mail", 3)
    for number in range(8):
        enqueue(queue="mail", handler="a" if number % 2 else "b")
    requests = [ClaimRequest(1, (), 2, 30, handlers=HandlerFilter(("a",), are_excluded=flag)) for flag in (False, True)]
    assert [job.handler for job in store.claims.turn([], *requests).claimed] == ["a", "a", "b"]


@pytest.mark.parametrize("most", [0, 1, 3, 5, 9])
def test_the_lanes_of_a_worker_share_what_they_may_claim_together_and_none_keeps_what_it_does_not_find(
    store: Store, enqueue: Enqueue, most: int
) -> None:
    for _ in range(4):
        enqueue(handler="b")
    enqueue(handler="a")
    requests = [ClaimRequest(1, (), 9, 30, handlers=HandlerFilter(("a",), are_excluded=flag)) for flag in (False, True)]
    claimed = store.claims.idle_turn(*requests, most=most).claimed
    assert [job.handler for job in claimed] == ["a", "b", "b", "b", "b"][:most]


def test_other_handlers_at_the_head_of_a_limited_queue_do_not_use_up_its_room(store: Store, enqueue: Enqueue) -> None:
    store.acts.limit("mail", 2)
    for handler in ("other", "other", "other", "mine"):
        enqueue(queue="mail", handler=handler)
    enqueue(queue="default", handler="mine")
    request = ClaimRequest(1, (), 10, 30, handlers=HandlerFilter(("mine",)))
    assert [job.queue for job in store.claims.turn([], request).claimed] == ["mail", "default"]


def test_a_killed_workers_places_come_back_with_its_jobs(store: Store, enqueue: Enqueue, claim: Claim) -> None:
    store.acts.limit("mail", 2)
    for _ in range(3):
        enqueue(queue="mail")
    held = claim(10)
    assert claim(10, worker=2) == []
    store.claims.release(held)
    assert len(claim(10, worker=2)) == 2


def test_threads_that_claim_at_once_never_exceed_the_limit(store: Store, enqueue: Enqueue, database_path: Path) -> None:
    store.acts.limit("mail", 7)
    for _ in range(100):
        enqueue(queue="mail")
    claimed: list[int] = []
    start = threading.Barrier(16)

    def work(worker: int) -> None:
        with closing(Store(database_path, clock=store.clock)) as own:
            start.wait()
            for _ in range(5):
                claimed.extend(job.id for job in own.claims.turn([], ClaimRequest(worker, (), 3, 30)).claimed)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == len(set(claimed)) == 7
