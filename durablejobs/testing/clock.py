"""A clock that stands still until a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ..clock import to_text


class ManualClock:
    """Both times move together by `advance`; `set` moves the time of day alone, as an administrator would."""

    def __init__(self, start: datetime) -> None:
        self._now = start.astimezone(UTC)
        self._monotonic = 1000.0

    def now(self) -> datetime:
        """The time of day in UTC."""
        return self._now

    def now_text(self) -> str:
        """The same as text."""
        return to_text(self._now)

    def monotonic(self) -> float:
        """Seconds since some moment."""
        return self._monotonic

    def advance(self, seconds: float | timedelta) -> datetime:
        """Let time pass; return the new time of day."""
        passed = seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds)
        self._now += passed
        self._monotonic += passed.total_seconds()
        return self._now

    def set(self, moment: datetime) -> None:
        """Set the time of day; the monotonic time does not notice."""
        self._now = moment.astimezone(UTC)
