"""The worker: a loop of turns, with maintenance and sleep between them, from its registration to its end."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from typing import Final

from .children import ChildProgram
from .clock import Clock
from .config import WorkerConfig
from .doctor.examination import examine_surroundings
from .doctor.log_alarm import LogAlarm
from .errors import (
    CommitUnknownError,
    DatabaseError,
    DatabaseReplacedError,
    DatabaseUnreachableError,
    DurableJobsError,
)
from .events import Listeners
from .executor import Executor
from .handler_options import Mode
from .heartbeat import Heartbeat
from .isolation import Isolation
from .journal import Journal
from .kept_log import kept_log
from .lane_builder import LaneBuilder, lane_sizes
from .maintenance import Pruner, Rescuer
from .queues import parse_queues
from .records import Wish
from .report import EndingListener, Reporter, WorkerReport
from .resources import Resources
from .signals import stop_on_signals
from .store import Store
from .store.workers import Registration
from .turns import STALE_AFTER, Turns
from .version import __version__
from .waker import Waker
from .watchdog import Watchdog

log = logging.getLogger("durablejobs.worker")

RESCUE_EVERY: Final = 0.5
"""Seconds between two looks for dead workers, whose jobs run again within 2 s, and for jobs that are to stop."""
_LONGEST_PAUSE: Final = 5.0
"""Seconds between two tries while the database reports errors, at most."""


class Worker:
    """Claims jobs of one database and runs them, until it is stopped or done.

    Listeners are told in the worker's own thread, of endings after the turn that has settled them. `on_ending` is told
    the same with the whole outcome, for tests.
    """

    def __init__(
        self,
        store: Store,
        executor: Executor,
        config: WorkerConfig,
        child_program: ChildProgram,
        journal: Journal,
        listeners: Listeners,
        on_ending: EndingListener | None = None,
    ) -> None:
        self._store = store
        self._executor = executor
        self._config = config
        self._child_program = child_program
        self._journal = journal
        self._clock: Clock = store.clock
        self._reporter = Reporter(store.clock, listeners, on_ending)
        self._queues = parse_queues(config.queues)
        self._stop_requests = 0
        self._failure: DurableJobsError | None = None
        self._waker: Waker | None = None
        self._wish: Wish | None = None

    def stop(self) -> None:
        """Ask the worker to end: the first call lets running jobs finish, the second gives them back."""
        self._ask_to_stop(self._stop_requests + 1)

    @property
    def stop_requests(self) -> int:
        """How often it was asked to end; from 2 on it does not wait for running jobs."""
        return self._stop_requests

    def drain(self) -> None:
        """Ask the worker to end when the running jobs have, however often that is asked."""
        self._ask_to_stop(1)

    def hurry(self) -> None:
        """Ask the worker to end now, and to give the running jobs back."""
        self._ask_to_stop(2)

    def _ask_to_stop(self, requests: int) -> None:
        self._stop_requests = max(requests, self._stop_requests)
        if self._waker is not None:
            self._waker.wake()

    def _fail(self, error: DurableJobsError) -> None:
        """A lane cannot work: end as after a first signal, and raise this."""
        self._failure = error
        self.drain()

    def run(self, *, is_supervised: bool = False) -> WorkerReport:
        """Work until stopped or done; return what was done. If it is supervised, signals never make it hurry.

        Raises `DatabaseReplacedError` when the file disappears, the last `DatabaseError` when the database cannot be
        written for the length of a lease (then the leases are over anyway), and `ChildStartError` when child
        processes cannot be started. A PostgreSQL server that is out of reach does not end it: it waits for it.
        """
        self._store.open()
        self._store.handlers.publish_redactions(self._executor.redactions())
        self._store.handlers.publish_limits(self._executor.running_limits(), self._executor.handler_names())
        self._start()
        try:
            self._executor.resources_of(Mode.PROCESS)  # children set them up: only whether they are there
            self._resources.set_up(self._executor.resources_of(Mode.THREAD, Mode.ASYNC))
            stops = stop_on_signals(self.drain if is_supervised else self.stop)
            with stops, kept_log(self._executor.log_keepers):
                while not self._is_done():
                    self._persist(self._turns.take)
                    self._maintain()
                    self._wait()
                self._drain()
        finally:
            self._end()
        if self._failure is not None:
            raise self._failure
        return self._reporter.report

    # Beginning and end

    def _start(self) -> None:
        self._worker_id, self._seat = self._store.workers.register(self._describe)
        self._build()
        self._lanes.start()
        self._watchdog.start()
        self._heartbeat.start()
        log.info(
            "worker %s started: database %s, queues %s, concurrency %d",
            self._name(),
            self._store.location,
            self._queues,
            self._config.concurrency,
        )
        for finding in examine_surroundings(self._store):
            log.log(finding.severity, "%s. %s `durablejobs doctor` says more", finding.what, finding.remedy)
        self._reporter.note_worker("worker_started", self._name())
        self._maintain()

    def _build(self) -> None:
        """Make the parts of a registered worker; none of them runs yet."""
        config = self._config
        self._waker = Waker()
        self._watchdog = Watchdog(self._clock, self._reporter.note_stuck)
        self._lanes = LaneBuilder(
            self._executor,
            config,
            self._clock,
            self._waker.wake,
            self._watchdog,
            self._seat,
            self._child_program,
            self._journal.accept,
            self._fail,
        ).build(self._queues)
        self._resources = Resources(self._lanes.await_on_loop)
        self._executor.resources = self._resources.values
        self._isolation = Isolation(config.max_crashes, lambda job: self._lanes.mode_of(job) is Mode.PROCESS)
        self._turns = Turns(
            self._store,
            self._worker_id,
            config,
            self._executor,
            self._lanes,
            self._isolation,
            self._journal,
            self._reporter,
        )
        self._heartbeat = Heartbeat(
            self._store.workers, self._worker_id, config.heartbeat, config.lease, self._clock, self._watchdog.stuck
        )
        self._rescuer = Rescuer(
            self._store,
            self._worker_id,
            config.lease,
            config.max_crashes,
            self._clock,
            self._heartbeat.rhythm.steady_since,
        )
        self._pruner = Pruner(self._store, config.retention, config.prune_interval, self._clock)
        path = self._store.database.path
        self._log_alarm = LogAlarm(str(path), self._clock) if path is not None else None
        self._next_rescue = self._clock.monotonic()

    def _name(self) -> str:
        return self._config.name or f"{socket.gethostname()}:{os.getpid()}"

    def _describe(self, seat: int | None, now: str) -> Registration:
        return Registration(
            name=self._name(),
            host=socket.gethostname(),
            pid=os.getpid(),
            seat=seat,
            queues=str(self._queues),
            concurrency=sum(lane_sizes(self._executor, self._config).values()),
            version=__version__,
            started_at=now,
            heartbeat_at=now,
            asked_to=self._wish,
        )

    def _drain(self) -> None:
        """Give back what has not begun, let the rest finish within the grace period, settle it."""
        self._persist(self._turns.give_back_unstarted)
        if self._lanes.in_flight:
            log.info("stopping: %d running jobs may take %g s to finish", self._lanes.in_flight, self._config.grace)
        until = self._clock.monotonic() + self._config.grace
        while self._lanes.in_flight and self._clock.monotonic() < until and self._stop_requests < 2:
            self._sleep(min(max(0.0, until - self._clock.monotonic()), RESCUE_EVERY))
            self._persist(self._turns.settle)
            self._persist(self._turns.give_back_unstarted)
            self._persist(self._turns.stop_cancelled)
        self._persist(self._turns.settle)
        unfinished = self._lanes.running()
        if unfinished:
            log.warning("stopped: %d running jobs are given back and will run again", len(unfinished))
            self._reporter.report.given_back = len(unfinished)
            self._lanes.stop()  # first: what can be stopped does not run beside its next attempt
            self._turns.set_aside(unfinished)
            self._persist(self._turns.give_back)

    def _end(self) -> None:
        self._resources.take_down()
        self._heartbeat.stop()
        self._lanes.stop()
        self._journal.close()
        self._watchdog.stop()
        if self._waker is not None:
            self._waker.close()
        self._reporter.flush()
        if self._turns.held:  # the register says whose they are, for those who rescue them
            log.warning("%d claimed jobs are left for other workers to rescue", len(self._turns.held))
        else:
            self._sign_off()
        self._reporter.note_worker("worker_stopped", self._name())
        log.info("worker %s ended after %d runs", self._name(), self._reporter.report.runs)

    def _sign_off(self) -> None:
        try:
            if self._turns.must_reconcile:  # a commit may have claimed, unknown to us, what nobody would rescue soon
                self._turns.reconcile()
            self._store.workers.unregister(self._worker_id)
        except DatabaseError as error:
            log.warning("could not sign off: %s", error)  # others see the free seat and clean up
        # A handler that was given back but is still running goes on marking its seat until the process ends.
        if self._seat is not None and not self._lanes.running():
            self._seat.leave()

    def _is_done(self) -> bool:
        if self._stop_requests:
            return True
        if self._turns.has_jobs:
            return False
        if self._config.max_jobs is not None and self._reporter.report.runs >= self._config.max_jobs:
            return True
        return self._config.burst and self._lanes.is_drained

    def _persist(self, act: Callable[[], object]) -> None:
        """Do it, and do it again while the database reports errors: what has been run is kept until it is stored.

        A server that is out of reach is no reason to die: jobs run on, and the claim tokens tell afterwards what was
        lost. Only a worker that has been asked to stop gives up on it, as on every other error, after a lease.
        """
        give_up: float | None = None  # a lease after the first error, however long the first try took to report it
        pause = 0.1
        while True:
            try:
                act()
                return
            except DatabaseReplacedError:
                raise
            except DatabaseError as error:
                self._turns.must_reconcile = True
                if isinstance(error, CommitUnknownError):
                    log.warning("%s; looking again", error)
                now = self._clock.monotonic()
                if give_up is None or (isinstance(error, DatabaseUnreachableError) and not self._stop_requests):
                    give_up = now + pause + self._config.lease
                if now + pause > give_up or self._stop_requests > 1:
                    raise
                log.error("%s; trying again in %.1f s", error, pause)
            self._sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    # Between turns

    def _maintain(self) -> None:
        if self._clock.monotonic() < self._next_rescue:
            return
        self._next_rescue = self._clock.monotonic() + RESCUE_EVERY
        self._lanes.look()
        if self._log_alarm is not None:
            self._log_alarm.look()
        try:
            self._heed()
            self._turns.stop_cancelled()
            self._reporter.note_rescued(self._rescuer.run())
            if self._pruner.run():
                self._next_rescue = self._clock.monotonic()  # there may be more: go on in the next turn
            if not self._heartbeat.is_registered:
                self._register_again()
        except DatabaseReplacedError:
            raise
        except DatabaseError as error:
            log.warning("maintenance is put off: %s", error)

    def _heed(self) -> None:
        """Do what a person has asked this worker to do, by `durablejobs workers`."""
        was_quiet, self._wish = self._turns.is_quiet, self._store.workers.asked_to(self._worker_id, self._wish)
        self._turns.is_quiet = self._wish == "quiet"
        if self._wish == "stop" and not self._stop_requests:
            log.info("somebody has asked this worker to stop")
            self.drain()
        if self._turns.is_quiet != was_quiet:
            log.info("somebody has asked this worker to %s", "begin nothing more" if self._turns.is_quiet else "go on")
            if self._turns.is_quiet:
                self._turns.give_back_unstarted()

    def _register_again(self) -> None:
        seat = self._seat.number if self._seat is not None else None
        self._store.workers.register_again(self._worker_id, self._describe(seat, self._clock.now_text()))
        self._heartbeat.is_registered = True

    def _sleep(self, seconds: float) -> None:
        if self._waker is not None:
            self._waker.sleep(seconds)

    def _wait(self) -> None:
        """Sleep until there is something to do."""
        if self._may_claim_more() or self._is_done() or self._waker is None:
            return
        if not self._lanes.has_free_place:
            self._waker.sleep(self._pause())
        elif self._waker.is_watching:
            self._waker.sleep_watching(self._pause())
        else:
            self._begin_to_watch(self._waker)

    def _begin_to_watch(self, waker: Waker) -> None:
        """Look out for commits from now on, and take another turn first: what came before is no news.

        Not before there is a free place and nothing to claim: to end it takes the kernel 20 ms, for each burst.
        """
        try:
            waker.use(self._store.watch_work())
        except DatabaseReplacedError:
            raise
        except (DatabaseError, OSError) as error:
            log.warning("no look-out for new jobs: %s; trying again", error)
            waker.sleep(self._pause())  # which is the net

    def _may_claim_more(self) -> bool:
        return self._turns.most_wanted() > 0 and self._lanes.is_worth_a_claim()

    def _pause(self) -> float:
        """Seconds until something is due by the clock."""
        pause = min(self._config.interval, STALE_AFTER if self._lanes.waiting else RESCUE_EVERY)
        pause = min(pause, self._next_rescue - self._clock.monotonic())
        if (
            self._turns.next_due is not None and self._turns.most_wanted() and self._lanes.room()
        ):  # else it would be over at once, again and again
            pause = min(pause, (self._turns.next_due - self._clock.now()).total_seconds())
        return max(0.0, pause)
