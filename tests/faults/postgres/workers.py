"""Workers in threads of the test itself, so that faults can be set around each of their requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from durablejobs import DurableJobs, DurableJobsError, Worker, WorkerConfig, WorkerReport

PATIENCE: Final = 60.0


class RunningWorker:
    """A worker that runs in a thread, and how it has ended."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.report: WorkerReport | None = None
        self.error: DurableJobsError | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.report = self._worker.run()
        except DurableJobsError as error:
            self.error = error

    @property
    def has_ended(self) -> bool:
        return not self._thread.is_alive()

    def finish(self) -> WorkerReport:
        """Wait for its end, which has to be a good one; return its report."""
        self._thread.join(PATIENCE)
        assert self.error is None, self.error
        assert self.report is not None, "the worker does not end"
        return self.report

    def stop(self) -> WorkerReport:
        """Ask it to end."""
        self._worker.stop()
        return self.finish()

    def give_up(self) -> None:
        """Let it go, however it ends."""
        self._worker.stop()
        self._worker.stop()
        self._thread.join(PATIENCE)


@contextmanager
def running(app: DurableJobs, **config: Any) -> Iterator[RunningWorker]:
    """Run a worker of this application until the block ends."""
    worker = RunningWorker(app.worker(WorkerConfig(**{"concurrency": 2, "interval": 0.1} | config)))
    try:
        yield worker
    finally:
        worker.give_up()
