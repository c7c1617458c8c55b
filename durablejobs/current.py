"""The job that runs here, for its handler."""

from __future__ import annotations

from collections.abc import Set
from contextvars import ContextVar
from typing import Any

from .jobs import ClaimedJob
from .outcomes import JobCancelled

_current: ContextVar[CurrentJob] = ContextVar("durablejobs_current_job")
enter = _current.set
"""Make this job the current one of the thread or task; returns what `leave` takes."""
leave = _current.reset


class CurrentJob:
    """The job that runs here, for its handler: `current_job()`."""

    __slots__ = ("_cancellations", "_claimed", "args", "kwargs")

    def __init__(
        self, claimed: ClaimedJob, args: list[Any], kwargs: dict[str, Any], cancellations: Set[int] = frozenset()
    ) -> None:
        self._claimed = claimed
        self._cancellations = cancellations
        self.args = args
        self.kwargs = kwargs

    @property
    def id(self) -> int:
        return self._claimed.id

    @property
    def handler(self) -> str:
        return self._claimed.handler

    @property
    def queue(self) -> str:
        return self._claimed.queue

    @property
    def priority(self) -> int:
        return self._claimed.priority

    @property
    def attempt(self) -> int:
        """Runs started so far, this one included: 1 = first."""
        return self._claimed.attempt

    @property
    def max_attempts(self) -> int:
        return self._claimed.max_attempts

    @property
    def crashes(self) -> int:
        """Earlier runs that ended with the death of their worker."""
        return self._claimed.crashes

    @property
    def is_last_attempt(self) -> bool:
        """Whether the job fails for good if this attempt fails."""
        return not self._claimed.has_attempt_left

    @property
    def meta(self) -> dict[str, Any]:
        """What the enqueuer gave along."""
        return self._claimed.decoded_meta()

    @property
    def cancelled(self) -> bool:
        """Whether somebody has asked this job to stop; known within a second."""
        return self._claimed.id in self._cancellations

    def check_cancelled(self) -> None:
        """Raise `JobCancelled` if somebody has asked this job to stop; let it through, and the job ends cancelled."""
        if self.cancelled:
            raise JobCancelled

    def __repr__(self) -> str:
        return f"<CurrentJob {self.id} {self.handler} attempt {self.attempt}>"


def current_job() -> CurrentJob:
    """Return the job that this handler runs for. Raises `LookupError` outside of a handler."""
    try:
        return _current.get()
    except LookupError:
        raise LookupError("no job runs here: current_job() is for use inside a handler") from None
