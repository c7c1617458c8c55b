"""The connection dies at each step of everything: before a request has reached the server, or before its answer came.

The steps are not listed: what is done is done once while nothing happens, and each request that went over the network
then is cut off in its turn.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count, groupby
from typing import Any, Final

import psycopg
import pytest
from psycopg.rows import DictRow

from durablejobs import Backoff, CommitUnknownError, DatabaseUnreachableError, DurableJobs, current_job

from ...worker.harness import wait_until
from .proxy import Moment, Proxy
from .workers import running

MOMENTS: Final = pytest.mark.parametrize("moment", list(Moment), ids=lambda moment: moment.name.lower())
BATCH: Final = 3


@pytest.fixture
def rows(direct: psycopg.Connection[DictRow]) -> Callable[[str], int]:
    """Count the jobs with this first argument."""

    def rows_of(key: str) -> int:
        return len(direct.execute("SELECT FROM jobs WHERE args ->> 0 = %s", (key,)).fetchall())

    return rows_of


@pytest.fixture
def order_table(direct: psycopg.Connection[DictRow]) -> Iterator[None]:
    """A table of the application, for effects."""
    direct.execute("DROP TABLE IF EXISTS orders")
    direct.execute("CREATE TABLE orders (job bigint)")
    yield
    direct.execute("DROP TABLE orders")


def one(jobs: DurableJobs, key: str) -> None:
    jobs.enqueue("mail", key)


def many(jobs: DurableJobs, key: str) -> None:
    jobs.enqueue_many("mail", [(key,)] * BATCH)


def with_unique_key(jobs: DurableJobs, key: str) -> None:
    jobs.using(unique_key=key).enqueue("mail", key)


# A plain job is one statement that commits itself.
IN_ONE_STEP: Final = ("unknown", "stored")
# The begin is tried again on a new connection; cut off in the commit nobody can know; then no step is left.
IN_A_TRANSACTION: Final = ("stored", "refused", "unknown", "stored")


@MOMENTS
@pytest.mark.parametrize(
    ("enqueue", "whole", "expected"),
    [(one, 1, IN_ONE_STEP), (many, BATCH, IN_A_TRANSACTION), (with_unique_key, 1, IN_A_TRANSACTION)],
)
def test_an_enqueue_that_is_cut_off_at_any_step_is_stored_refused_or_unknown_and_never_half_or_double(
    jobs: DurableJobs,
    proxy: Proxy,
    rows: Callable[[str], int],
    enqueue: Callable[[DurableJobs, str], None],
    whole: int,
    expected: tuple[str, ...],
    moment: Moment,
) -> None:
    told: list[str] = []
    for step in count():
        key = f"step {step}"
        enqueue(jobs, f"warm {step}")  # connected again
        trap = proxy.trap(".", moment, skip=step)
        try:
            enqueue(jobs, key)
        except DatabaseUnreachableError as error:
            assert rows(key) == 0, "refused, and it is there"
            told.append(f"refused: {error}")
        except CommitUnknownError as error:
            assert rows(key) == (whole if moment is Moment.AFTER else 0)
            told.append(f"unknown: {error}")
        else:
            assert rows(key) == whole, "acknowledged, and it is not there"
            told.append("stored")
            if not trap.is_sprung:
                break
    outcomes = [outcome for outcome, _ in groupby(text.partition(":")[0] for text in told)]
    assert tuple(outcomes) == expected, told


def test_connections_that_were_reset_at_rest_are_replaced_and_nobody_is_told(
    jobs: DurableJobs, proxy: Proxy, rows: Callable[[str], int]
) -> None:
    for number in range(3):
        one(jobs, "key")
        assert rows("key") == number + 1
        proxy.reset()


@MOMENTS
def test_what_is_unknown_is_tried_again_by_its_unique_key_and_is_there_once(
    jobs: DurableJobs, proxy: Proxy, rows: Callable[[str], int], moment: Moment
) -> None:
    one(jobs, "warm")
    proxy.trap("^COMMIT", moment)
    with pytest.raises(CommitUnknownError, match="whether it was stored is unknown: look, or retry with a unique key"):
        with_unique_key(jobs, "key")
    with_unique_key(jobs, "key")
    with_unique_key(jobs, "key")
    assert rows("key") == 1


def test_threads_that_shared_an_unknown_commit_are_all_told(
    jobs: DurableJobs, proxy: Proxy, rows: Callable[[str], int]
) -> None:
    one(jobs, "warm")
    proxy.delay(0.05)  # so that they meet
    told: Counter[str] = Counter()
    trap = proxy.trap("INSERT INTO", Moment.AFTER, skip=1)

    def enqueue(key: str) -> None:
        try:
            one(jobs, key)
        except CommitUnknownError:
            told["unknown"] += 1
        else:
            told["ok"] += 1

    threads = [threading.Thread(target=enqueue, args=[f"thread {number}"]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trap.wait()
    assert [rows(f"thread {number}") for number in range(8)] == [1] * 8
    assert told["ok"] + told["unknown"] == 8
    assert told["unknown"] > 1


class Working:
    """A worker's whole life with one job of each kind, and what came of it."""

    def __init__(self, jobs: DurableJobs, direct: psycopg.Connection[DictRow]) -> None:
        self.jobs = jobs
        self._direct = direct
        self.calls: Counter[int] = Counter()
        self._may_end = threading.Event()

        @jobs.handler
        def plain() -> None:
            self.calls[current_job().id] += 1

        @jobs.handler(backoff=Backoff(base=0.01, jitter=0))
        def with_effect() -> None:
            self.calls[current_job().id] += 1
            with current_job().transaction() as connection:
                connection.exec_driver_sql("INSERT INTO orders VALUES (%s)", (current_job().id,))

        @jobs.handler
        def long() -> None:
            self.calls[current_job().id] += 1
            wait_until(self._has_beaten, "the heart has beaten meanwhile")

    def _has_beaten(self) -> bool:
        seen = self._direct.execute("SELECT heartbeat_at > started_at AS beaten FROM job_workers").fetchone()
        return seen is None or bool(seen["beaten"])

    def run(self) -> bool:
        """Run a worker until all jobs have ended; return whether it got to work at all."""
        before = self.calls.total()
        # The lease is long: nothing is rescued, so nothing may run twice.
        with running(self.jobs, burst=True, lease=60.0, heartbeat=0.1, concurrency=2) as worker:
            wait_until(lambda: worker.has_ended, "the worker ends")
            assert worker.error is None or self.calls.total() == before, worker.error
            return worker.error is None

    def run_until_all_have_ended(self) -> None:
        """Run workers until nothing is left, also no job that waits for its next attempt."""
        while self._direct.execute("SELECT FROM jobs WHERE finished_at IS NULL").fetchall():
            assert self.run()

    def problems(self) -> list[str]:
        """Return what is not as it should be."""
        effects = Counter(row["job"] for row in self._direct.execute("SELECT job FROM orders"))
        found = []
        for row in self._direct.execute("SELECT id, handler, status, attempt, crashes, error FROM jobs"):
            job = f"job {row['id']} ({row['handler']})"
            if row["status"] != "succeeded":
                found.append(f"{job} is {row['status']}: {row['error']}")
            if self.calls[row["id"]] != row["attempt"]:
                found.append(f"{job} ran {self.calls[row['id']]} times in {row['attempt']} attempts")
            if row["handler"] == "with_effect" and effects[row["id"]] != 1:
                found.append(f"{job} has {effects[row['id']]} effects")
            if row["handler"] != "with_effect" and row["attempt"] != 1:
                found.append(f"{job} ran {row['attempt']} times")
        return found


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("order_table")
@MOMENTS
@pytest.mark.parametrize("handler", ["plain", "with_effect", "long"])
def test_a_worker_that_is_cut_off_at_any_step_settles_each_job_once(
    jobs: DurableJobs,
    proxy: Proxy,
    direct: psycopg.Connection[Any],
    handler: str,
    moment: Moment,
    record_property: Callable[[str, object], None],
) -> None:
    working = Working(jobs, direct)
    jobs.enqueue(handler)
    assert working.run()
    registered = next(n for n, text in enumerate(proxy.requests) if "INSERT INTO public.job_workers" in text)
    for step in count():
        jobs.enqueue(handler)
        trap = proxy.trap(".", moment, skip=step)
        if not working.run():  # as when it is started while the server is away: it says so and ends
            assert step <= registered + 1
        working.run_until_all_have_ended()
        assert working.problems() == [], f"cut at step {step}"
        if not trap.is_sprung:
            break
    assert step > registered + 10
    record_property("faults", step)
