"""The heartbeat goes on whatever goes wrong; the rest of it is tested with real workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from durablejobs.errors import DatabaseBusyError
from durablejobs.heartbeat import Heartbeat
from durablejobs.store import Store

from .harness import wait_until


class FaultyStore:
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


def _beating(store: Any, interval: float = 0.01) -> Heartbeat:
    heartbeat = Heartbeat(cast("Store", store), 7, interval, 30)
    heartbeat.start()
    return heartbeat


@pytest.mark.parametrize("error", [DatabaseBusyError("jobs.db", 3), RuntimeError("nobody foresaw this")])
def test_the_heart_goes_on_after_an_error(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    store = FaultyStore(error, error)
    heartbeat = _beating(store)
    wait_until(lambda: len(store.beats) >= 2, "it beats again")
    heartbeat.stop()
    assert store.beats[0] == (7, 30)
    assert [("no heartbeat" in text, str(error.args[-1]) in text) for text in caplog.messages] == [(True, True)] * 2


def test_the_heart_notices_that_the_worker_is_not_registered_any_more() -> None:
    store = FaultyStore()
    heartbeat = _beating(store)
    assert heartbeat.is_registered
    store.is_registered = False
    wait_until(lambda: not heartbeat.is_registered, "it has noticed")
    heartbeat.stop()


def test_after_stop_it_does_not_beat() -> None:
    store = FaultyStore()
    heartbeat = _beating(store)
    wait_until(lambda: store.beats, "it beats")
    heartbeat.stop()
    beats = len(store.beats)
    _beating(other := FaultyStore()).stop()
    assert len(store.beats) == beats
    assert other.beats == []
