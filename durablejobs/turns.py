"""A worker's turns: what has ended is settled, what is due is claimed and handed to the lanes.

Between them the worker holds jobs: those that it has claimed, and endings that are not settled yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from .config import WorkerConfig
from .executor import Executor
from .held_claims import HeldClaims
from .isolation import Isolation
from .jobs import ClaimedJob, Notes
from .journal import Journal
from .lanes import Lanes
from .report import Reporter
from .store import Store
from .store.doors.claims import ClaimRequest
from .store.endings import Ending, Settlement

STALE_AFTER: Final = 0.1
"""Jobs claimed ahead are a few hundredths of a second of work: what waits longer than this is given back for others."""

GIVEN_BACK_TOGETHER: Final = 500
"""Jobs in one transaction, so that it stays short."""


class Turns:
    """What a registered worker holds, and its transactions about that.

    What a transaction was to store is kept until one has: each of them can be repeated after an error.
    """

    def __init__(
        self,
        store: Store,
        worker_id: int,
        config: WorkerConfig,
        executor: Executor,
        lanes: Lanes,
        isolation: Isolation,
        journal: Journal,
        reporter: Reporter,
    ) -> None:
        self._store = store
        self._worker_id = worker_id
        self._config = config
        self._executor = executor
        self._lanes = lanes
        self._isolation = isolation
        self._journal = journal
        self._reporter = reporter
        self._clock = store.clock
        self._limits = executor.running_limits()
        self._unsettled: list[Ending] = []
        self._last_notes: list[Notes] = []
        """Of the runs whose endings are not settled."""
        self._set_aside: list[ClaimedJob] = []
        """What no lane has any more, and the database does not know yet to be given back."""
        self._notes_set_aside: list[Notes] = []
        self.held: Final = HeldClaims()
        self.is_quiet = False
        """Whether it begins nothing more, though it goes on."""
        self.must_reconcile = False
        """Whether a commit of unknown outcome may have claimed what this worker does not know of."""
        self._reconcile_at = self._clock.monotonic() + config.lease
        self.next_due: datetime | None = None
        """When the next scheduled job is due, as far as the last look could tell."""

    def take(self) -> None:
        """Settle, promote, claim; hand over what was claimed."""
        self._store.check_identity()
        if self.must_reconcile or self._clock.monotonic() >= self._reconcile_at:
            self.reconcile()
        self.set_aside(self._lanes.take_stale(self._clock.monotonic(), STALE_AFTER))
        self.give_back()
        self._take_finished()
        most = self.most_wanted()
        requests = self._lanes.requests(self._worker_id, self._config.lease, most)
        if self._unsettled:
            turn = self._store.claims.turn(
                self._unsettled, *requests, most=most, notes=self._last_notes, limits=self._limits
            )
            self._conclude(turn.settlement)
            self._accept(requests, turn.claimed, most)
        elif any(request.most for request in requests):
            self._take_idle(requests, most)

    def _take_idle(self, requests: Sequence[ClaimRequest], most: int) -> None:
        peek, claimed = self._store.claims.idle_turn(*requests, most=most, limits=self._limits)
        self.next_due = peek.next_due
        if peek.has_work:
            self._accept(requests, claimed, most)
        else:
            self._lanes.note_empty()

    def most_wanted(self) -> int:
        """How many jobs to claim now at most, whatever room there is."""
        if self._isolation.is_active or self.is_quiet:
            return 0
        if self._config.max_jobs is None:
            return self._lanes.room()
        begun = self._reporter.report.runs + len(self._unsettled) + self._lanes.unfinished
        return max(0, self._config.max_jobs - begun)

    def _accept(self, requests: Sequence[ClaimRequest], claimed: list[ClaimedJob], most: int) -> None:
        """Hand over to the lanes what was claimed."""
        self._lanes.note_claimed(requests, claimed, most)
        self.held.add(claimed)
        self._lanes.submit(self._isolation.hold_back(claimed))
        if not self._lanes.in_flight:
            self._lanes.submit(self._isolation.next_alone())

    def _take_finished(self) -> None:
        finished = self._lanes.take_finished()
        self._unsettled += finished
        self._last_notes += self._journal.take(ending.job for ending in finished)

    def settle(self) -> None:
        """Settle what has ended, and claim nothing."""
        self._take_finished()
        if self._unsettled:
            self._conclude(self._store.claims.settle(self._worker_id, self._unsettled, self._last_notes))

    def _conclude(self, settlement: Settlement) -> None:
        """Report and forget what has been settled."""
        endings, self._unsettled, self._last_notes = self._unsettled, [], []
        self._forget(ending.job for ending in endings)
        self._reporter.note(endings, settlement)

    def _forget(self, claimed: Iterable[ClaimedJob]) -> None:
        """These claims are over."""
        job_ids = self.held.end(claimed)
        self._executor.cancellations -= job_ids
        self._isolation.ended(job_ids)

    def give_back_unstarted(self) -> None:
        """Give back what has not begun."""
        self.set_aside(self._lanes.take_unstarted() + self._isolation.take_waiting())
        self.give_back()

    def set_aside(self, claimed: list[ClaimedJob]) -> None:
        """Keep claimed jobs that no lane has any more, to be given back, with what they have said so far."""
        if claimed:
            self._set_aside += claimed
            self._notes_set_aside += self._journal.take(claimed)

    def give_back(self) -> None:
        """Give back what is set aside, the attempts unspent; others write between one part of many and the next."""
        while self._set_aside:
            part = self._set_aside[:GIVEN_BACK_TOGETHER]
            self._store.claims.release(part, self._notes_set_aside)
            self._notes_set_aside = []
            del self._set_aside[: len(part)]
            self._forget(part)

    def reconcile(self) -> None:
        """Give back what a commit of unknown outcome has claimed for this worker without its knowing.

        Once more after each lease: what the network has kept back for long may still arrive at the server.
        """
        self._store.claims.release_unknown(self._worker_id, self.held.tokens)
        self.must_reconcile = False
        self._reconcile_at = self._clock.monotonic() + self._config.lease

    def stop_cancelled(self) -> None:
        """Tell the lanes which of their jobs somebody has asked to stop."""
        if not self._lanes.in_flight:
            return
        asked = self.held.tokens.keys() & self._store.claims.asked_to_stop(self._worker_id)
        if asked:
            self._executor.cancellations |= asked
            self._lanes.cancel(asked)

    @property
    def has_jobs(self) -> bool:
        """Whether jobs are waiting here, running, not settled, or not given back."""
        return bool(self._lanes.unfinished or self._isolation.is_active or self._unsettled or self._set_aside)
