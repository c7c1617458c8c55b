"""What a worker tells about its runs: counts, log lines, and to whoever listens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .clock import Clock
from .ending_log import EndingLog
from .statuses import Status
from .store.endings import Ending, Settlement

EndingListener = Callable[[Ending, Status | None], None]
"""Is told of a run that has ended, and of the job's new status; None: the claim was lost."""


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
    """Counts what has been settled, logs what did not succeed, and tells the listener."""

    def __init__(self, clock: Clock, on_ending: EndingListener | None) -> None:
        self.report = WorkerReport()
        self._log = EndingLog(clock)
        self._on_ending = on_ending

    def note(self, endings: Sequence[Ending], settlement: Settlement) -> None:
        """Take endings that have been settled."""
        lost = {job.id for job in settlement.lost}
        self.report.lost += len(lost)
        self.report.not_succeeded += len(settlement.statuses)
        self.report.succeeded += len(endings) - len(lost) - len(settlement.statuses)
        if not lost and not settlement.statuses and self._on_ending is None:
            return
        for ending in endings:
            status = None if ending.job.id in lost else settlement.statuses.get(ending.job.id, Status.SUCCEEDED)
            self._log.note(ending, status)
            if self._on_ending is not None:
                self._on_ending(ending, status)

    def flush(self) -> None:
        """Say what was left out of the log."""
        self._log.flush()
