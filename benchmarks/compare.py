"""One system at a time: fill it, drain it, or time single jobs through it. Fresh processes for each step."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import processes, redis_server
from .meter import VARIABLE, Meter
from .peers import SENDERS, Peer, PeerOnPostgres, peer_named
from .postgres_server import PostgresServer

LONGEST = 120.0
"""Seconds that a system gets for one measurement."""


@contextmanager
def _stage(
    peer: type[Peer], scratch: Path, server: PostgresServer | None = None
) -> Iterator[tuple[Meter, dict[str, str], dict[str, str]]]:
    """Yield a meter, the arguments and the environment for the children of one measurement.

    Those on PostgreSQL get a new database of the server.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        meter = Meter(Path(place) / "meter")
        environment = {VARIABLE: str(meter.path)}
        arguments = {"name": peer.name, "place": place, "address": ""}
        if peer.server == "redis":
            with redis_server.running(Path(place)) as socket:
                yield meter, {**arguments, "address": socket}, environment
            return
        if peer.server == "postgres":
            assert server is not None
            arguments["address"] = server.create_database()
            processes.call(create, **arguments)
        yield meter, arguments, environment


def rates(peer: type[Peer], scratch: Path, count: int) -> tuple[float, float]:
    """Enqueue so many jobs one by one, then drain them; return both rates."""
    with _stage(peer, scratch) as (meter, arguments, environment):
        enqueued = processes.start(fill, environment, **arguments, count=count).result(LONGEST)
        worker = processes.start(work, environment, **arguments)
        try:
            _await(meter, count, worker)
        finally:
            worker.stop()
        return enqueued, meter.rate()


def postgres_rates(
    peer: type[PeerOnPostgres], scratch: Path, server: PostgresServer, singles: int, bulk: int
) -> dict[str, float]:
    """Enqueue in three ways, then drain all of it; return the rates."""
    with _stage(peer, scratch, server) as (meter, arguments, environment):

        def fill_by(way: str, count: int) -> float:
            return processes.start(fill_in, environment, **arguments, way=way, count=count).result(LONGEST)

        together = singles - singles % SENDERS
        rates = {
            "enqueue": fill_by("enqueue_each", singles),
            "enqueue_together": fill_by("enqueue_together", together),
            "enqueue_many": fill_by("enqueue_many", bulk),
        }
        worker = processes.start(work, environment, **arguments)
        try:
            _await(meter, singles + together + bulk + len(rates), worker)
        finally:
            worker.stop()
        return {**rates, "drain": meter.rate()}


def latencies(
    peer: type[Peer], scratch: Path, count: int, longest_gap: float, server: PostgresServer | None = None
) -> list[float]:
    """Send single jobs to an idle worker; return the milliseconds from the enqueue's call to the handler's start."""
    with _stage(peer, scratch, server) as (meter, arguments, environment):
        warm_up = 3
        processes.start(fill, environment, **arguments, count=warm_up).result(LONGEST)
        worker = processes.start(work, environment, **arguments)
        try:
            _await(meter, warm_up, worker)
            processes.start(send, environment, **arguments, count=count, longest_gap=longest_gap).result(LONGEST)
            _await(meter, warm_up + count, worker)
        finally:
            worker.stop()
        return meter.latencies()


def _await(meter: Meter, count: int, worker: processes.Child) -> None:
    give_up = time.monotonic() + LONGEST
    while meter.count < count:
        if not worker.is_running():
            raise processes.ChildError(f"the worker ended after {meter.count} of {count} jobs\n{worker.output()}")
        if time.monotonic() > give_up:
            raise processes.ChildError(f"{meter.count} of {count} jobs in {LONGEST:g} s\n{worker.output()}")
        time.sleep(0.02)


# In the children


def _opened(name: str, place: str, address: str) -> Peer:
    return peer_named(name)(Path(place), address)


def create(name: str, place: str, address: str) -> None:
    """Make the tables."""
    peer = _opened(name, place, address)
    assert isinstance(peer, PeerOnPostgres)
    peer.create()


def fill_in(name: str, place: str, address: str, way: str, count: int) -> float:
    """Enqueue no-op jobs in one of the ways of `PeerOnPostgres`, after a first one that connects; return the rate."""
    peer = _opened(name, place, address)
    peer.enqueue(0)
    start = time.perf_counter()
    getattr(peer, way)(count)
    return count / (time.perf_counter() - start)


def fill(name: str, place: str, address: str, count: int) -> float:
    """Enqueue no-op jobs one by one; return the rate."""
    peer = _opened(name, place, address)
    peer.enqueue(0)
    start = time.perf_counter()
    for _ in range(count - 1):
        peer.enqueue(0)
    return (count - 1) / (time.perf_counter() - start)


def send(name: str, place: str, address: str, count: int, longest_gap: float) -> None:
    """Enqueue jobs with random gaps, long enough for the worker to be idle again."""
    peer = _opened(name, place, address)
    for _ in range(count):
        time.sleep(random.uniform(min(0.02, longest_gap), longest_gap))
        peer.enqueue(time.monotonic_ns())
    time.sleep(0.1)


def work(name: str, place: str, address: str) -> None:
    """Run jobs until the process is stopped."""
    _opened(name, place, address).work()
