"""The worker's sleep: nothing that should end it is ever missed."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

import pytest

from durablejobs.store import Store
from durablejobs.store.sqlite import watch
from durablejobs.waker import Waker

from .conftest import Enqueue, RunPython, Sql
from .worker.harness import wait_until

pytestmark = pytest.mark.conformance

LONG = 30.0
"""Seconds of a sleep that something else has to end."""
SHORT = 10.0
"""Less than `LONG`, and much more than waking takes on a loaded machine."""


@pytest.fixture(params=["reports", "no reports"])
def waker(request: pytest.FixtureRequest, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Waker]:
    """A waker, on a platform that reports writes and on one that does not."""
    if request.param == "no reports":
        monkeypatch.setattr(watch, "_watch_writes", lambda _file: None)
    watched = store.watch_work()
    if store.database.path is None:  # a new connection to a server is news
        wait_until(watched.changed, "the server listens")
        watched.note_write()
    opened = Waker()
    opened.use(watched)
    yield opened
    opened.close()


@pytest.fixture(params=["sleep", "sleep_watching"])
def way(request: pytest.FixtureRequest) -> str:
    """Both ways to sleep."""
    return str(request.param)


def slept(waker: Waker, way: str, seconds: float) -> float:
    """Sleep; return how long it took."""
    started = time.monotonic()
    getattr(waker, way)(seconds)
    return time.monotonic() - started


def test_undisturbed_it_sleeps_the_time_it_was_given(waker: Waker, way: str) -> None:
    assert slept(waker, way, 0.05) >= 0.04


def test_no_time_is_no_sleep(waker: Waker, way: str) -> None:
    assert slept(waker, way, 0) < SHORT


def test_a_wake_before_the_sleep_ends_it_at_once(waker: Waker, way: str) -> None:
    waker.wake()
    assert slept(waker, way, LONG) < SHORT


def test_one_wake_ends_one_sleep_however_often_it_is_rung(waker: Waker, way: str) -> None:
    for _ in range(100_000):
        waker.wake()
    assert slept(waker, way, LONG) < SHORT
    assert slept(waker, way, 0.05) >= 0.04


def test_another_thread_ends_the_sleep(waker: Waker, way: str) -> None:
    ringing = threading.Timer(0.02, waker.wake)
    ringing.start()
    assert slept(waker, way, LONG) < SHORT
    ringing.join()


def test_a_signal_handler_ends_the_sleep(waker: Waker, way: str) -> None:
    def on_signal(_number: int, _frame: FrameType | None) -> None:
        waker.wake()

    before = signal.signal(signal.SIGUSR1, on_signal)
    main_thread = threading.get_ident()
    sending = threading.Timer(0.02, signal.pthread_kill, (main_thread, signal.SIGUSR1))
    try:
        sending.start()
        assert slept(waker, way, LONG) < SHORT
    finally:
        sending.join()
        signal.signal(signal.SIGUSR1, before)


def test_a_commit_of_this_process_ends_the_watching_sleep(waker: Waker, enqueue: Enqueue) -> None:
    committing = threading.Timer(0.02, enqueue)
    committing.start()
    assert slept(waker, "sleep_watching", LONG) < SHORT
    committing.join()


def test_a_commit_of_another_process_ends_the_watching_sleep(waker: Waker, store: Store, run_python: RunPython) -> None:
    code = "import sys, durablejobs; durablejobs.DurableJobs(sys.argv[1]).enqueue('mail')"
    enqueueing = threading.Thread(target=run_python, args=(code, store.location))
    enqueueing.start()
    assert slept(waker, "sleep_watching", LONG) < LONG
    enqueueing.join()


def test_a_commit_before_the_watching_sleep_ends_it_at_once(waker: Waker, sql: Sql) -> None:
    sql("INSERT INTO jobs(handler) VALUES ('mail')")
    assert slept(waker, "sleep_watching", LONG) < SHORT


def test_a_commit_does_not_end_the_sleep_that_does_not_watch(waker: Waker, enqueue: Enqueue) -> None:
    enqueue()
    assert slept(waker, "sleep", 0.05) >= 0.04


@pytest.mark.sqlite("about its log")
def test_writes_that_are_rolled_back_do_not_end_the_watching_sleep(waker: Waker, store: Store, sql: Sql) -> None:
    log = store.database.path.with_name("jobs.db-wal")
    size = log.stat().st_size
    sql("PRAGMA cache_size = 5")  # so that the log is written to before the commit
    sql("BEGIN IMMEDIATE")
    for _ in range(50):
        sql("INSERT INTO jobs(handler, args) VALUES ('mail', json_array(hex(zeroblob(3000))))")
    sql("ROLLBACK")
    assert log.stat().st_size > size
    assert slept(waker, "sleep_watching", 0.05) >= 0.04


def test_no_wake_is_lost_between_two_threads(waker: Waker) -> None:
    rounds, rung, heard = 10_000, 0, 0
    may_ring = threading.Semaphore(1)

    def ring() -> None:
        nonlocal rung
        for _ in range(rounds):
            assert may_ring.acquire(timeout=LONG)
            rung += 1
            waker.wake()

    ringing = threading.Thread(target=ring)
    ringing.start()
    while heard < rounds:
        assert slept(waker, "sleep", LONG) < LONG - 1, f"the wake after round {heard} was lost"
        if rung > heard:
            heard += 1
            may_ring.release()
    ringing.join()


def test_after_closing_ringing_is_in_vain_and_no_error(store: Store) -> None:
    waker = Waker()
    waker.use(store.watch_work())
    waker.close()
    waker.wake()


@pytest.mark.sqlite("nothing of it is about the database")
def test_who_wakes_at_the_moment_of_the_close_is_not_told(waker: Waker) -> None:
    waker.close()
    waker._is_woken = False  # he had looked just before
    waker.wake()
