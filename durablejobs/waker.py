"""The worker's sleep: until a slot has finished, a signal came, somebody committed, or the time is up."""

from __future__ import annotations

import selectors
import socket
import time
from contextlib import suppress
from typing import Final

from .store.database import Watch

FINEST_WAIT: Final = 0.001
"""Seconds. The kernel's wait for descriptors counts whole milliseconds, rounded up: what is shorter is slept."""


class Waker:
    """Sleeps for one thread; others wake it. Waking is safe from signal handlers: it takes no lock."""

    def __init__(self) -> None:
        self._watch: Watch | None = None
        self._bell, self._button = socket.socketpair()
        self._bell.setblocking(False)
        self._button.setblocking(False)
        self._is_woken = False
        self._alone = selectors.DefaultSelector()
        self._alone.register(self._bell, selectors.EVENT_READ)
        self._watching = selectors.DefaultSelector()
        self._watching.register(self._bell, selectors.EVENT_READ)

    @property
    def is_watching(self) -> bool:
        """Whether it has a look-out."""
        return self._watch is not None

    def use(self, watch: Watch) -> None:
        """Sleep on this look-out from now on; `close` ends it. What was committed before is no news to it."""
        self._watch = watch
        if watch.descriptor is not None:
            self._watching.register(watch.descriptor, selectors.EVENT_READ)

    def wake(self) -> None:
        """End the sleep, or the next one at once."""
        if not self._is_woken:
            self._is_woken = True
            with suppress(OSError):  # closed at this moment: nobody sleeps any more
                self._button.send(b"!")

    def sleep(self, seconds: float) -> None:
        """Sleep until woken, at most so long."""
        if self._alone.select(seconds):
            self._rise()

    def sleep_watching(self, seconds: float) -> None:
        """Sleep until woken or somebody else has committed, at most so long; `use` must have given it a look-out."""
        watch = self._watch
        assert watch is not None
        until = time.monotonic() + seconds
        while not watch.changed():
            left = until - time.monotonic()
            if left <= 0:
                return
            pause = min(left, watch.ask_again_in())
            if pause < FINEST_WAIT:
                time.sleep(pause)
                pause = 0.0
            for key, _ in self._watching.select(pause):
                if key.fileobj is self._bell:
                    self._rise()
                    return
                watch.note_write()

    def _rise(self) -> None:
        # First empty the bell, then take the next ringing: the other way round one could be lost for ever.
        self._bell.recv(16)
        self._is_woken = False

    def close(self) -> None:
        """Give the descriptors back; whoever still rings, rings in vain."""
        self._is_woken = True
        self._alone.close()
        self._watching.close()
        if self._watch is not None:
            self._watch.close()
        self._bell.close()
        self._button.close()
