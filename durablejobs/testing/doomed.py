"""The worker that `crash_worker()` starts: it kills itself with SIGKILL at the point that the test has chosen.

`python -m durablejobs.testing.doomed ORDER`, the order being a JSON object.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ..app import DurableJobs
from ..clock import to_text
from ..jobs import Notes
from ..running_limits import NO_LIMITS, RunningLimit
from ..store import Store
from ..store.access import Access
from ..store.doors.claims import ClaimRequest, Claims, Turn
from ..store.endings import Ending


class _RunningClock:
    """Goes on from the moment at which the test's clock stands."""

    def __init__(self, start: datetime) -> None:
        self._start = start - timedelta(seconds=time.monotonic())

    def now(self) -> datetime:
        return self._start + timedelta(seconds=time.monotonic())

    def now_text(self) -> str:
        return to_text(self.now())

    def monotonic(self) -> float:
        return time.monotonic()


class _DoomedClaims(Claims):
    """The door of a worker that dies between two transactions."""

    def __init__(self, access: Access, at: str | None, handler: str | None) -> None:
        super().__init__(access)
        self._at = at
        self._handler = handler

    def turn(
        self,
        finished: Sequence[Ending],
        *requests: ClaimRequest,
        most: int | None = None,
        notes: Sequence[Notes] = (),
        limits: Mapping[str, RunningLimit] = NO_LIMITS,
    ) -> Turn:
        """Settle and claim as always, up to the point of death."""
        last_words = [ending for ending in finished if self._is_chosen(ending.job.handler)]
        if self._at == "end" and last_words:
            self.settle(requests[0].worker_id, [ending for ending in finished if ending not in last_words])
            _die()
        turn = super().turn(finished, *requests, most=most, notes=notes, limits=limits)
        if self._at == "start" and any(self._is_chosen(job.handler) for job in turn.claimed):
            _die()
        return turn

    def _is_chosen(self, handler: str) -> bool:
        return self._handler in (None, handler)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(order: dict[str, Any]) -> None:
    """Import the application, move it to the test's database and work."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for module in order["modules"]:
        importlib.import_module(module)
    module, _, name = order["app"].partition(":")
    jobs: DurableJobs = getattr(importlib.import_module(module), name)
    store = Store(order["database"], clock=_RunningClock(datetime.fromisoformat(order["now"]).astimezone(UTC)))
    store.claims = _DoomedClaims(store.access, order["at"], order["handler"])
    with jobs.lent_to(store):
        jobs.work(concurrency=1, burst=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
