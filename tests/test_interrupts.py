"""Stopping a call from outside: the one that is meant, and never what comes after it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from durablejobs import JobCancelled, JobTimeout
from durablejobs.interrupts import Guard, Interruption
from durablejobs.jobs import ClaimedJob
from durablejobs.shielding import Shield, hold_back
from durablejobs.store.group_commit import GroupCommit
from durablejobs.store.sqlite.gate import Gate

PATIENCE = 20.0


def claimed(job_id: int = 1) -> ClaimedJob:
    return ClaimedJob(job_id, 1, "mail", "default", "[]", "{}", 0, "", 1, 20, 0, None, "{}")


def spin_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until


@pytest.fixture
def begun() -> threading.Event:
    return threading.Event()


def interrupt_when(begun: threading.Event, guard: Guard, job: ClaimedJob, how: Interruption) -> threading.Thread:
    def act() -> None:
        assert begun.wait(PATIENCE)
        guard.interrupt(job, how)

    thread = threading.Thread(target=act)
    thread.start()
    return thread


def spin(begun: threading.Event) -> None:
    begun.set()
    spin_until(lambda: False)


@pytest.mark.parametrize("how", [JobTimeout, JobCancelled])
def test_a_call_that_computes_is_interrupted(begun: threading.Event, how: Interruption) -> None:
    guard, job = Guard(), claimed()
    thread = interrupt_when(begun, guard, job, how)
    with pytest.raises(how):
        guard.call(job, spin, [begun], {})
    thread.join()


def test_a_call_is_interrupted_once(begun: threading.Event) -> None:
    guard, job, more = Guard(), claimed(), []

    def catch() -> str:
        try:
            spin(begun)
        except JobTimeout:
            more.append(guard.interrupt(job, JobTimeout))
        return "caught"

    thread = interrupt_when(begun, guard, job, JobTimeout)
    assert guard.call(job, catch, [], {}) == "caught"
    assert more == [False]
    thread.join()


def test_no_other_job_and_no_call_that_is_over_is_interrupted() -> None:
    guard, job = Guard(), claimed(1)
    assert guard.call(job, lambda: guard.interrupt(claimed(2), JobTimeout), [], {}) is False
    assert guard.interrupt(job, JobTimeout) is False


def test_what_a_call_raises_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        Guard().call(claimed(), lambda: 1 // 0, [], {})


class SlowGuard(Guard):
    """A guard that takes its time between looking and shooting."""

    def __init__(self) -> None:
        super().__init__()
        self.aims = threading.Event()

    def _send(self, how: Interruption) -> None:
        self.aims.set()
        time.sleep(0.05)
        super()._send(how)


class LooseGuard(SlowGuard):
    """The same with a bug: it does not look and shoot under the lock."""

    def interrupt(self, job: ClaimedJob, how: Interruption) -> bool:
        if self._job is not job:
            return False
        self._send(how)
        return True


def end_while_it_shoots(guard: SlowGuard, begun: threading.Event) -> int:
    """Let a call end while it is being interrupted; return how many interruptions arrive after its end."""
    job = claimed()
    thread = interrupt_when(begun, guard, job, JobTimeout)

    def end_in_time() -> None:
        begun.set()
        assert guard.aims.wait(PATIENCE)

    strays = 0
    try:
        with suppress(JobTimeout):
            guard.call(job, end_in_time, [], {})
        thread.join()
        sum(number for number in range(1000))  # what comes after
    except JobTimeout:
        strays += 1
    return strays


def test_an_interruption_at_the_very_end_never_hits_what_comes_after(begun: threading.Event) -> None:
    assert end_while_it_shoots(SlowGuard(), begun) == 0


def test_this_test_finds_a_guard_that_does_not_hold_the_lock_while_it_shoots(begun: threading.Event) -> None:
    assert end_while_it_shoots(LooseGuard(), begun) == 1


def test_a_call_that_writes_is_interrupted_only_when_the_write_lock_is_given_back(begun: threading.Event) -> None:
    """Else the lock could be taken for ever, and nobody in this process could write any more."""
    guard, job, gate = Guard(), claimed(), Gate(lambda: None)
    answers: list[bool] = []
    may_leave = threading.Event()

    def write_and_go_on() -> None:
        gate.enter(PATIENCE)
        begun.set()
        assert may_leave.wait(PATIENCE)
        gate.leave()
        spin_until(lambda: False)

    def interrupt() -> None:
        assert begun.wait(PATIENCE)
        answers.append(guard.interrupt(job, JobTimeout))
        may_leave.set()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(JobTimeout):
        guard.call(job, write_and_go_on, [], {})
    thread.join()
    assert answers == [True]
    assert gate.enter(0)
    gate.leave()


def test_who_has_waited_in_vain_for_the_write_lock_can_be_interrupted() -> None:
    gate = Gate(lambda: None)
    gate.enter(PATIENCE)
    found: list[bool] = []

    def wait_in_vain() -> None:
        found.append(gate.enter(0.01))
        found.append(hold_back(threading.get_ident(), lambda: None))

    thread = threading.Thread(target=wait_in_vain)
    thread.start()
    thread.join()
    gate.leave()
    assert found == [False, False]


def test_what_comes_while_a_call_is_shielded_arrives_when_the_last_shield_is_gone(begun: threading.Event) -> None:
    """And not never: a handler that spends its time in our code would know no timeout."""
    guard, job, steps = Guard(), claimed(), []

    def write_twice() -> None:
        with Shield():
            with Shield():
                begun.set()
                spin_until(lambda: not guard.interrupt(job, JobTimeout))
            steps.append("inside")
        spin_until(lambda: False)

    thread = interrupt_when(begun, guard, job, JobTimeout)
    with pytest.raises(JobTimeout):
        guard.call(job, write_twice, [], {})
    thread.join()
    assert steps == ["inside"]
    sum(number for number in range(1000))  # nothing is left that could arrive now


def test_whoever_is_interrupted_while_he_takes_a_shield_has_none() -> None:
    """At each step of it: the interruption arrives, or is held back until it is given back."""
    guard, job, me = Guard(), claimed(), threading.get_ident()
    for delay in range(300):
        ready = threading.Event()

        def interrupt(ready: threading.Event = ready, delay: int = delay) -> None:
            assert ready.wait(PATIENCE)
            sum(range(delay * 3))
            guard.interrupt(job, JobTimeout)

        def shield_for_ever(ready: threading.Event = ready) -> None:
            ready.set()
            while True:
                with Shield():
                    pass

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(JobTimeout):
            guard.call(job, shield_for_ever, [], {})
        thread.join()
        assert not hold_back(me, lambda: None)


def test_no_timeout_in_the_midst_of_an_enqueue_keeps_others_from_theirs() -> None:
    """Whoever stores for others, and is interrupted between two steps, would leave them waiting for ever."""
    guard, job = Guard(), claimed()
    group: GroupCommit[int, int] = GroupCommit(list, RuntimeError)
    for round_ in range(200):
        ready = threading.Event()

        def interrupt(ready: threading.Event = ready, steps: int = round_) -> None:
            assert ready.wait(PATIENCE)
            sum(range(10 * steps))
            guard.interrupt(job, JobTimeout)

        def fan_out(ready: threading.Event = ready) -> None:
            ready.set()
            while True:
                group.store(1)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(JobTimeout):
            guard.call(job, fan_out, [], {})
        thread.join()
        other = threading.Thread(target=group.store, args=[2], daemon=True)
        other.start()
        other.join(PATIENCE)
        assert not other.is_alive(), f"no enqueue returns any more, after {round_} timeouts"
