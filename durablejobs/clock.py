"""Time: what the rest of the code asks instead of asking the operating system.

Times are aware datetimes in UTC. In SQLite they are text, `YYYY-MM-DD HH:MM:SS.ffffff`, which sorts as it
reads and which SQLite's own date functions take. In PostgreSQL they are timestamps with time zone, by the server's
clock, which our connections read and write as the same text.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What tells the time; tests pass one that they can advance."""

    def now(self) -> datetime:
        """The time of day in UTC (aware). It may jump when somebody sets the clock."""
        ...

    def now_text(self) -> str:
        """The time of day as `to_text` writes it."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment; never jumps."""
        ...


class MomentWriter:
    """Writes moments that are close together as `to_text` would, from microseconds since 1970.

    Each job asks several times, and writing a datetime takes as long as a row: so the text of a second is kept.
    """

    def __init__(self) -> None:
        self._second = (-1, "")

    def __call__(self, microseconds: int) -> str:
        second, microsecond = divmod(microseconds, 1_000_000)
        known, text = self._second
        if second != known:
            text = time.strftime("%Y-%m-%d %H:%M:%S.", time.gmtime(second))
            self._second = second, text
        return f"{text}{microsecond:06d}"


class SystemClock:
    """The clock of the operating system."""

    def __init__(self) -> None:
        self._write = MomentWriter()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def now_text(self) -> str:
        return self._write(time.time_ns() // 1000)

    def monotonic(self) -> float:
        return time.monotonic()


def to_text(moment: datetime) -> str:
    """Return an aware UTC datetime as the database writes it: `2026-01-31 12:00:00.000000`."""
    return moment.isoformat(" ", "microseconds")[:26]


def from_text(text: str) -> datetime:
    """Return the aware UTC datetime that `to_text` wrote; fewer digits, as SQL writes them, are fine."""
    return datetime.fromisoformat(f"{text}+00:00")
