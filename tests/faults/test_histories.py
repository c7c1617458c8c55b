"""Clients and workers are killed and paused at random; what the clients were told is compared with what is there."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress

import pytest

from durablejobs.store import Store

from ..worker.harness import Queue, WorkerProcess
from .clients import History
from .promises import broken_promises
from .victims import Victims

pytestmark = [pytest.mark.conformance, pytest.mark.slow, pytest.mark.timeout(300)]

LEASE = {"lease": 1.0, "heartbeat": 0.25, "queues": "default", "concurrency": 2, "max_crashes": 1000}


class Havoc:
    """Three clients and two workers, and what is done to them."""

    def __init__(self, queue: Queue, victims: Victims, hasty: bool = False) -> None:
        self.queue = queue
        self._victims = victims
        self._hasty = hasty
        self._names = iter(range(10**6))
        self.clients = [self._new_client() for _ in range(3)]
        self.workers: list[WorkerProcess] = [queue.start(**LEASE) for _ in range(2)]
        self.done: Counter[str] = Counter()
        self._pauses: list[threading.Thread] = []

    def _new_client(self) -> int:
        database = self.queue.url or "jobs.db"
        name = str(next(self._names))
        return self._victims.start(self.queue.directory, do="client", name=name, database=database, hasty=self._hasty)

    def go_on_for(self, seconds: float) -> None:
        """Wreak havoc for so long, and, on a slow machine, until clients have been told enough to judge by."""
        until = time.monotonic() + seconds
        acts = [self._kill_client, self._kill_client, self._pause_client, self._kill_worker, self._pause_worker]
        while time.monotonic() < until or not self._is_enough():
            time.sleep(random.uniform(0.05, 0.3))
            random.choice(acts)()

    def _is_enough(self) -> bool:
        counts = History(self.queue.directory).counts()
        return (counts.get("ok", 0) > 150 and counts["killed in the call"] > 0) or self._hasty

    def _kill_client(self) -> None:
        which = random.randrange(len(self.clients))
        self._end_client(self.clients[which])
        self.clients[which] = self._new_client()
        self.done["clients killed"] += 1

    def _end_client(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        self._victims.wait(pid)

    def _kill_worker(self) -> None:
        which = random.randrange(len(self.workers))
        self.workers[which].kill()
        self.workers[which] = self.queue.start(**LEASE)
        self.done["workers killed"] += 1

    def _pause_client(self) -> None:
        self._pause(random.choice(self.clients), random.uniform(0.2, 1.0))
        self.done["clients paused"] += 1

    def _pause_worker(self) -> None:
        """For longer than the lease."""
        self._pause(random.choice(self.workers).pid, random.uniform(1.2, 2.0))
        self.done["workers paused"] += 1

    def _pause(self, pid: int, seconds: float) -> None:
        def wake() -> None:
            time.sleep(seconds)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

        os.kill(pid, signal.SIGSTOP)
        self._pauses.append(threading.Thread(target=wake))
        self._pauses[-1].start()

    def end(self) -> None:
        """Let everybody wake up, end the clients, and let the workers finish."""
        for pause in self._pauses:
            pause.join()
        for pid in self.clients:
            self._end_client(pid)
        self.queue.start(**{**LEASE, "queues": "default"})


def promises_broken_in(queue: Queue) -> list[str]:
    """Return what can be read from the rows alone."""
    if queue.url is None:
        with closing(queue.connect()) as connection:
            return broken_promises(connection)
    with closing(Store(queue.url)) as store:
        return [f"{rule.promise}: {rule.text}" for rule in store.checks.rules() if rule.broken]


def problems_after(queue: Queue) -> list[str]:
    """Return what is wrong after the faults have stopped."""
    keys = Counter(row["key"] for row in queue.sql("SELECT args ->> 1 AS key FROM jobs"))
    orders = Counter(row["key"] for row in queue.sql("SELECT key FROM orders"))
    problems = [*promises_broken_in(queue), *History(queue.directory).broken_by(keys, orders)]
    effects = Counter(row["job"] for row in queue.sql("SELECT job FROM effects"))
    succeeded = {row["id"] for row in queue.sql("SELECT id FROM jobs WHERE status = 'succeeded'")}
    problems += [f"I6: job {job} has {count} effects" for job, count in effects.items() if count != 1]
    problems += [f"I6: job {job} has effects and has not succeeded" for job in effects if job not in succeeded]
    problems += [f"I6: job {job} has succeeded without its effect" for job in succeeded if job not in effects]
    ended = {call.job for call in queue.calls("written")}
    return problems + [f"I5: job {job} has succeeded and has not run" for job in succeeded - ended]


def wreak(queue: Queue, victims: Victims, seconds: float, hasty: bool = False) -> Havoc:
    for table in ("effects(job INTEGER)", "orders(key TEXT)"):
        queue.sql(f"DROP TABLE IF EXISTS {table.partition('(')[0]}")
        queue.sql(f"CREATE TABLE {table}")
    havoc = Havoc(queue, victims, hasty)
    havoc.go_on_for(seconds)
    havoc.end()
    return havoc


def test_what_clients_were_told_is_true_after_kills_and_pauses(
    queue: Queue, victims: Victims, record_property: Callable[[str, object], None]
) -> None:
    havoc = wreak(queue, victims, seconds=15)
    live = "SELECT count(*) AS jobs FROM jobs WHERE queue = 'default' AND finished_at IS NULL"
    give_up = time.monotonic() + 120
    while queue.sql(live)[0]["jobs"] and time.monotonic() < give_up:
        time.sleep(0.1)
    assert queue.sql(live) == [{"jobs": 0}]
    queue.run(concurrency=2)  # the queue that nobody has served
    counts = History(queue.directory).counts()
    for what, number in [*havoc.done.items(), *counts.items()]:
        record_property(what, number)
    assert problems_after(queue) == []
    assert counts["ok"] > 100
    assert counts["killed in the call"] > 0


def test_the_harness_finds_a_client_that_says_ok_before_it_is_stored(queue: Queue, victims: Victims) -> None:
    wreak(queue, victims, seconds=5, hasty=True)
    assert any(problem.startswith("I1: ") for problem in problems_after(queue))
