"""The worker's log lines about runs that did not succeed: one each, but never a flood."""

from __future__ import annotations

import logging
from typing import Final

from .clock import Clock
from .escaping import escaped
from .line_limit import LineLimit
from .outcomes import Failure, Snoozed, failure_of
from .statuses import Status
from .store.endings import Ending

log = logging.getLogger("durablejobs.worker")

_LONGEST_REASON: Final = 300
_WORDS: Final = {Status.SCHEDULED: "will be retried", Status.PENDING: "will run again"}


class EndingLog:
    """Logs endings, a bounded number of lines per second."""

    def __init__(self, clock: Clock) -> None:
        self._limit = LineLimit(_say_left_out, clock.monotonic)

    def note(self, ending: Ending, status: Status | None) -> None:
        """Log a run that did not succeed; `status` None: its claim was lost."""
        if status is Status.SUCCEEDED:
            return
        if not self._limit.allows():  # all of it is in `job_errors`
            return
        if status is None:
            log.warning("job %d: the claim was lost, its ending changes nothing", ending.job.id)
        else:
            _log_line(ending, status)

    def flush(self) -> None:
        """Say how many lines were left out."""
        self._limit.flush()


def _say_left_out(count: int) -> None:
    log.warning("… and %d more runs that did not succeed; see `durablejobs list`", count)


def _log_line(ending: Ending, status: Status) -> None:
    job, outcome = ending.job, ending.outcome
    if isinstance(outcome, Snoozed):
        log.info("job %d (%s) snoozed for %g s", job.id, job.handler, outcome.delay)
        return
    word = _WORDS.get(status, status.value)
    failure = failure_of(outcome)
    reason = "" if failure is None else _reason(failure)
    log.warning("job %d (%s) attempt %d/%d %s%s", job.id, job.handler, job.attempt, job.max_attempts, word, reason)


def _reason(failure: Failure) -> str:
    first_line = failure.message.split("\n", 1)[0] or failure.kind
    return f": {escaped(first_line[:_LONGEST_REASON])}"
