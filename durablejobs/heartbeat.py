"""The worker's heartbeat: a thread of its own, so that no busy handler and no long claim delays it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from .clock import Clock
from .errors import DatabaseError
from .store.doors.workers import Workers

log = logging.getLogger("durablejobs.worker")


class Rhythm:
    """Tells since when a worker's own beats have come without a long break, by its monotonic clock.

    Whoever could not write for long, or was paused, cannot say of others that they were silent: it may have been the
    same for them.
    """

    def __init__(self, interval: float, lease: float, clock: Clock) -> None:
        """A break is long before others, whose last beat was up to an interval earlier, are silent for a lease."""
        self._longest_break = (interval + lease) / 2
        self._clock = clock
        self._since = self._last = clock.monotonic()

    def beat(self) -> None:
        """Note a beat that has been written."""
        self._since = self.steady_since()
        self._last = self._clock.monotonic()

    def steady_since(self) -> float:
        """Return the end of the last long break: now, if it is not over."""
        now = self._clock.monotonic()
        return now if now - self._last > self._longest_break else self._since


class Heartbeat:
    """Extends the lease of a worker's jobs until it is stopped."""

    def __init__(
        self,
        workers: Workers,
        worker_id: int,
        interval: float,
        lease: float,
        clock: Clock,
        stuck: Callable[[], list[int]] = list,
    ) -> None:
        """`stuck` returns the ids of the jobs that are."""
        self._workers = workers
        self._worker_id = worker_id
        self._interval = interval
        self._lease = lease
        self._stuck = stuck
        self.rhythm: Final = Rhythm(interval, lease, clock)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="durablejobs-heartbeat", daemon=True)
        self.is_registered = True
        """False once the worker's row is gone: others have taken it for dead."""

    def start(self) -> None:
        """Start beating."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and wait for a beat that is under way."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _beat(self) -> None:
        wait = self._interval
        while not self._stopped.wait(wait):
            try:
                self.is_registered = self._workers.heartbeat(self._worker_id, self._lease, self._stuck())
                self.rhythm.beat()
                wait = self._interval
            except Exception as error:  # noqa: BLE001 - a heart that stops for ever would cost all jobs their lease
                log.warning("no heartbeat: %s", error if isinstance(error, DatabaseError) else repr(error))
                wait = self._interval / 4  # sooner: the lease goes on running out
