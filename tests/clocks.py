"""The clock of these tests, at a moment that is the same each day."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from durablejobs import testing

START: Final = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


class ManualClock(testing.ManualClock):
    """A clock that stands still until a test moves it."""

    def __init__(self, start: datetime = START) -> None:
        super().__init__(start)
