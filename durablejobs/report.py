"""What a worker tells about its runs: counts, log lines, and to whoever listens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from .clock import Clock, from_text
from .ending_log import EndingLog
from .events import EventName, Listeners
from .jobs import ClaimedJob
from .outcomes import Crashed, Outcome, Snoozed, failure_of
from .statuses import FINAL, Status
from .store.endings import ERROR_SHOWN, Ending, Settlement
from .store.rescues import Rescued

EndingListener = Callable[[Ending, Status | None], None]
"""Is told of a run that has ended, with its outcome, and of the job's new status; None: the claim was lost."""


@dataclass(slots=True)
class WorkerReport:
    """What a worker has done."""

    succeeded: int = 0
    not_succeeded: int = 0
    """Runs that failed, snoozed or were cancelled."""
    lost: int = 0
    """Runs whose claim was gone at their end; another worker has the job."""
    given_back: int = 0
    """Running jobs that a hurried stop left unfinished, for others to run."""

    @property
    def runs(self) -> int:
        return self.succeeded + self.not_succeeded + self.lost


class Reporter:
    """Counts what has been settled, logs what did not succeed, and tells who listens."""

    def __init__(self, clock: Clock, listeners: Listeners, on_ending: EndingListener | None = None) -> None:
        self.report = WorkerReport()
        self._clock = clock
        self._log = EndingLog(clock)
        self._listeners = listeners
        self._on_ending = on_ending

    def note(self, endings: Sequence[Ending], settlement: Settlement) -> None:
        """Take endings that have been settled."""
        # By token: a worker that was paused may have begun a job, lost it, claimed it again and run it twice meanwhile.
        lost = {(job.id, job.claim_token) for job in settlement.lost}
        self.report.lost += len(lost)
        self.report.not_succeeded += len(settlement.statuses)
        self.report.succeeded += len(endings) - len(lost) - len(settlement.statuses)
        is_quiet = self._on_ending is None and not self._listeners.want("succeeded")
        if is_quiet and not lost and not settlement.statuses:
            return
        for ending in endings:
            job = ending.job
            is_lost = (job.id, job.claim_token) in lost
            status = None if is_lost else settlement.statuses.get(job.id, Status.SUCCEEDED)
            self._log.note(ending, status)
            if status is not None:
                self._tell(ending, status)
            if self._on_ending is not None:
                self._on_ending(ending, status)

    def _tell(self, ending: Ending, status: Status) -> None:
        name = event_name(ending.outcome, status)
        if not self._listeners.want(name):
            return
        job, failure, ended_at = ending.job, failure_of(ending.outcome), from_text(ending.ended_at)
        self._listeners.tell(
            name,
            ended_at,
            job_id=job.id,
            handler=job.handler,
            queue=job.queue,
            attempt=job.attempt,
            seconds=(ended_at - from_text(ending.started_at)).total_seconds(),
            error=None if failure is None else failure.message[:ERROR_SHOWN],
        )

    def note_rescued(self, rescued: Sequence[Rescued]) -> None:
        """Take what was given back for workers that are gone."""
        for each in rescued:
            name: EventName = "rescued" if each.status is Status.PENDING else _final_event(each.status)
            self._listeners.tell(
                name,
                self._clock.now(),
                job_id=each.job_id,
                handler=each.handler,
                queue=each.queue,
                attempt=each.attempt,
                error=each.error,
            )

    def note_stuck(self, job: ClaimedJob) -> None:
        """Take a run that goes on although it was told to stop."""
        self._listeners.tell(
            "stuck", self._clock.now(), job_id=job.id, handler=job.handler, queue=job.queue, attempt=job.attempt
        )

    def note_worker(self, name: Literal["worker_started", "worker_stopped"], worker: str) -> None:
        """Take the worker's own beginning and end."""
        self._listeners.tell(name, self._clock.now(), worker=worker)

    def flush(self) -> None:
        """Say what was left out of the log."""
        self._log.flush()


def event_name(outcome: Outcome, status: Status) -> EventName:
    """Return the event that a run has come to, from its outcome and the status that its job has got by it."""
    if status in FINAL:
        return _final_event(status)
    if isinstance(outcome, Crashed):
        return "rescued"
    return "snoozed" if isinstance(outcome, Snoozed) else "retrying"


def _final_event(status: Status) -> EventName:
    match status:
        case Status.SUCCEEDED:
            return "succeeded"
        case Status.CANCELLED:
            return "cancelled"
        case _:
            return "failed"
