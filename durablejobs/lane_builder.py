"""Puts together the lanes that a worker needs for its handlers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .children import ChildProgram, ChildRunner
from .clock import Clock
from .config import WorkerConfig
from .coroutines import finished
from .errors import ChildStartError
from .event_loop import EventLoop
from .executor import Executor
from .handler_options import Mode
from .jobs import Notes
from .lane import Lane, Mark, Wake
from .lanes import Lanes
from .queues import QueuePlan
from .slots import ThreadSlots
from .store.presence import Seat
from .threads import ThreadRunner
from .watchdog import Watchdog


def lane_sizes(executor: Executor, config: WorkerConfig) -> dict[Mode, int]:
    """Return how many jobs run at once in each lane that a worker with these handlers needs."""
    sizes = {
        Mode.THREAD: config.concurrency,
        Mode.ASYNC: config.async_concurrency,
        Mode.PROCESS: config.process_concurrency,
    }
    return {mode: size for mode, size in sizes.items() if mode is Mode.THREAD or executor.handlers_of(mode)}


@dataclass(frozen=True)
class LaneBuilder:
    """What lanes are made of. `fail` is told when a lane cannot work."""

    executor: Executor
    config: WorkerConfig
    clock: Clock
    wake: Wake
    watchdog: Watchdog
    seat: Seat | None
    child_program: ChildProgram
    accept_notes: Callable[[Notes], None]
    fail: Callable[[ChildStartError], None]

    def build(self, plan: QueuePlan) -> Lanes:
        """Return the lanes, not started."""
        make = {Mode.THREAD: self._threads, Mode.ASYNC: self._event_loop, Mode.PROCESS: self._children}
        lanes: dict[Mode, Lane] = {}
        first = 0
        for mode, size in lane_sizes(self.executor, self.config).items():
            lanes[mode] = make[mode](size, self._mark(first))
            first += size
        names = {mode: [definition.name for definition in self.executor.handlers_of(mode)] for mode in lanes}
        loop = lanes.get(Mode.ASYNC)
        return Lanes(lanes, names, plan, loop.wait_for if isinstance(loop, EventLoop) else finished)

    def _threads(self, size: int, mark: Mark) -> Lane:
        runners = [ThreadRunner(self.executor, self.watchdog) for _ in range(size)]
        return ThreadSlots(runners, mark, self.clock, self.wake, self.executor.cancellations)

    def _event_loop(self, size: int, mark: Mark) -> Lane:
        return EventLoop(size, self.executor, self.watchdog, mark, self.clock, self.wake)

    def _children(self, size: int, mark: Mark) -> Lane:
        runners = [
            ChildRunner(self.child_program, self.executor, self.config, self.clock, self.accept_notes, self.fail)
            for _ in range(size)
        ]
        patience = self.config.kill_after + 2.0  # an idle child has so long to end
        return ThreadSlots(runners, mark, self.clock, self.wake, self.executor.cancellations, patience)

    def _mark(self, first: int) -> Mark:
        """Return what marks the places of a lane, which lie behind those of the lanes before it."""
        seat = self.seat
        if seat is None:
            return lambda _place, _job_id: None
        if first == 0:
            return seat.mark
        return lambda place, job_id: seat.mark(first + place, job_id)
