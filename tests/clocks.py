"""A clock that stands still until a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from durablejobs.clock import to_text

START: Final = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


class ManualClock:
    """Both times move together by `advance`; `set` moves the time of day alone, as an administrator would."""

    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self._monotonic = 1000.0

    def now(self) -> datetime:
        return self._now

    def now_text(self) -> str:
        return to_text(self._now)

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> datetime:
        """Let time pass; return the new time of day."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds
        return self._now

    def set(self, moment: datetime) -> None:
        """Set the time of day; the monotonic time does not notice."""
        self._now = moment
