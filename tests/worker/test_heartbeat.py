"""The heartbeat goes on whatever goes wrong; the rest of it is tested with real workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from durablejobs.clock import SystemClock
from durablejobs.errors import DatabaseBusyError
from durablejobs.heartbeat import Heartbeat
from durablejobs.store.doors.workers import Workers

from .harness import wait_until


class FaultyWorkers:
    """Fails at first, then works."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.beats: list[tuple[int, float]] = []
        self.is_registered = True

    def heartbeat(self, worker_id: int, lease: float, stuck: Sequence[int]) -> bool:
        if self.errors:
            raise self.errors.pop(0)
        self.beats.append((worker_id, lease))
        return self.is_registered


def _beating(workers: Any, interval: float = 0.01) -> Heartbeat:
    heartbeat = Heartbeat(cast("Workers", workers), 7, interval, 30, SystemClock())
    heartbeat.start()
    return heartbeat


@pytest.mark.parametrize("error", [DatabaseBusyError("jobs.db", 3), RuntimeError("nobody foresaw this")])
def test_the_heart_goes_on_after_an_error(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    workers = FaultyWorkers(error, error)
    heartbeat = _beating(workers)
    wait_until(lambda: len(workers.beats) >= 2, "it beats again")
    heartbeat.stop()
    assert workers.beats[0] == (7, 30)
    assert [("no heartbeat" in text, str(error.args[-1]) in text) for text in caplog.messages] == [(True, True)] * 2


def test_the_heart_notices_that_the_worker_is_not_registered_any_more() -> None:
    workers = FaultyWorkers()
    heartbeat = _beating(workers)
    assert heartbeat.is_registered
    workers.is_registered = False
    wait_until(lambda: not heartbeat.is_registered, "it has noticed")
    heartbeat.stop()


def test_after_stop_it_does_not_beat() -> None:
    workers = FaultyWorkers()
    heartbeat = _beating(workers)
    wait_until(lambda: workers.beats, "it beats")
    heartbeat.stop()
    beats = len(workers.beats)
    _beating(other := FaultyWorkers()).stop()
    assert len(workers.beats) == beats
    assert other.beats == []
