"""Timeouts and stuck runs, by a clock that the tests move."""

from __future__ import annotations

import pytest

from durablejobs.jobs import ClaimedJob
from durablejobs.watchdog import REPORT_EVERY, STUCK_AFTER, Watchdog

from .clocks import ManualClock


def claimed(job_id: int, token: int = 1) -> ClaimedJob:
    return ClaimedJob(job_id, token, "mail", "default", "[]", "{}", 0, "", 1, 20, 0, None, "{}")


class Handler:
    """A run that can be told to stop; `hears` says whether it is there to be told."""

    def __init__(self) -> None:
        self.told = 0
        self.hears = True

    def interrupt(self) -> bool:
        self.told += self.hears
        return self.hears

    def place(self) -> str:
        return "handlers.py:7 (mail)"


@pytest.fixture
def stuck() -> list[int]:
    """The ids of the jobs that were said to be stuck."""
    return []


@pytest.fixture
def watchdog(clock: ManualClock, stuck: list[int]) -> Watchdog:
    return Watchdog(clock, lambda job: stuck.append(job.id))


@pytest.fixture
def handler() -> Handler:
    return Handler()


def watch(watchdog: Watchdog, handler: Handler, job: ClaimedJob, timeout: float = 10) -> None:
    watchdog.watch(job, timeout, handler.interrupt, handler.place)


def test_a_run_is_told_to_stop_when_its_time_is_up_and_only_once(
    watchdog: Watchdog, handler: Handler, clock: ManualClock
) -> None:
    watch(watchdog, handler, claimed(1))
    clock.advance(9.9)
    watchdog.look()
    assert handler.told == 0
    for _ in range(3):
        clock.advance(1)
        watchdog.look()
    assert handler.told == 1
    assert watchdog.stuck() == []


def test_a_run_that_has_ended_is_left_alone(watchdog: Watchdog, handler: Handler, clock: ManualClock) -> None:
    watch(watchdog, handler, claimed(1))
    watchdog.release(claimed(1))
    clock.advance(100)
    watchdog.look()
    assert handler.told == 0


def test_a_run_that_has_not_quite_begun_is_told_a_little_later(
    watchdog: Watchdog, handler: Handler, clock: ManualClock
) -> None:
    handler.hears = False
    watch(watchdog, handler, claimed(1), timeout=0.001)
    clock.advance(1)
    watchdog.look()
    handler.hears = True
    clock.advance(0.1)
    watchdog.look()
    assert handler.told == 1


def test_a_run_that_goes_on_is_reported_as_stuck_and_again_each_minute(
    watchdog: Watchdog, handler: Handler, clock: ManualClock, stuck: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    watch(watchdog, handler, claimed(7))
    clock.advance(10)
    watchdog.look()
    clock.advance(STUCK_AFTER)
    watchdog.look()
    assert watchdog.stuck() == stuck == [7]
    for _ in range(4):
        clock.advance(REPORT_EVERY / 2)
        watchdog.look()
    said = "job 7 (mail) is stuck: it goes on after its timeout of 10 s, in handlers.py:7 (mail)"
    assert [said in message for message in caplog.messages] == [True] * 3
    assert stuck == [7]
    watchdog.release(claimed(7))
    assert watchdog.stuck() == []
    assert caplog.messages[-1] == "job 7 (mail) has ended at last"


def test_a_lost_job_that_runs_here_a_second_time_is_watched_for_itself(
    watchdog: Watchdog, handler: Handler, clock: ManualClock
) -> None:
    second = Handler()
    watch(watchdog, handler, claimed(1, token=1))
    watch(watchdog, second, claimed(1, token=3))
    watchdog.release(claimed(1, token=1))
    clock.advance(10)
    watchdog.look()
    assert (handler.told, second.told) == (0, 1)


def test_its_thread_wakes_for_the_earliest_timeout(stuck: list[int]) -> None:
    import threading

    from durablejobs.clock import SystemClock

    watchdog, told = Watchdog(SystemClock()), threading.Event()

    def interrupt() -> bool:
        told.set()
        return True

    watchdog.start()
    watchdog.watch(claimed(1), 3600, lambda: True, lambda: "")
    watchdog.watch(claimed(2), 0.01, interrupt, lambda: "")
    assert told.wait(20)
    watchdog.stop()
