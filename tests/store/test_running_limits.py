"""Handlers of which only so many jobs run at once: what a claim takes because of it, whoever claims."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from durablejobs.jobs import ClaimedJob
from durablejobs.outcomes import Errored, Failure, Succeeded
from durablejobs.running_limits import RunningLimit
from durablejobs.store import Store, claims, running_limits
from durablejobs.store.claims import HandlerFilter
from durablejobs.store.doors.claims import ClaimRequest

from ..clocks import ManualClock
from ..conftest import REFUSED, Enqueue, Settle, Sql, new_job


def limits(**most: int) -> dict[str, RunningLimit]:
    return {name: RunningLimit.of(name, number, None, None) for name, number in most.items()}


def keyed(handler: str, most: int) -> dict[str, RunningLimit]:
    return {handler: RunningLimit.of(handler, most, "{args[0]}", None)}


def claim(
    store: Store, most: int, known: Mapping[str, RunningLimit], worker: int = 1, queues: tuple[str, ...] = ()
) -> list[ClaimedJob]:
    return store.claims.turn([], ClaimRequest(worker, queues, most, 30), limits=known).claimed


@pytest.mark.parametrize("queues", [(), ("default",), ("mail", "default")])
def test_a_limit_holds_across_workers_and_turns(
    store: Store, enqueue: Enqueue, settle: Settle, queues: tuple[str, ...]
) -> None:
    for _ in range(5):
        enqueue(handler="sync", running_key="sync")
    first = claim(store, 2, limits(sync=3), 1, queues)
    assert (len(first), len(claim(store, 10, limits(sync=3), 2, queues))) == (2, 1)
    assert claim(store, 10, limits(sync=3), 3, queues) == []
    settle(first[0], Succeeded(None))
    assert len(claim(store, 10, limits(sync=3), 2, queues)) == 1


def test_each_key_has_places_of_its_own(store: Store, enqueue: Enqueue) -> None:
    for number in range(9):
        enqueue(handler="sync", args=f'["{number % 3}"]', running_key=f"sync/{number % 3}")
    assert [job.id for job in claim(store, 9, keyed("sync", 2))] == [1, 2, 3, 4, 5, 6]
    assert claim(store, 9, keyed("sync", 2)) == []


def test_ten_thousand_jobs_of_a_full_key_do_not_keep_others_waiting_and_cost_next_to_nothing(
    store: Store, enqueue: Enqueue, clock: ManualClock, database_path: Path
) -> None:
    store.new_jobs.insert_many(
        new_job(clock, handler="sync", running_key="sync/acme", priority=9) for _ in range(10_000)
    )
    assert len(claim(store, 9, keyed("sync", 1))) == 1
    other = enqueue(handler="sync", running_key="sync/other")
    plain = enqueue(handler="mail")
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    with store.database.write() as connection:
        connection.connection.driver_connection.set_progress_handler(count, 100)
        places = running_limits.places(connection, keyed("sync", 1))
        assert places is not None
        found = running_limits.claim(connection, ["default"], 9, 1, clock.now_text(), "9", None, {}, places, {})
        connection.connection.driver_connection.set_progress_handler(None, 0)
    assert [job.id for job in found] == [other, plain]
    assert steps < 100  # hundreds of steps of SQLite's machine each: ten thousand rows would be a thousand at least


def test_best_priority_first_then_the_oldest_whatever_has_a_limit(store: Store, enqueue: Enqueue) -> None:
    order = [("sync", 1), ("mail", 5), ("sync", 7), ("mail", 0), ("sync", 7)]
    for handler, priority in order:
        enqueue(handler=handler, priority=priority, running_key="sync" if handler == "sync" else None)
    assert [job.id for job in claim(store, 9, limits(sync=2))] == [3, 5, 2, 4]


def test_so_it_is_in_more_queues_than_a_claim_looks_into(store: Store, enqueue: Enqueue, clock: ManualClock) -> None:
    store.new_jobs.insert_many(new_job(clock, handler="mail", queue=f"q{number}", priority=1) for number in range(200))
    last = enqueue(handler="sync", running_key="sync", queue="q0")
    found: list[int] = []
    while claimed := claim(store, 500, limits(sync=1)):
        found += [job.id for job in claimed]
    assert found == [*range(1, 201), last]


def test_what_was_put_in_without_its_key_gets_it_at_the_claim(store: Store, enqueue: Enqueue, sql: Sql) -> None:
    for tenant in ('["acme"]', '["acme"]', '["other"]', "[]"):
        sql("INSERT INTO jobs(handler, args) VALUES ('sync', ?)", tenant)
    plain = enqueue(handler="mail")
    assert [job.id for job in claim(store, 9, keyed("sync", 1))] == [1, 3, 4, plain]
    keys = [row["running_key"] for row in sql("SELECT running_key FROM jobs ORDER BY id")]
    assert keys == ["sync/acme", "sync/acme", "sync/other", "sync/", None]


def test_thousands_that_were_put_in_without_their_key_keep_nobody_waiting(
    store: Store, enqueue: Enqueue, clock: ManualClock
) -> None:
    store.new_jobs.insert_many(new_job(clock, handler="sync") for _ in range(3000))
    plain = enqueue(handler="mail")
    assert [job.id for job in claim(store, 5, limits(sync=2))] == [1, 2, plain]


def test_jobs_with_a_key_run_also_where_nobody_knows_a_limit_any_more(store: Store, enqueue: Enqueue) -> None:
    for _ in range(3):
        enqueue(handler="sync", running_key="sync/acme")
    assert len(claim(store, 2, {})) == 2
    assert len(claim(store, 2, limits(mail=1))) == 1


def test_jobs_that_have_keys_from_an_older_version_count_against_the_handlers_limit(
    store: Store, enqueue: Enqueue
) -> None:
    for key in ("sync/acme", "sync/other", "sync"):
        enqueue(handler="sync", running_key=key)
    assert len(claim(store, 9, limits(sync=2))) == 2


def test_the_limit_of_the_queue_holds_beside_it(store: Store, enqueue: Enqueue) -> None:
    store.acts.limit("mail", 2)
    for number in range(4):
        enqueue(handler="sync", queue="mail", running_key=f"sync/{number}")
    enqueue(handler="plain", queue="mail", priority=1)
    enqueue(handler="sync", queue="default", running_key="sync/0")
    assert [job.id for job in claim(store, 9, keyed("sync", 1))] == [5, 1]
    store.acts.limit("mail", None)
    store.acts.pause("mail", None, None)
    assert claim(store, 9, keyed("sync", 1)) == []
    store.acts.resume("mail")
    assert [job.id for job in claim(store, 9, keyed("sync", 1))] == [2, 3, 4]


def test_each_lane_takes_only_jobs_of_its_handlers(store: Store, enqueue: Enqueue) -> None:
    for handler in ("a", "b", "a", "b", "c"):
        enqueue(handler=handler, running_key=None if handler == "c" else handler)
    requests = [ClaimRequest(1, (), 9, 30, handlers=HandlerFilter(("a",), are_excluded=flag)) for flag in (True, False)]
    assert [job.id for job in store.claims.turn([], *requests, limits=limits(a=1, b=1)).claimed] == [2, 5, 1]


def test_a_place_comes_back_with_a_release_a_rescue_and_a_retry(
    store: Store, enqueue: Enqueue, settle: Settle, clock: ManualClock, sql: Sql
) -> None:
    for _ in range(2):
        enqueue(handler="sync", running_key="sync")
    store.claims.release(claim(store, 9, limits(sync=1)))
    claim(store, 9, limits(sync=1), worker=77)
    assert claim(store, 9, limits(sync=1)) == []
    clock.advance(31)
    assert len(store.upkeep.rescue_strays(5, "gone")) == 1
    (job,) = claim(store, 9, limits(sync=1))
    settle(job, Errored(Failure("error", "no"), 10))
    (other,) = claim(store, 9, limits(sync=1))
    assert other.id != job.id
    clock.advance(10)
    assert claim(store, 9, limits(sync=1)) == []
    settle(other, Succeeded(None))
    assert [each.id for each in claim(store, 9, limits(sync=1))] == [job.id]
    assert {row["running_key"] for row in sql("SELECT running_key FROM jobs")} == {"sync"}


def test_more_keys_than_one_look_takes_get_their_turn(
    store: Store, enqueue: Enqueue, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_limits, "LOOKED_AT", 3)
    for number in range(8):
        enqueue(handler="sync", running_key=f"sync/{number}")
    taken = [job.id for _ in range(4) for job in claim(store, 2, keyed("sync", 1))]
    assert sorted(taken) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_lanes_that_look_at_some_of_many_keys_do_not_take_each_others_turns(
    store: Store, enqueue: Enqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One lane's looks would be at the other's keys, again and again."""
    monkeypatch.setattr(running_limits, "LOOKED_AT", 3)
    monkeypatch.setattr(running_limits, "_MOST_ROUNDS", 1)
    for handler in ("convert", "sync"):
        for number in range(3):
            enqueue(handler=handler, running_key=f"{handler}/{number}")
    rule = keyed("sync", 1) | keyed("convert", 1)
    requests = [
        ClaimRequest(1, (), 1, 30, handlers=HandlerFilter(("convert",), are_excluded=flag)) for flag in (True, False)
    ]
    claimed = [job for _ in range(4) for job in store.claims.turn([], *requests, limits=rule).claimed]
    assert {job.handler for job in claimed} == {"convert", "sync"}


def test_a_claim_looks_on_until_it_finds_a_key_with_a_place(
    store: Store, enqueue: Enqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_limits, "LOOKED_AT", 3)
    for number in range(10):
        enqueue(handler="sync", running_key=f"sync/{number}")
        enqueue(handler="sync", running_key=f"sync/{number}")
    taken = [claim(store, 1, keyed("sync", 1)) for _ in range(11)]
    assert [len(found) for found in taken] == [1] * 10 + [0]


def test_a_job_that_is_gone_when_it_is_to_get_its_key_is_passed_over(store: Store, enqueue: Enqueue) -> None:
    job_id = enqueue(handler="mail")
    with store.database.write() as connection:
        for missing in (job_id, 99):
            running_limits._give_key(connection, missing, limits(sync=1))
        assert running_limits.ARE_WAITING.run(connection, {}).fetchone()[0] in (0, False)


def test_a_worker_without_limits_claims_by_the_same_statement_as_ever(store: Store, enqueue: Enqueue) -> None:
    enqueue(handler="mail")
    with store.database.write() as connection:
        assert running_limits.places(connection, {}) is None
        assert len(claims.claim(connection, ["default"], 5, 1, "2026-01-01 00:00:00", "2026-01-01 00:00:30")) == 1


def test_threads_that_claim_at_once_never_exceed_a_limit(store: Store, enqueue: Enqueue, database_path: Path) -> None:
    for number in range(90):
        enqueue(handler="sync", running_key=f"sync/{number % 2}")
    claimed: list[ClaimedJob] = []
    start = threading.Barrier(12)

    def work(worker: int) -> None:
        with closing(Store(database_path, clock=store.clock)) as own:
            start.wait()
            for _ in range(4):
                claimed.extend(claim(own, 2, keyed("sync", 5), worker))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({job.id for job in claimed}) == len(claimed) == 10


def test_the_database_refuses_a_key_that_is_too_long(sql: Sql, store: Store) -> None:
    with pytest.raises(REFUSED, match="running_key_is_1_to_500_long"):
        sql("INSERT INTO jobs(handler, running_key) VALUES ('sync', ?)", "x" * 501)
