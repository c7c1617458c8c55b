"""Time: what the rest of the code asks instead of asking the operating system.

Times are aware datetimes in UTC. In SQLite they are text, `YYYY-MM-DD HH:MM:SS.ffffff`, which sorts as it
reads and which SQLite's own date functions take.
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

    def monotonic(self) -> float:
        """Seconds since some moment; never jumps."""
        ...


class SystemClock:
    """The clock of the operating system."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


def to_text(moment: datetime) -> str:
    """Return an aware UTC datetime as the database writes it: `2026-01-31 12:00:00.000000`."""
    return moment.isoformat(" ", "microseconds")[:26]


def from_text(text: str) -> datetime:
    """Return the aware UTC datetime that `to_text` wrote; fewer digits, as SQL writes them, are fine."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
