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
_JITTER: Final = 50_000
"""Microseconds that an answer may have been longer under way than another: not a clock that was set back."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ServerClock:
    """Tells the server's time; `ask` begins a transaction, which calls `learn`."""

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask
        self._write = MomentWriter()
        self._asked_at = 0
        self._learned: tuple[int, int] | None = None
        """The server's time in microseconds since 1970, and when that was by our monotonic clock in nanoseconds."""

    def learn(self, microseconds: int) -> None:
        """Take the server's time that has just come in."""
        now = time.monotonic_ns()
        if self._learned is not None:
            then, at = self._learned
            believed = then + (now - at) // 1000
            if 0 < believed - microseconds < _JITTER:
                microseconds = believed
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
