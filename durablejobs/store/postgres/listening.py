"""Noticing new work and ends of jobs: by LISTEN where it is possible, by asking where it is not."""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import psycopg

from .connecting import DriverConnection

log = logging.getLogger("durablejobs.worker")

FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0
"""Seconds between two tries to connect again."""


class Listener:
    """Hears on a connection of its own that jobs have become pending.

    A thread waits on it, and connects again when the server is gone, so that the worker's loop never waits for the
    network here. It may miss what happens meanwhile; so a new connection counts as news, and the worker's interval
    stays as the net.
    """

    def __init__(self, connect: Callable[[], DriverConnection], channel: str) -> None:
        self._connect = connect
        self._channel = channel
        self._has_news = False
        self._ear, self._mouth = socket.socketpair()
        self._ear.setblocking(False)
        self._mouth.setblocking(False)
        self._stop, self._stopper = os.pipe()
        self._is_stopped = False
        self.descriptor: int | None = self._ear.fileno()
        self._thread = threading.Thread(target=self._listen_for_ever, name="durablejobs-listen", daemon=True)
        self._thread.start()

    def changed(self) -> bool:
        """Return whether something was heard since the last call."""
        heard, self._has_news = self._has_news, False
        return heard

    def note_write(self) -> None:
        """Empty what made the descriptor readable."""
        with suppress(BlockingIOError):
            self._ear.recv(4096)

    def ask_again_in(self) -> float:
        """Return that nobody needs to ask: what is heard is reported."""
        return 3600.0

    def close(self) -> None:
        """End the look-out; a try to connect that is under way ends by itself."""
        # In this order: the thread closes the pipe as soon as it knows, and its number may be another file's then.
        os.write(self._stopper, b"!")
        self._is_stopped = True
        self._thread.join(timeout=1.0)

    def _listen_for_ever(self) -> None:
        pause = FIRST_PAUSE
        while not self._is_stopped:
            try:
                with self._connect() as connection:
                    connection.execute(f'LISTEN "{self._channel}"')
                    self._tell()
                    pause = FIRST_PAUSE
                    self._listen(connection)
            except psycopg.Error as error:
                if not self._is_stopped:
                    log.debug("not listening: %s", error)
            self._wait_for_stop(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        self._give_back()

    def _listen(self, connection: DriverConnection) -> None:
        pgconn = connection.pgconn
        while not self._is_stopped:
            select.select([connection.fileno(), self._stop], [], [])
            pgconn.consume_input()
            heard = False
            while pgconn.notifies() is not None:
                heard = True
            if heard:
                self._tell()

    def _tell(self) -> None:
        self._has_news = True
        with suppress(BlockingIOError):
            self._mouth.send(b"!")

    def _wait_for_stop(self, seconds: float) -> None:
        if not self._is_stopped:
            select.select([self._stop], [], [], seconds)

    def _give_back(self) -> None:
        self._ear.close()
        self._mouth.close()
        os.close(self._stop)
        os.close(self._stopper)


class Asking:
    """Nothing reports: says that there may be news after ever longer pauses."""

    descriptor: int | None = None

    def __init__(self, first: float, longest: float) -> None:
        self._pause = first
        self._longest = longest
        self._ask_at = time.monotonic() + self._pause

    def changed(self) -> bool:
        """Return whether it is time to ask."""
        if time.monotonic() < self._ask_at:
            return False
        self._pause = min(1.2 * self._pause, self._longest)
        self._ask_at = time.monotonic() + self._pause
        return True

    def note_write(self) -> None:
        """Nothing is ever reported."""

    def ask_again_in(self) -> float:
        """Return the seconds until it is time to ask."""
        return max(0.0, self._ask_at - time.monotonic())

    def close(self) -> None:
        """Nothing is open."""
