"""The lanes of a worker: the ways in which it runs jobs, side by side, and what each of them can take.

A worker has a lane for threads, and one for the event loop and one for child processes if a handler wants them. Each
claims for its own free places. With the threads alone, nothing is filtered and a claim is as cheap as can be.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final

from .coroutines import finished
from .handler_options import Mode
from .jobs import ClaimedJob
from .lane import Lane
from .queues import QueuePlan
from .read_ahead import ReadAhead
from .store.claims import HandlerFilter
from .store.doors.claims import ClaimRequest
from .store.endings import Ending

MOST_FILTERED: Final = 500
"""Jobs that one claim may take for some handlers alone. It looks at a few thousand at most: if others claimed
those by the thousand at the same moment, none would be left to look at."""


@dataclass
class _Share:
    """A lane, and how it claims."""

    lane: Lane
    mode: Mode
    handlers: HandlerFilter | None
    orders: Iterator[tuple[str, ...]]
    read_ahead: ReadAhead | None
    is_drained: bool = False
    """Whether its last claim found less than it wanted."""

    def room(self) -> int:
        ahead = self.read_ahead.jobs if self.read_ahead is not None else 0
        return max(0, self.lane.count + ahead - self.lane.in_flight)


class Lanes:
    """All lanes of a worker as one."""

    def __init__(
        self,
        lanes: Mapping[Mode, Lane],
        names: Mapping[Mode, Sequence[str]],
        plan: QueuePlan,
        await_on_loop: Callable[[Coroutine[Any, Any, None]], None] = finished,
    ) -> None:
        """`names` are the handlers of each lane but the threads', who take all others, the unknown ones too."""
        self.await_on_loop: Final = await_on_loop
        """Runs a coroutine on the event loop, where there is one, to its end."""
        self._plan = plan
        self._mode_of = {name: mode for mode in lanes if mode is not Mode.THREAD for name in names[mode]}
        self._shares = {
            mode: _Share(
                lane,
                mode,
                self._filter(mode, lanes, names),
                plan.orders(),
                ReadAhead(lane.count) if mode is Mode.THREAD else None,
            )
            for mode, lane in lanes.items()
        }
        self._lanes = list(lanes.values())

    def _filter(
        self, mode: Mode, lanes: Mapping[Mode, Lane], names: Mapping[Mode, Sequence[str]]
    ) -> HandlerFilter | None:
        if len(lanes) == 1:
            return None
        if mode is Mode.THREAD:
            return HandlerFilter(tuple(self._mode_of), are_excluded=True)
        return HandlerFilter(tuple(names[mode]))

    # Claiming

    def room(self) -> int:
        """Return how many jobs all lanes together could take."""
        return sum(share.room() for share in self._shares.values())

    def is_worth_a_claim(self) -> bool:
        """Whether a lane has room and its last claim gave no reason to believe that nothing is left."""
        return any(not share.is_drained and share.room() for share in self._shares.values())

    @property
    def is_drained(self) -> bool:
        """Whether no lane found what it wanted."""
        return all(share.is_drained for share in self._shares.values())

    def note_empty(self) -> None:
        """Nothing is there for any lane."""
        for share in self._shares.values():
            share.is_drained = True

    def requests(self, worker_id: int, lease: float, most: int) -> list[ClaimRequest]:
        """Return what each lane asks for now, each at most so many jobs.

        Together they may ask for more: which lane's jobs are there shows only at the claim.
        """
        requests = []
        for share in self._shares.values():
            wanted = min(share.room(), most)
            if share.handlers is not None:
                wanted = min(wanted, MOST_FILTERED)
            order, quotas = self._plan.quotas(share.orders, wanted) if wanted else ((), ())
            requests.append(ClaimRequest(worker_id, order, wanted, lease, quotas, share.handlers))
        return requests

    def note_claimed(self, requests: Sequence[ClaimRequest], claimed: Sequence[ClaimedJob], most: int) -> None:
        """Learn from a claim of at most so many jobs together which lanes have nothing left."""
        by_mode = self._by_mode(claimed)
        for share, request in zip(self._shares.values(), requests, strict=True):
            found = len(by_mode.get(share.mode, ()))
            if most or not request.most:  # else those before it have taken all, and nobody has looked for it
                share.is_drained = found < min(request.most, most)
            most -= found

    # Running

    def start(self) -> None:
        """Start all lanes."""
        for lane in self._lanes:
            lane.start()

    def stop(self) -> None:
        """End all lanes, and give up what still runs, where that is possible."""
        for lane in self._lanes:
            lane.stop()

    def submit(self, claimed: Sequence[ClaimedJob]) -> None:
        """Hand over each job to the lane of its handler."""
        for mode, jobs in self._by_mode(claimed).items():
            self._shares[mode].lane.submit(jobs)

    def _by_mode(self, claimed: Sequence[ClaimedJob]) -> Mapping[Mode, Sequence[ClaimedJob]]:
        if len(self._shares) == 1 or not claimed:
            return {Mode.THREAD: claimed}
        by_mode: dict[Mode, list[ClaimedJob]] = {}
        for job in claimed:
            by_mode.setdefault(self.mode_of(job), []).append(job)
        return by_mode

    def mode_of(self, job: ClaimedJob) -> Mode:
        """Return how this job runs here."""
        return self._mode_of.get(job.handler, Mode.THREAD)

    def take_finished(self) -> list[Ending]:
        """Return the endings that nobody has taken yet."""
        finished: list[Ending] = []
        for share in self._shares.values():
            taken = share.lane.take_finished()
            if share.read_ahead is not None:
                share.read_ahead.learn(taken)
            finished += taken
        return finished

    def take_unstarted(self) -> list[ClaimedJob]:
        """Take back the jobs that have not begun."""
        return [job for lane in self._lanes for job in lane.take_unstarted()]

    def take_stale(self, now: float, after: float) -> list[ClaimedJob]:
        """Take back what a lane was given so long ago and has not begun: it is busy with something slow."""
        stale: list[ClaimedJob] = []
        for share in self._shares.values():
            if share.lane.waiting and now - share.lane.last_submit > after:
                stale += share.lane.take_unstarted()
                if share.read_ahead is not None:
                    share.read_ahead.forget()
        return stale

    def cancel(self, job_ids: Set[int]) -> None:
        """Make these jobs stop."""
        for lane in self._lanes:
            lane.cancel(job_ids)

    def look(self) -> None:
        """Report lanes that something keeps from working."""
        for lane in self._lanes:
            lane.look()

    def running(self) -> list[ClaimedJob]:
        """Return the jobs that run at this moment."""
        return [job for lane in self._lanes for job in lane.running()]

    @property
    def unfinished(self) -> int:
        """Jobs handed over whose endings nobody has taken."""
        return sum(lane.unfinished for lane in self._lanes)

    @property
    def waiting(self) -> int:
        """Jobs that have not begun."""
        return sum(lane.waiting for lane in self._lanes)

    @property
    def in_flight(self) -> int:
        """Jobs that wait or run."""
        return sum(lane.in_flight for lane in self._lanes)

    @property
    def has_free_place(self) -> bool:
        """Whether a lane could begin a job at once."""
        return any(lane.in_flight < lane.count for lane in self._lanes)
