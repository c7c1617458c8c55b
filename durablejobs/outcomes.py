"""What a run came to: the values the executor returns, and what a handler raises to choose one.

| a handler …               | outcome     | the job becomes                                          |
|---------------------------|-------------|----------------------------------------------------------|
| returns                   | `Succeeded` | succeeded                                                |
| … and its transaction has | `Settled`   | succeeded: that is committed already                     |
| raises any exception      | `Errored`   | scheduled for its next attempt; failed when none is left |
| raises `Retry(delay)`     | `Errored`   | the same, after this delay instead of the backoff's      |
| raises `Fail(reason)`     | `GaveUp`    | failed, at once                                          |
| raises `Snooze(delay)`    | `Snoozed`   | scheduled, without spending the attempt                  |
| raises `Cancel(reason)`   | `Stopped`   | cancelled                                                |
| runs into its timeout     | `Errored`   | as after any exception                                   |
| stops because it is asked | `Stopped`   | cancelled                                                |
| ends its child process    | `Crashed`   | pending again; failed after `max_crashes`                |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from .backoff import LONGEST_DELAY
from .errors import ConfigurationError


class HandlerSignal(Exception):
    """The base of what a handler raises to choose its ending; not a `DurableJobsError`."""


class Retry(HandlerSignal):
    """Raise it to try again later: this attempt is spent, the delay (seconds) replaces the backoff."""

    def __init__(self, reason: str = "", *, delay: float | None = None) -> None:
        self.reason = reason
        self.delay = None if delay is None else _checked_delay("Retry", delay)
        super().__init__(reason)


class Snooze(HandlerSignal):
    """Raise it to run again after a delay (seconds) without spending an attempt."""

    def __init__(self, delay: float) -> None:
        self.delay = _checked_delay("Snooze", delay)
        super().__init__(delay)


class Fail(HandlerSignal):
    """Raise it to give up now: the job fails, whatever attempts are left."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Cancel(HandlerSignal):
    """Raise it to end the job as cancelled."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason)


class JobTimeout(BaseException):
    """Raised in a handler that has run longer than its timeout; one that catches it should clean up and end.

    Like `asyncio.CancelledError` not an `Exception`, so that `except Exception` in a handler does not eat it.
    """


class JobCancelled(BaseException):
    """Raised in a handler whose job is to stop: by `check_cancelled()`, and in a child process by itself."""


def _checked_delay(what: str, delay: object) -> float:
    if not isinstance(delay, int | float) or math.isnan(delay) or not 0 <= delay <= LONGEST_DELAY:
        raise ConfigurationError(f"{what} delay", f"must be 0 to {LONGEST_DELAY:g} seconds, not {delay!r}")
    return float(delay)


class Succeeded(NamedTuple):
    """The handler ran to its end; `result` is JSON text, or None for a handler that returned None."""

    result: str | None = None


class Settled(NamedTuple):
    """The handler ran to its end, and its own transaction has written that it succeeded: nothing is left to write."""

    result: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong in one attempt, as text that is safe to store and to show."""

    kind: str
    """`exception`, `retry`, `fail`, `timeout`, `unknown_handler`, `bad_arguments`, `not_awaited`, `cancel`, `crash`."""
    message: str
    traceback: str | None = None


@dataclass(frozen=True, slots=True)
class Errored:
    """The attempt failed; try again after `delay` seconds if an attempt is left."""

    failure: Failure
    delay: float


@dataclass(frozen=True, slots=True)
class GaveUp:
    """The attempt failed and no further one makes sense."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Snoozed:
    """The handler asked to run again after `delay` seconds; the attempt is not spent."""

    delay: float


@dataclass(frozen=True, slots=True)
class Stopped:
    """The handler ended the job as cancelled."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Crashed:
    """The child process that ran the job died; the attempt is not spent."""

    failure: Failure
    gives_up: bool
    """Whether that was one crash too many."""


Outcome = Succeeded | Settled | Errored | GaveUp | Snoozed | Stopped | Crashed


def failure_of(outcome: Outcome) -> Failure | None:
    """Return what went wrong in a run, if anything did."""
    return None if isinstance(outcome, Succeeded | Settled | Snoozed) else outcome.failure
