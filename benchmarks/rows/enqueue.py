"""Put jobs in: singly, from many threads, and many at once, against raw inserts."""

from __future__ import annotations

import asyncio
import threading
import time

from durablejobs import DurableJobs

from .. import raw
from ..processes import call
from ..results import Measurement, Run, in_turns, ratio
from .drain import register_noop

THREADS = 16
TASKS = 200


def measure(run: Run) -> list[Measurement]:
    """Take turns between ours and the raw rate that it is compared with."""
    sizes = run.sizes

    def ours(function: object, count: int) -> float:
        return call(function, path=f"{run.fresh()}/jobs.db", count=count)

    single, threads, tasks, base = in_turns(
        sizes.rounds,
        lambda: ours(enqueue_single, sizes.single_enqueues),
        lambda: ours(enqueue_threads, sizes.threaded_enqueues),
        lambda: ours(enqueue_tasks, sizes.threaded_enqueues),
        lambda: call(raw.insert_single, path=f"{run.fresh()}/raw.db", count=sizes.single_enqueues),
    )
    listed, generated, bulk = in_turns(
        sizes.rounds,
        lambda: ours(enqueue_list, sizes.bulk_jobs),
        lambda: ours(enqueue_generator, sizes.bulk_jobs),
        lambda: call(raw.insert_bulk, path=f"{run.fresh()}/raw.db", count=sizes.bulk_jobs),
    )
    return [
        ratio("enqueue_single", single, base),
        ratio("enqueue_threads", threads, base),
        ratio("enqueue_async", tasks, base),
        ratio("enqueue_list", listed, bulk),
        ratio("enqueue_generator", generated, bulk),
    ]


def _app(path: str) -> DurableJobs:
    jobs = DurableJobs(path)
    register_noop(jobs)
    jobs.enqueue("noop", 1, 2)  # creates the file
    return jobs


def enqueue_single(path: str, count: int) -> float:
    """One after another; return the rate."""
    jobs = _app(path)
    start = time.perf_counter()
    for _ in range(count):
        jobs.enqueue("noop", 1, 2)
    return count / (time.perf_counter() - start)


def enqueue_threads(path: str, count: int) -> float:
    """From 16 threads, each returning only after its commit; return the rate of all together."""
    jobs = _app(path)
    each = count // THREADS
    together = threading.Barrier(THREADS + 1)

    def enqueue() -> None:
        together.wait()
        for _ in range(each):
            jobs.enqueue("noop", 1, 2)

    threads = [threading.Thread(target=enqueue) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    together.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - start
    stored = sum(sum(queue.counts.values()) for queue in jobs.statistics())
    assert stored == each * THREADS + 1, f"{stored} rows are stored"
    return each * THREADS / took


def enqueue_tasks(path: str, count: int) -> float:
    """From 200 tasks of one event loop, each going on only after its commit; return the rate of all together."""
    jobs = _app(path)
    each = max(1, count // TASKS)

    async def enqueue() -> None:
        for _ in range(each):
            await jobs.aenqueue("noop", 1, 2)

    async def together() -> None:
        await asyncio.gather(*(enqueue() for _ in range(TASKS)))

    start = time.perf_counter()
    asyncio.run(together())
    return each * TASKS / (time.perf_counter() - start)


def enqueue_list(path: str, count: int) -> float:
    """A list in one transaction; return the rate."""
    jobs = _app(path)
    items = [(1, 2)] * count
    start = time.perf_counter()
    jobs.enqueue_many("noop", items)
    return count / (time.perf_counter() - start)


def enqueue_generator(path: str, count: int) -> float:
    """A generator in one transaction; return the rate."""
    jobs = _app(path)
    start = time.perf_counter()
    jobs.enqueue_many("noop", ((number, 2) for number in range(count)))
    return count / (time.perf_counter() - start)
