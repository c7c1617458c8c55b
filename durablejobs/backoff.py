"""How long a job waits before its next attempt."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from .errors import ConfigurationError

LONGEST_DELAY = 366 * 24 * 3600.0
"""No computed delay is longer than this, in seconds."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with jitter and a cap.

    The wait after attempt n is `base * factor ** (n - 1)` seconds, at most `cap`, then spread evenly over
    `±jitter` of itself, so that jobs that failed together do not come back together. With the defaults
    5 s, 10 s, 20 s … 1 h, twenty attempts last about ten hours.
    """

    base: float = 5.0
    factor: float = 2.0
    cap: float = 3600.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        for name, low, high in (("base", 0, LONGEST_DELAY), ("factor", 1, 100), ("cap", 0, LONGEST_DELAY)):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and low <= value <= high):
                raise ConfigurationError(f"backoff {name}", f"must be {low:g} to {high:g}, not {value!r}")
        jitter: object = self.jitter
        if not (isinstance(jitter, int | float) and 0 <= jitter <= 1):
            raise ConfigurationError("backoff jitter", f"must be 0 to 1, not {self.jitter!r}")

    def __call__(self, attempt: int) -> float:
        """Return the wait in seconds after this attempt (1 = first)."""
        delay = min(self.cap, self.base * self.factor ** self._capped_exponent(attempt))
        return delay * random.uniform(1 - self.jitter, 1 + self.jitter)

    def _capped_exponent(self, attempt: int) -> int:
        # Capped before the power: factor ** 1999 is no float.
        if self.factor <= 1 or self.base <= 0:
            return 0
        highest = math.log(min(max(self.cap / self.base, 1), 1e300), self.factor) + 1
        return min(attempt - 1, math.ceil(highest))


BackoffRule = Callable[[int], float]
"""A `Backoff`, or any plain function of the attempt (1 = first) that returns seconds."""


def delay_after(rule: BackoffRule, attempt: int) -> float:
    """Return the seconds that a rule asks for after this attempt, within 0 and a year.

    A user's function may return nonsense or raise; then the default backoff stands in, because a broken
    rule must not cost a job its next attempt.
    """
    try:
        delay = float(rule(attempt))
    except Exception:  # noqa: BLE001 - whatever a user's rule raises
        delay = math.nan
    if math.isnan(delay):
        delay = Backoff()(attempt)
    return min(max(delay, 0.0), LONGEST_DELAY)
