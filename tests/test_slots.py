"""The threads that run jobs: in order, all of them, and each marked while it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue

import pytest

from durablejobs.clock import to_text
from durablejobs.jobs import ClaimedJob
from durablejobs.outcomes import Errored, Outcome, Stopped, Succeeded
from durablejobs.slots import ThreadSlots

from .clocks import ManualClock
from .conftest import RunPython

PATIENCE = 60.0
"""Seconds after which a test gives up; none takes so long."""


def claimed(job_id: int) -> ClaimedJob:
    return ClaimedJob(job_id, 1, "mail", "default", "[]", "{}", 0, "", 1, 20, 0, None, "{}")


def claimed_many(count: int) -> list[ClaimedJob]:
    return [claimed(job_id) for job_id in range(1, count + 1)]


class Handlers:
    """Runs that begin when a slot takes them and end when the test says so."""

    def __init__(self) -> None:
        self.begun: SimpleQueue[int] = SimpleQueue()
        self._may_end: SimpleQueue[None] = SimpleQueue()
        self.is_free = False
        self.cannot_begin = False
        self.cancelled: list[int] = []
        self.closed = 0
        self.tidied: list[int] = []
        self.accident: BaseException | None = None

    def run(self, job: ClaimedJob) -> Outcome | None:
        if self.cannot_begin:
            return None
        if self.accident is not None:
            raise self.accident
        self.begun.put(job.id)
        if not self.is_free:
            self._may_end.get(timeout=PATIENCE)
        return Succeeded(str(job.id))

    def tidy_up(self, job: ClaimedJob) -> None:
        self.tidied += [job.id]

    def cancel(self, job_id: int) -> None:
        self.cancelled.append(job_id)

    def stop(self) -> None:
        pass

    def close(self) -> None:
        self.closed += 1

    def end(self, count: int = 1) -> None:
        for _ in range(count):
            self._may_end.put(None)

    def next_begun(self) -> int:
        return self.begun.get(timeout=PATIENCE)


class Marks:
    """What the slots say they run."""

    def __init__(self) -> None:
        self.now: dict[int, int] = {}

    def mark(self, slot: int, job_id: int) -> None:
        self.now[slot] = job_id


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


@pytest.fixture
def woken() -> threading.Semaphore:
    """Released once for each run that has ended."""
    return threading.Semaphore(0)


@pytest.fixture
def marks() -> Marks:
    return Marks()


StartSlots = Callable[[int], ThreadSlots]


@pytest.fixture
def start_slots(
    handlers: Handlers, marks: Marks, woken: threading.Semaphore, clock: ManualClock
) -> Iterator[StartSlots]:
    started: list[ThreadSlots] = []

    def start(count: int) -> ThreadSlots:
        slots = ThreadSlots([handlers] * count, marks.mark, clock, woken.release)
        slots.start()
        started.append(slots)
        return slots

    yield start
    for slots in started:
        slots.take_unstarted()
        slots.stop()
    handlers.end(1000)


def wait_for(woken: threading.Semaphore, count: int) -> None:
    for _ in range(count):
        assert woken.acquire(timeout=PATIENCE)


def test_one_slot_runs_jobs_in_the_order_they_are_handed_over(
    start_slots: StartSlots, handlers: Handlers, woken: threading.Semaphore
) -> None:
    handlers.is_free = True
    slots = start_slots(1)
    slots.submit([claimed(5), claimed(3), claimed(9)])
    slots.submit([claimed(1)])
    wait_for(woken, 4)
    assert [handlers.next_begun() for _ in range(4)] == [5, 3, 9, 1]
    assert [ending.job.id for ending in slots.take_finished()] == [5, 3, 9, 1]


def test_many_slots_begin_jobs_in_order_and_run_as_many_at_once_as_there_are_slots(
    start_slots: StartSlots, handlers: Handlers, woken: threading.Semaphore
) -> None:
    slots = start_slots(3)
    slots.submit(claimed_many(5))
    assert sorted(handlers.next_begun() for _ in range(3)) == [1, 2, 3]
    assert sorted(job.id for job in slots.running()) == [1, 2, 3]
    assert slots.waiting == 2
    assert handlers.begun.empty()
    handlers.end()
    wait_for(woken, 1)
    assert handlers.next_begun() == 4


def test_every_job_is_run_once_and_its_ending_taken_once(
    start_slots: StartSlots, handlers: Handlers, woken: threading.Semaphore
) -> None:
    handlers.is_free = True
    slots = start_slots(4)
    slots.submit(claimed_many(1000))
    wait_for(woken, 1000)
    endings = slots.take_finished()
    assert sorted(ending.job.id for ending in endings) == list(range(1, 1001))
    assert all(ending.outcome == Succeeded(str(ending.job.id)) for ending in endings)
    assert slots.take_finished() == []
    assert slots.unfinished == 0


def test_an_ending_tells_when_its_run_began_and_ended(
    start_slots: StartSlots, handlers: Handlers, woken: threading.Semaphore, clock: ManualClock
) -> None:
    slots = start_slots(1)
    started_at = to_text(clock.now())
    slots.submit([claimed(1)])
    handlers.next_begun()
    ended_at = to_text(clock.advance(2.5))
    handlers.end()
    wait_for(woken, 1)
    (ending,) = slots.take_finished()
    assert (ending.started_at, ending.ended_at) == (started_at, ended_at)


def test_jobs_that_no_thread_has_begun_can_be_taken_back_and_are_not_run(
    start_slots: StartSlots, handlers: Handlers, woken: threading.Semaphore
) -> None:
    slots = start_slots(1)
    slots.submit(claimed_many(4))
    assert handlers.next_begun() == 1
    assert [job.id for job in slots.take_unstarted()] == [2, 3, 4]
    assert slots.take_unstarted() == []
    assert (slots.waiting, slots.in_flight, slots.unfinished) == (0, 1, 1)
    handlers.end()
    wait_for(woken, 1)
    assert [ending.job.id for ending in slots.take_finished()] == [1]
    assert handlers.begun.empty()
    assert (slots.in_flight, slots.unfinished) == (0, 0)


def test_in_flight_counts_what_waits_or_runs_and_unfinished_also_endings_that_nobody_has_taken(
    start_slots: StartSlots, handlers: Handlers, woken: threading.Semaphore
) -> None:
    slots = start_slots(2)
    assert (slots.waiting, slots.in_flight, slots.unfinished) == (0, 0, 0)
    slots.submit(claimed_many(3))
    handlers.next_begun()
    handlers.next_begun()
    assert (slots.waiting, slots.in_flight, slots.unfinished) == (1, 3, 3)
    handlers.end()
    wait_for(woken, 1)
    assert (slots.in_flight, slots.unfinished) == (2, 3)
    slots.take_finished()
    assert (slots.in_flight, slots.unfinished) == (2, 2)


def test_a_slot_marks_the_job_it_runs_and_wipes_the_mark_when_it_has_ended(
    start_slots: StartSlots, handlers: Handlers, woken: threading.Semaphore, marks: Marks
) -> None:
    slots = start_slots(2)
    slots.submit(claimed_many(2))
    handlers.next_begun()
    handlers.next_begun()
    assert sorted(marks.now) == [0, 1]
    assert sorted(marks.now.values()) == [1, 2]
    handlers.end(2)
    wait_for(woken, 2)
    assert marks.now == {0: 0, 1: 0}
    assert slots.running() == []


def test_jobs_that_only_wait_are_not_marked(start_slots: StartSlots, handlers: Handlers, marks: Marks) -> None:
    start_slots(1).submit(claimed_many(3))
    handlers.next_begun()
    assert set(marks.now.values()) == {1}


def test_last_submit_moves_when_jobs_are_handed_over(
    start_slots: StartSlots, handlers: Handlers, woken: threading.Semaphore, clock: ManualClock
) -> None:
    slots = start_slots(1)
    clock.advance(10)
    slots.submit(claimed_many(2))
    handlers.next_begun()
    assert slots.last_submit == clock.monotonic()
    clock.advance(10)
    slots.submit([])
    assert slots.last_submit == clock.monotonic() - 10


def test_after_stop_each_thread_ends_after_what_was_handed_over_before(
    handlers: Handlers, marks: Marks, woken: threading.Semaphore, clock: ManualClock
) -> None:
    handlers.is_free = True
    before = set(threading.enumerate())
    slots = ThreadSlots([handlers] * 3, marks.mark, clock, woken.release)
    slots.start()
    threads = set(threading.enumerate()) - before
    slots.submit(claimed_many(50))
    slots.stop()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert len(slots.take_finished()) == 50


def test_a_job_that_is_cancelled_before_its_turn_is_not_begun(
    handlers: Handlers, marks: Marks, woken: threading.Semaphore, clock: ManualClock
) -> None:
    handlers.is_free = True
    slots = ThreadSlots([handlers], marks.mark, clock, woken.release, cancellations={2})
    slots.start()
    slots.submit(claimed_many(3))
    wait_for(woken, 3)
    slots.stop()
    assert [type(ending.outcome) for ending in slots.take_finished()] == [Succeeded, Stopped, Succeeded]


def test_only_the_slot_that_runs_the_job_is_told_to_cancel_it(start_slots: StartSlots, handlers: Handlers) -> None:
    slots = start_slots(2)
    slots.submit(claimed_many(3))
    handlers.next_begun()
    handlers.next_begun()
    slots.cancel({2, 3, 9})
    assert handlers.cancelled == [2]


def test_a_job_that_cannot_be_begun_can_be_taken_back_and_its_slot_closes(
    start_slots: StartSlots, handlers: Handlers, woken: threading.Semaphore
) -> None:
    handlers.cannot_begin = True
    slots = start_slots(1)
    slots.submit(claimed_many(1))
    wait_for(woken, 1)
    assert [job.id for job in slots.take_unstarted()] == [1]
    assert (slots.take_finished(), slots.unfinished, slots.running()) == ([], 0, [])


def test_a_handler_that_never_returns_cannot_keep_the_process_alive(run_python: RunPython) -> None:
    code = """
import threading
from durablejobs.clock import SystemClock
from durablejobs.jobs import ClaimedJob
from durablejobs.slots import ThreadSlots

begun = threading.Event()

class Runner:
    def run(self, job):
        begun.set()
        threading.Event().wait()

    def stop(self):
        pass

slots = ThreadSlots([Runner()], lambda slot, job_id: None, SystemClock(), lambda: None)
slots.start()
slots.submit([ClaimedJob(1, 1, "mail", "default", "[]", "{}", 0, "", 1, 20, 0, None, "{}")])
begun.wait()
slots.stop()
"""
    assert run_python(code).returncode == 0


@pytest.mark.parametrize("accident", [TypeError("ours"), SystemExit(1)])
def test_what_fails_in_running_a_job_costs_its_attempt_and_neither_job_nor_slot(
    start_slots: StartSlots, handlers: Handlers, woken: threading.Semaphore, accident: BaseException
) -> None:
    slots = start_slots(1)
    handlers.accident = accident
    slots.submit([claimed(1)])
    wait_for(woken, 1)
    handlers.accident, handlers.is_free = None, True
    slots.submit([claimed(2)])
    wait_for(woken, 1)
    first, second = slots.take_finished()
    assert isinstance(first.outcome, Errored)
    assert second.outcome == Succeeded("2")


def test_what_takes_its_time_after_a_run_keeps_nobody_from_its_ending(
    start_slots: StartSlots,
    handlers: Handlers,
    woken: threading.Semaphore,
    marks: Marks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_tidying, may_end = threading.Event(), threading.Event()

    def tidy_up(_job: ClaimedJob) -> None:
        is_tidying.set()
        may_end.wait(PATIENCE)

    monkeypatch.setattr(handlers, "tidy_up", tidy_up)
    handlers.is_free = True
    slots = start_slots(1)
    slots.submit([claimed(1)])
    assert is_tidying.wait(PATIENCE)
    assert [ending.job.id for ending in slots.take_finished()] == [1]
    assert (slots.running(), marks.now) == ([], {0: 0})
    may_end.set()
