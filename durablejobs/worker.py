"""The worker: a loop of turns, with maintenance and sleep between them, from its registration to its end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
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
from .membership import Membership
from .queues import parse_queues
from .report import EndingListener, Reporter, WorkerReport
from .resources import Resources
from .signals import stop_on_signals
from .store import Store
from .turns import STALE_AFTER, Turns
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
        with ExitStack() as ends:
            self._start(ends)
            self._executor.resources_of(Mode.PROCESS)  # children set them up: only whether they are there
            self._resources.set_up(self._executor.resources_of(Mode.THREAD, Mode.ASYNC))
            stops = stop_on_signals(self.drain if is_supervised else self.stop)
            with stops, kept_log(self._executor.keeps_logs):
                while not self._is_done():
                    self._persist(self._turns.take)
                    self._maintain()
                    self._wait()
                self._drain()
        if self._failure is not None:
            raise self._failure
        return self._reporter.report

    # Beginning and end

    def _start(self, ends: ExitStack) -> None:
        """Register, and start the parts; `ends` ends them, the last first, however far they have come."""
        concurrency = sum(lane_sizes(self._executor, self._config).values())
        self._membership = Membership(self._store, self._config.name, self._queues, concurrency)
        self._membership.join()
        ends.callback(self._sign_off)
        self._waker = waker = Waker()
        ends.callback(waker.close)
        self._build(waker)
        ends.callback(self._look_what_is_left)
        ends.callback(self._reporter.flush)
        ends.callback(self._watchdog.stop)
        ends.callback(self._journal.close)
        ends.callback(self._lanes.stop)
        ends.callback(self._heartbeat.stop)
        ends.callback(self._resources.take_down)
        self._lanes.start()
        self._watchdog.start()
        self._heartbeat.start()
        log.info(
            "worker %s started: database %s, queues %s, concurrency %d",
            self._membership.name,
            self._store.location,
            self._queues,
            self._config.concurrency,
        )
        for finding in examine_surroundings(self._store):
            log.log(finding.severity, "%s. %s `durablejobs doctor` says more", finding.what, finding.remedy)
        self._reporter.note_worker("worker_started", self._membership.name)
        self._maintain()

    def _build(self, waker: Waker) -> None:
        """Make the parts of a registered worker; none of them runs yet."""
        config, worker_id = self._config, self._membership.worker_id
        self._watchdog = Watchdog(self._clock, self._reporter.note_stuck)
        self._lanes = LaneBuilder(
            self._executor,
            config,
            self._clock,
            waker.wake,
            self._watchdog,
            self._membership.seat,
            self._child_program,
            self._journal.accept,
            self._fail,
        ).build(self._queues)
        self._resources = Resources(self._lanes.await_on_loop)
        self._executor.resources = self._resources.values
        self._isolation = Isolation(config.max_crashes, lambda job: self._lanes.mode_of(job) is Mode.PROCESS)
        self._turns = Turns(
            self._store,
            worker_id,
            config,
            self._executor,
            self._lanes,
            self._isolation,
            self._journal,
            self._reporter,
        )
        self._heartbeat = Heartbeat(
            self._store.workers,
            worker_id,
            config.heartbeat,
            config.lease,
            self._clock,
            self._watchdog.stuck,
        )
        self._rescuer = Rescuer(
            self._store,
            worker_id,
            config.lease,
            config.max_crashes,
            self._clock,
            self._heartbeat.rhythm.steady_since,
        )
        self._pruner = Pruner(self._store, config.retention, config.prune_interval, self._clock)
        path = self._store.database.path
        self._log_alarm = LogAlarm(str(path), self._clock) if path is not None else None
        self._next_rescue = self._clock.monotonic()

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

    def _look_what_is_left(self) -> None:
        """Find out what of this worker stays when it signs off."""
        is_left = bool(self._turns.held)
        # A handler that was given back but is still running goes on marking its seat until the process ends.
        self._membership.keeps_seat = is_left or bool(self._lanes.running())
        self._membership.keeps_row = is_left
        if is_left:  # the register says whose they are, for those who rescue them
            log.warning("%d claimed jobs are left for other workers to rescue", len(self._turns.held))
        elif self._turns.must_reconcile:  # a commit may have claimed, unknown to us, what nobody would rescue soon
            self._reconcile_at_last()

    def _reconcile_at_last(self) -> None:
        try:
            self._turns.reconcile()
        except DatabaseError as error:
            self._membership.keeps_row = True
            log.warning("could not sign off: %s", error)  # others see the free seat and clean up

    def _sign_off(self) -> None:
        self._membership.leave()
        self._reporter.note_worker("worker_stopped", self._membership.name)
        log.info("worker %s ended after %d runs", self._membership.name, self._reporter.report.runs)

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
                self._membership.join_again()
                self._heartbeat.is_registered = True
        except DatabaseReplacedError:
            raise
        except DatabaseError as error:
            log.warning("maintenance is put off: %s", error)

    def _heed(self) -> None:
        """Do what a person has asked this worker to do, by `durablejobs workers`."""
        was_quiet, wish = self._turns.is_quiet, self._membership.ask_for_wish()
        self._turns.is_quiet = wish == "quiet"
        if wish == "stop" and not self._stop_requests:
            log.info("somebody has asked this worker to stop")
            self.drain()
        if self._turns.is_quiet != was_quiet:
            log.info("somebody has asked this worker to %s", "begin nothing more" if self._turns.is_quiet else "go on")
            if self._turns.is_quiet:
                self._turns.give_back_unstarted()

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
