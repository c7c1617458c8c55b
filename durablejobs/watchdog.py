"""Watches over timeouts, from a thread of its own: while handlers compute and while the database is busy."""

from __future__ import annotations

import logging
import math
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final

from .clock import Clock
from .escaping import escaped
from .jobs import ClaimedJob

log = logging.getLogger("durablejobs.worker")

STUCK_AFTER: Final = 5.0
"""Seconds after which a run that was told to stop and goes on is reported as stuck."""
REPORT_EVERY: Final = 60.0
_ASK_AGAIN_AFTER: Final = 0.05

Claim = tuple[int, int]
"""A job's id and claim token: a job that was lost may run here a second time, beside its first run."""


class Watched:
    """One run with a timeout."""

    __slots__ = ("act_at", "interrupt", "is_interrupted", "job", "place", "timeout")

    def __init__(
        self, job: ClaimedJob, timeout: float, act_at: float, interrupt: Callable[[], bool], place: Callable[[], str]
    ) -> None:
        self.job = job
        self.timeout = timeout
        self.act_at = act_at
        """When there is something to do about it next, by the monotonic clock."""
        self.interrupt = interrupt
        """Tells the handler to stop; returns whether it was possible."""
        self.place = place
        """Returns where in its code the handler is."""
        self.is_interrupted = False


class Watchdog:
    """Interrupts runs that take longer than their timeouts, and reports those that go on all the same."""

    def __init__(self, clock: Clock, on_stuck: Callable[[ClaimedJob], None] | None = None) -> None:
        self._clock = clock
        self._on_stuck = on_stuck
        self._watched: dict[Claim, Watched] = {}
        self._stuck: set[Claim] = set()
        self._changed = threading.Condition()
        self._looks_at = math.inf
        self._is_stopped = False
        self._thread = threading.Thread(target=self._watch, name="durablejobs-watchdog", daemon=True)

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify()

    def watch(self, job: ClaimedJob, timeout: float, interrupt: Callable[[], bool], place: Callable[[], str]) -> None:
        """Watch over a run that begins now."""
        act_at = self._clock.monotonic() + timeout
        with self._changed:
            self._watched[_claim(job)] = Watched(job, timeout, act_at, interrupt, place)
            if act_at < self._looks_at:
                self._changed.notify()

    def release(self, job: ClaimedJob) -> None:
        """The run has ended."""
        with self._changed:
            del self._watched[_claim(job)]
            was_stuck = _claim(job) in self._stuck
            self._stuck.discard(_claim(job))
        if was_stuck:
            log.warning("job %d (%s) has ended at last", job.id, job.handler)

    def stuck(self) -> list[int]:
        """Return the ids of the jobs that were told to stop and go on."""
        with self._changed:
            return sorted(job_id for job_id, _ in self._stuck)

    def _watch(self) -> None:
        while not self._is_stopped:
            self.look()
            with self._changed:
                self._looks_at = min((each.act_at for each in self._watched.values()), default=math.inf)
                pause = self._looks_at - self._clock.monotonic()
                if pause > 0 and not self._is_stopped:
                    self._changed.wait(min(pause, threading.TIMEOUT_MAX))

    def look(self) -> None:
        """Do what is due now."""
        now = self._clock.monotonic()
        with self._changed:
            due = [each for each in self._watched.values() if each.act_at <= now]
        for each in due:  # without the lock, which the ending runs want: interrupting waits for their own
            if each.is_interrupted:
                self._report(each)
                each.act_at = now + REPORT_EVERY
            elif each.interrupt():
                each.is_interrupted = True
                each.act_at = now + STUCK_AFTER
            else:  # it has not quite begun, or has just ended
                each.act_at = now + _ASK_AGAIN_AFTER

    def _report(self, each: Watched) -> None:
        with self._changed:
            if self._watched.get(_claim(each.job)) is not each:
                return
            is_new = _claim(each.job) not in self._stuck
            self._stuck.add(_claim(each.job))
        log.error(
            "job %d (%s) is stuck: it goes on after its timeout of %g s, in %s; see docs/execution.md",
            each.job.id,
            each.job.handler,
            each.timeout,
            escaped(each.place()),
        )
        if is_new and self._on_stuck is not None:
            self._on_stuck(each.job)


def _claim(job: ClaimedJob) -> Claim:
    return job.id, job.claim_token


def place_of(thread: int) -> str:
    """Return where a thread is in its Python code: `file.py:12 (function)`."""
    return place_in(sys._current_frames().get(thread))


def place_in(frame: FrameType | None) -> str:
    """Return where a frame is in its code."""
    if frame is None:
        return "an unknown place"
    return f"{frame.f_code.co_filename}:{frame.f_lineno} ({frame.f_code.co_name})"
