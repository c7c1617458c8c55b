"""The server's time of day, known here without asking each time.

Many machines work on one queue, and their clocks differ. So every moment in the rows is by one clock, the server's:
each transaction learns it when it begins, and between two of them this machine's monotonic clock counts on. A machine
whose time of day is ten minutes wrong does everything at the right time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from ...clock import MomentWriter
from ...errors import DatabaseError

_STALE_AFTER: Final = 60 * 10**9
"""Nanoseconds; two monotonic clocks part by less than a hundredth of a second in a minute."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ServerClock:
    """Tells the server's time; `ask` begins a transaction, which calls `learn`."""

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask
        self._write = MomentWriter()
        self._asked_at = 0
        self._learned: tuple[int, int] | None = None
        """The server's time in microseconds since 1970, and when that was by our monotonic clock in nanoseconds."""

    def learn(self, microseconds: int, asked_at: int) -> None:
        """Take the server's time that has just come in, and was asked for at this moment of our monotonic clock.

        By now it is later there, by what the answer was under way: at most what all of it took. If what was counted
        lies in between, it comes from a faster answer, and stays.
        """
        now = time.monotonic_ns()
        if self._learned is not None:
            then, at = self._learned
            counted = then + (now - at) // 1000
            microseconds = min(max(counted, microseconds), microseconds + (now - asked_at) // 1000)
        self._learned = microseconds, now

    def _microseconds(self) -> int:
        if self._learned is None:
            self._ask()
        elif time.monotonic_ns() - max(self._learned[1], self._asked_at) > _STALE_AFTER:
            self._asked_at = time.monotonic_ns()
            with suppress(DatabaseError):  # out of reach: this machine's monotonic clock goes on counting
                self._ask()
        assert self._learned is not None
        then, at = self._learned
        return then + (time.monotonic_ns() - at) // 1000

    def now(self) -> datetime:
        return _EPOCH + timedelta(microseconds=self._microseconds())

    def now_text(self) -> str:
        return self._write(self._microseconds())

    def monotonic(self) -> float:
        return time.monotonic()
