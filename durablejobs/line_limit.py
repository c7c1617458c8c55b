"""A bound on log lines: so many a second, the rest is counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

MOST_PER_SECOND: Final = 20


class LineLimit:
    """Says whether a line may still be written in this second; `say_left_out` is told how many were not."""

    def __init__(self, say_left_out: Callable[[int], None], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._say_left_out = say_left_out
        self._monotonic = monotonic
        self._second = monotonic()
        self._lines = 0
        self._left_out = 0

    def allows(self) -> bool:
        """Take one more line into account; return whether it may be written."""
        now = self._monotonic()
        if now - self._second >= 1:
            self.flush()
            self._second, self._lines = now, 0
        self._lines += 1
        if self._lines <= MOST_PER_SECOND:
            return True
        self._left_out += 1
        return False

    def flush(self) -> None:
        """Say how many lines were left out."""
        if self._left_out:
            self._say_left_out(self._left_out)
            self._left_out = 0
