"""The event loop as a lane, by itself: it begins what waits as soon as there is a free place."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

from durablejobs import DurableJobs
from durablejobs.clock import SystemClock
from durablejobs.event_loop import EventLoop
from durablejobs.jobs import ClaimedJob
from durablejobs.journal import Journal
from durablejobs.outcomes import Succeeded
from durablejobs.watchdog import Watchdog

PATIENCE = 30.0


def test_a_job_that_begins_when_another_ends_does_not_see_its_context_variables(jobs: DurableJobs) -> None:
    """A tenant that is set in one would be the next one's."""
    tenant: ContextVar[int | None] = ContextVar("tenant", default=None)

    @jobs.handler
    async def report(number: int) -> int | None:
        before = tenant.get()
        tenant.set(number)
        await asyncio.sleep(0)
        return before

    clock, ended = SystemClock(), threading.Semaphore(0)
    executor = jobs._executor(Journal(lambda _notes: None, clock))
    lane = EventLoop(1, executor, Watchdog(clock), lambda _place, _job_id: None, clock, ended.release)
    lane.start()
    lane.submit([ClaimedJob(n, 1, "report", "default", f"[{n}]", "{}", 0, "", 1, 20, 0, None, "{}") for n in (1, 2, 3)])
    for _ in range(3):
        assert ended.acquire(timeout=PATIENCE)
    lane.stop()
    assert [ending.outcome for ending in lane.take_finished()] == [Succeeded(None)] * 3
