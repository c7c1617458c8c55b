"""A worker claims jobs, and keeps, ends and gives back what it has claimed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection

from ...clock import to_text
from ...jobs import ClaimedJob, Notes
from ...running_limits import NO_LIMITS, RunningLimit
from .. import claims, endings, held_jobs, idle_claims, peeking, queue_rules, running_limits
from ..access import Access
from ..endings import Ending, Settlement
from ..notes import write_notes
from ..peeking import Peek
from ..pending_queues import pending_queues
from .door import Door

if TYPE_CHECKING:  # imported where it is used: a command that enqueues one job has no use for it
    from ..effects import JobTransaction


class ClaimRequest(NamedTuple):
    """What a worker asks for in one turn."""

    worker_id: int
    queues: tuple[str, ...]
    """In strict order; empty: all queues together, by priority, then id."""
    most: int
    lease: float
    """Seconds."""
    quotas: tuple[int, ...] = ()
    """How many from each queue at first; what one leaves over goes to the others, in order. Empty: strict order."""
    handlers: claims.HandlerFilter | None = None
    """None: the jobs of all handlers."""

    def at_most(self, most: int) -> ClaimRequest:
        """Return the same for no more jobs than these."""
        return self if self.most <= most else self._replace(most=most)


class Turn(NamedTuple):
    """What one turn of a worker's loop brought."""

    settlement: Settlement
    claimed: list[ClaimedJob]


class IdleTurn(NamedTuple):
    """What a turn with nothing to settle brought."""

    peek: Peek
    claimed: list[ClaimedJob]


class Claims(Door):
    """What a worker asks for about jobs."""

    def __init__(self, access: Access) -> None:
        super().__init__(access)
        self._turns: running_limits.KeyTurns = {}

    def turn(
        self,
        finished: Sequence[Ending],
        *requests: ClaimRequest,
        most: int | None = None,
        notes: Sequence[Notes] = (),
        limits: Mapping[str, RunningLimit] = NO_LIMITS,
    ) -> Turn:
        """Settle what has finished, promote what is due, claim what is wanted: one transaction, one sync.

        There is a request for each lane of the worker, at least one; `most` is how many jobs they may claim together,
        the first ones first. `notes` are of the runs that have finished, `limits` those of the worker's handlers.
        """
        with self._write_hot() as connection:
            write_notes(connection, notes)
            now = self._clock.now()
            settlement = endings.settle(connection, requests[0].worker_id, finished)
            claims.promote(connection, to_text(now))
            rooms = queue_rules.rooms(connection, to_text(now))
            places = running_limits.places(connection, limits)
            claimed: list[ClaimedJob] = []
            for request in requests:
                wanted = request if most is None else request.at_most(most - len(claimed))
                claimed += self._claim(connection, wanted, now, rooms, places)
        return Turn(settlement, claimed)

    def idle_turn(
        self, *requests: ClaimRequest, most: int | None = None, limits: Mapping[str, RunningLimit] = NO_LIMITS
    ) -> IdleTurn:
        """Take a turn with nothing to settle: look first, and claim only if something is there.

        The look waits for no writer. In PostgreSQL it claims as well, by the same statement, where that is one plain
        claim.
        """
        is_plain = self._is_plain(requests, limits) and (most is None or requests[0].most <= most)
        peek, claimed = self._peek_and_claim(requests[0]) if is_plain else (self.peek(), None)
        if claimed is None:
            claimed = self.turn((), *requests, most=most, limits=limits).claimed if peek.has_work else []
        return IdleTurn(peek, claimed)

    def _is_plain(self, requests: Sequence[ClaimRequest], limits: Mapping[str, RunningLimit]) -> bool:
        return self._database.schema is not None and not limits and len(requests) == 1 and requests[0].handlers is None

    def _peek_and_claim(self, request: ClaimRequest) -> tuple[Peek, list[ClaimedJob] | None]:
        now = self._clock.now()
        lease = to_text(now + timedelta(seconds=request.lease))
        return idle_claims.peek_and_claim(
            self._write_at_once, request.queues, request.most, request.worker_id, to_text(now), lease
        )

    def _claim(
        self,
        connection: Connection,
        request: ClaimRequest,
        now: datetime,
        rooms: dict[str, int],
        places: running_limits.Places | None,
    ) -> list[ClaimedJob]:
        """Claim what is requested, and take it from the rooms of the queues and from the places of the limits."""
        now_text, lease = to_text(now), to_text(now + timedelta(seconds=request.lease))

        def take(queues: Sequence[str], most: int) -> list[ClaimedJob]:
            wanted = (connection, queues, most, request.worker_id, now_text, lease, request.handlers, rooms)
            if places is None:
                taken = claims.claim(*wanted)
            else:
                taken = running_limits.claim(*wanted, places, self._turns)
            for job in taken if rooms else ():
                if job.queue in rooms:
                    rooms[job.queue] -= 1
            return taken

        if not request.queues:
            return take(pending_queues(connection), request.most) if request.most else []
        claimed: list[ClaimedJob] = []
        shares = [
            *zip(request.queues, request.quotas, strict=False),
            *((name, request.most) for name in request.queues),
        ]
        for queue, quota in shares:
            wanted = min(quota, request.most - len(claimed))
            if wanted > 0:
                claimed += take([queue], wanted)
        return claimed

    def peek(self) -> Peek:
        """Return what there is to claim; takes no lock."""
        return peeking.peek(self._ask, self._clock.now_text())

    def settle(self, worker_id: int, finished: Sequence[Ending], notes: Sequence[Notes] = ()) -> Settlement:
        """Write endings only."""
        with self._write() as connection:
            write_notes(connection, notes)
            return endings.settle(connection, worker_id, finished)

    def write_notes(self, notes: Sequence[Notes]) -> None:
        """Write what running jobs have said; what is said of jobs that are not this worker's any more is dropped."""
        with self._write() as connection:
            write_notes(connection, notes)

    def transaction(self, job: ClaimedJob, last_notes: Callable[[ClaimedJob], Sequence[Notes]]) -> JobTransaction:
        """Return a transaction for the handler of this job; it commits with the job's ending and its last notes."""
        from ..effects import JobTransaction

        self._open()
        return JobTransaction(self._database, job, self._clock, last_notes)

    def release(self, claimed: Sequence[ClaimedJob], notes: Sequence[Notes] = ()) -> int:
        """Give claimed jobs back, their attempt unspent; return how many were still ours."""
        with self._write() as connection:
            write_notes(connection, notes)
            return held_jobs.release(connection, ((job.id, job.claim_token) for job in claimed), self._clock.now_text())

    def release_unknown(self, worker_id: int, known: Mapping[int, int]) -> int:
        """Give back what the rows say this worker has claimed and it does not know of; `known` are tokens by job."""
        with self._read() as connection:
            claimed = held_jobs.claimed_by(connection, worker_id)
        unknown = [(job_id, token) for job_id, token in claimed.items() if known.get(job_id) != token]
        if not unknown:
            return 0
        with self._write() as connection:
            return held_jobs.release(connection, unknown, self._clock.now_text())

    def asked_to_stop(self, worker_id: int) -> set[int]:
        """Return the ids of the jobs that this worker has claimed and that are to be cancelled."""
        with self._read() as connection:
            return held_jobs.asked_to_stop(connection, worker_id)
