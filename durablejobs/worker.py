"""The worker: a loop that settles, promotes and claims in one transaction a turn, and runs the jobs in slots."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from types import FrameType
from typing import Final

from .clock import Clock
from .config import WorkerConfig
from .doctor.examination import examine_surroundings
from .ending_log import EndingLog
from .errors import CommitUnknownError, DatabaseError, DatabaseReplacedError
from .executor import Executor
from .heartbeat import Heartbeat
from .isolation import Isolation
from .jobs import ClaimedJob
from .maintenance import Pruner, Rescuer
from .queues import parse_queues
from .read_ahead import ReadAhead
from .slots import ThreadSlots
from .statuses import Status
from .store import Store
from .store.endings import Ending, Settlement
from .store.store import ClaimRequest
from .store.workers import Registration
from .version import __version__
from .waker import Waker

log = logging.getLogger("durablejobs.worker")

RESCUE_EVERY: Final = 0.5
"""Seconds between two looks for dead workers; their jobs run again within 2 s."""
STALE_AFTER: Final = 0.1
"""Jobs claimed ahead are a few hundredths of a second of work: what waits longer than this is given back for others."""
_LONGEST_PAUSE: Final = 5.0
"""Seconds between two tries while the database reports errors, at most."""

EndingListener = Callable[[Ending, Status | None], None]
"""Is told of a run that has ended, and of the job's new status; None: the claim was lost."""


@dataclass(slots=True)
class WorkerReport:
    """What a worker has done."""

    succeeded: int = 0
    not_succeeded: int = 0
    """Runs that failed, snoozed or were cancelled."""
    lost: int = 0
    """Runs whose claim was gone at their end; another worker has the job."""
    given_back: int = 0
    """Running jobs that a hurried stop left unfinished, for others to run."""

    @property
    def runs(self) -> int:
        return self.succeeded + self.not_succeeded + self.lost


class Worker:
    """Claims jobs of one database and runs them, until it is stopped or done.

    `on_ending` is called in the worker's thread after each settled turn with the endings and what became of them.
    """

    def __init__(
        self,
        store: Store,
        executor: Executor,
        config: WorkerConfig,
        on_ending: EndingListener | None = None,
    ) -> None:
        self._store = store
        self._executor = executor
        self._config = config
        self._clock: Clock = store.clock
        self._on_ending = on_ending
        self._queues = parse_queues(config.queues)
        self._orders = self._queues.orders()
        self._report = WorkerReport()
        self._stop_requests = 0
        self._waker: Waker | None = None
        self._isolation = Isolation(config.max_crashes)
        self._read_ahead = ReadAhead(config.concurrency)
        self._ending_log = EndingLog(store.clock)
        self._unsettled: list[Ending] = []
        self._claimed_ids: set[int] = set()
        self._must_reconcile = False
        self._is_queue_empty = False
        self._next_due: datetime | None = None

    def stop(self) -> None:
        """Ask the worker to end: the first call lets running jobs finish, the second gives them back."""
        self._stop_requests += 1
        if self._waker is not None:
            self._waker.wake()

    def run(self) -> WorkerReport:
        """Work until stopped or done; return what was done.

        Raises `DatabaseReplacedError` when the file disappears, and the last `DatabaseError` when the database
        cannot be written for the length of a lease: then the leases are over anyway.
        """
        self._store.open()
        self._start()
        try:
            with self._signals():
                while not self._is_done():
                    self._persist(self._turn)
                    self._maintain()
                    self._wait()
                self._drain()
        finally:
            self._end()
        return self._report

    # Beginning and end

    def _start(self) -> None:
        config = self._config
        self._worker_id, self._seat = self._store.register(self._describe)
        self._watch = self._store.watch()
        self._waker = Waker(self._watch)
        self._slots = ThreadSlots(config.concurrency, self._executor.run, self._seat, self._clock, self._waker.wake)
        self._heartbeat = Heartbeat(self._store, self._worker_id, config.heartbeat, config.lease)
        self._rescuer = Rescuer(self._store, self._worker_id, config.lease, config.max_crashes, self._clock)
        self._pruner = Pruner(self._store, config.retention, config.prune_interval, self._clock)
        self._next_rescue = self._clock.monotonic()
        self._slots.start()
        self._heartbeat.start()
        log.info(
            "worker %s started: database %s, queues %s, concurrency %d",
            self._name(),
            self._store.location,
            self._queues,
            config.concurrency,
        )
        for finding in examine_surroundings(self._store.location):
            log.warning("%s. %s `durablejobs doctor` says more", finding.what, finding.remedy)
        self._maintain()

    def _name(self) -> str:
        return self._config.name or f"{socket.gethostname()}:{os.getpid()}"

    def _describe(self, seat: int | None, now: str) -> Registration:
        return Registration(
            name=self._name(),
            host=socket.gethostname(),
            pid=os.getpid(),
            seat=seat,
            queues=str(self._queues),
            concurrency=self._config.concurrency,
            version=__version__,
            started_at=now,
            heartbeat_at=now,
        )

    def _drain(self) -> None:
        """Give back what has not begun, let the rest finish within the grace period, settle it."""
        self._give_back(self._slots.take_unstarted() + self._isolation.take_waiting())
        if self._slots.in_flight:
            log.info("stopping: %d running jobs may take %g s to finish", self._slots.in_flight, self._config.grace)
        until = self._clock.monotonic() + self._config.grace
        while self._slots.in_flight and self._clock.monotonic() < until and self._stop_requests < 2:
            self._sleep(max(0.0, until - self._clock.monotonic()))
            self._persist(self._settle)
        self._persist(self._settle)
        unfinished = self._slots.running()
        if unfinished:
            log.warning("stopped: %d running jobs are given back and will run again", len(unfinished))
            self._report.given_back = len(unfinished)
            self._give_back(unfinished)

    def _give_back(self, claimed: list[ClaimedJob]) -> None:
        if claimed:
            self._persist(lambda: self._store.release(claimed))
            given_back = {job.id for job in claimed}
            self._claimed_ids -= given_back
            self._isolation.ended(given_back)

    def _end(self) -> None:
        self._heartbeat.stop()
        self._slots.stop()
        if self._waker is not None:
            self._waker.close()
        self._watch.close()
        self._ending_log.flush()
        if self._claimed_ids:  # the register says whose they are, for those who rescue them
            log.warning("%d claimed jobs are left for other workers to rescue", len(self._claimed_ids))
        else:
            self._sign_off()
        log.info("worker %s ended after %d runs", self._name(), self._report.runs)

    def _sign_off(self) -> None:
        try:
            self._store.unregister(self._worker_id)
        except DatabaseError as error:
            log.warning("could not sign off: %s", error)  # others see the free seat and clean up
        # A handler that was given back but is still running goes on marking its seat until the process ends.
        if self._seat is not None and not self._slots.running():
            self._seat.leave()

    # One turn

    def _is_done(self) -> bool:
        if self._stop_requests:
            return True
        if self._slots.unfinished or self._isolation.is_active or self._unsettled:
            return False
        if self._config.max_jobs is not None and self._report.runs >= self._config.max_jobs:
            return True
        return self._config.burst and self._is_queue_empty

    def _turn(self) -> None:
        """Settle, promote, claim; hand over what was claimed."""
        self._store.check_identity()
        if self._must_reconcile:
            self._store.release_unknown(self._worker_id, self._claimed_ids)
            self._must_reconcile = False
        self._return_stale()
        wanted = self._wanted()
        self._unsettled += self._slots.take_finished()
        if not self._unsettled and not self._is_worth_a_claim(wanted):
            return
        order, quotas = self._queues.quotas(self._orders, wanted) if wanted else ((), ())
        request = ClaimRequest(self._worker_id, order, wanted, self._config.lease, quotas)
        turn = self._store.turn(self._unsettled, request)
        self._conclude(turn.settlement)
        self._accept(turn.claimed)
        self._is_queue_empty = len(turn.claimed) < wanted

    def _is_worth_a_claim(self, wanted: int) -> bool:
        if not wanted:
            return False
        has_work, self._next_due = self._store.peek()
        self._is_queue_empty = not has_work
        return has_work

    def _wanted(self) -> int:
        """How many jobs to claim now."""
        if self._isolation.is_active:
            return 0
        wanted = self._config.concurrency + self._read_ahead.jobs - self._slots.in_flight
        if self._config.max_jobs is not None:
            begun = self._report.runs + len(self._unsettled) + self._slots.unfinished
            wanted = min(wanted, self._config.max_jobs - begun)
        return max(0, wanted)

    def _accept(self, claimed: list[ClaimedJob]) -> None:
        """Hand over to the slots what was claimed."""
        self._claimed_ids.update(job.id for job in claimed)
        self._slots.submit(self._isolation.hold_back(claimed))
        if not self._slots.in_flight:
            self._slots.submit(self._isolation.next_alone())

    def _return_stale(self) -> None:
        """Give back what was claimed ahead when the slots turn out to be busy with something slow."""
        if self._slots.waiting and self._clock.monotonic() - self._slots.last_submit > STALE_AFTER:
            self._read_ahead.forget()
            self._give_back(self._slots.take_unstarted())

    def _settle(self) -> None:
        self._unsettled += self._slots.take_finished()
        if self._unsettled:
            self._conclude(self._store.settle(self._worker_id, self._unsettled))

    def _conclude(self, settlement: Settlement) -> None:
        """Count, log and forget what has been settled."""
        endings, self._unsettled = self._unsettled, []
        self._read_ahead.learn(endings)
        ended = {ending.job.id for ending in endings}
        self._claimed_ids -= ended
        self._isolation.ended(ended)
        lost = {job.id for job in settlement.lost}
        self._report.lost += len(lost)
        self._report.not_succeeded += len(settlement.statuses)
        self._report.succeeded += len(endings) - len(lost) - len(settlement.statuses)
        if lost or settlement.statuses or self._on_ending is not None:
            for ending in endings:
                status = None if ending.job.id in lost else settlement.statuses.get(ending.job.id, Status.SUCCEEDED)
                self._ending_log.note(ending, status)
                if self._on_ending is not None:
                    self._on_ending(ending, status)

    def _persist(self, act: Callable[[], object]) -> None:
        """Do it, and do it again while the database reports errors: what has been run is kept until it is stored."""
        give_up = self._clock.monotonic() + self._config.lease
        pause = 0.1
        while True:
            try:
                act()
                return
            except DatabaseReplacedError:
                raise
            except DatabaseError as error:
                self._must_reconcile = True
                if isinstance(error, CommitUnknownError):
                    log.warning("%s; looking again", error)
                if self._clock.monotonic() + pause > give_up or self._stop_requests > 1:
                    raise
                log.error("%s; trying again in %.1f s", error, pause)
            self._sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    # Between turns

    def _maintain(self) -> None:
        if self._clock.monotonic() < self._next_rescue:
            return
        self._next_rescue = self._clock.monotonic() + RESCUE_EVERY
        try:
            self._rescuer.run()
            if self._pruner.run():
                self._next_rescue = self._clock.monotonic()  # there may be more: go on in the next turn
            if not self._heartbeat.is_registered:
                self._register_again()
        except DatabaseReplacedError:
            raise
        except DatabaseError as error:
            log.warning("maintenance is put off: %s", error)

    def _register_again(self) -> None:
        seat = self._seat.number if self._seat is not None else None
        self._store.register_again(self._worker_id, self._describe(seat, self._clock.now_text()))
        self._heartbeat.is_registered = True

    def _sleep(self, seconds: float) -> None:
        if self._waker is not None:
            self._waker.sleep(seconds)

    def _wait(self) -> None:
        """Sleep until there is something to do."""
        if self._may_claim_more() or self._is_done() or self._waker is None:
            return
        if self._slots.in_flight < self._config.concurrency:
            self._waker.sleep_watching(self._pause())
        else:
            self._waker.sleep(self._pause())

    def _may_claim_more(self) -> bool:
        return not self._is_queue_empty and self._wanted() > 0

    def _pause(self) -> float:
        """Seconds until something is due by the clock."""
        pause = min(self._config.interval, STALE_AFTER if self._slots.waiting else RESCUE_EVERY)
        pause = min(pause, self._next_rescue - self._clock.monotonic())
        if self._next_due is not None and self._wanted():  # else it would be over at once, again and again
            pause = min(pause, (self._next_due - self._clock.now()).total_seconds())
        return max(0.0, pause)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT; only a process's main thread may ask for that."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.stop()
