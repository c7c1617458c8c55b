"""Concurrent writers share a commit, and each still gets its own answer."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import FrameType

import pytest

from durablejobs.errors import CommitUnknownError, DiskFullError
from durablejobs.jobs import NewJob
from durablejobs.store import Store, group_commit
from durablejobs.store.group_commit import GroupCommit

from ..clocks import ManualClock
from ..conftest import REFUSED, Sql, new_job

PATIENCE = 60.0
"""Seconds after which a test gives up; none takes so long."""


def wait_until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.0005)


class Storing:
    """A `store_all` that waits for the test before each group, as for a slow disk, and notes the groups."""

    def __init__(self, store_all: Callable[[Sequence[str]], Sequence[str]] = list) -> None:
        self._store_all = store_all
        self.groups: list[list[str]] = []
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def __call__(self, items: Sequence[str]) -> Sequence[str]:
        self.groups.append(list(items))
        self.begun.release()
        assert self.go.acquire(timeout=PATIENCE)
        return self._store_all(items)


Commit = GroupCommit[str, str]


def group_commit_of(storing: Callable[[Sequence[str]], Sequence[str]]) -> Commit:
    return GroupCommit(storing, partial(CommitUnknownError, "jobs.db"))


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def first_and_others(
    commit: Commit, storing: Storing, threads: ThreadPoolExecutor, others: Sequence[str]
) -> tuple[Future[str], list[Future[str]]]:
    """Begin to store `first`; while that takes its time, let the others line up behind it in this order."""
    first = threads.submit(commit.store, "first")
    assert storing.begun.acquire(timeout=PATIENCE)
    waiting = []
    for place, item in enumerate(others, 1):
        waiting.append(threads.submit(commit.store, item))
        wait_until(lambda place=place: len(commit._line) == place)  # type: ignore[misc]
    return first, waiting


# Through the store


def test_sixteen_threads_store_every_job_once_in_far_fewer_commits(
    store: Store, clock: ManualClock, sql: Sql, threads: ThreadPoolExecutor
) -> None:
    enqueuers, each = 16, 50
    commits, inside, busy = 0, 0, enqueuers
    changed = threading.Condition()

    def store_slowly(group: Sequence[NewJob]) -> list[tuple[int, bool]]:
        nonlocal commits
        commits += 1
        with changed:  # as long as it takes all others to come
            assert changed.wait_for(lambda: inside == busy, PATIENCE)
        return store.database.insert_group(group)

    store.new_jobs._inserts = GroupCommit(store_slowly, partial(CommitUnknownError, store.location))

    def enqueue(name: int) -> dict[int, str]:
        nonlocal inside, busy
        stored = {}
        for number in range(each):
            args = f"[{name}, {number}]"
            with changed:
                inside += 1
                changed.notify_all()
            job_id, is_new = store.new_jobs.insert(new_job(clock, args=args))
            with changed:
                inside -= 1
            assert is_new
            stored[job_id] = args
        with changed:
            busy -= 1
            changed.notify_all()
        return stored

    told: dict[int, str] = {}
    for future in [threads.submit(enqueue, name) for name in range(enqueuers)]:
        told |= future.result(PATIENCE)
    assert len(told) == enqueuers * each
    assert {row["id"]: row["args"] for row in sql("SELECT id, args FROM jobs")} == told
    assert len(set(told.values())) == enqueuers * each
    assert commits < enqueuers * each / 3


def test_one_thread_alone_waits_for_nobody(store: Store, clock: ManualClock, sql: Sql) -> None:
    ids = [store.new_jobs.insert(new_job(clock))[0] for _ in range(5)]
    assert [row["id"] for row in sql("SELECT id FROM jobs ORDER BY id")] == ids


def test_a_job_that_the_database_refuses_fails_alone(
    store: Store, clock: ManualClock, sql: Sql, threads: ThreadPoolExecutor
) -> None:
    jobs = {name: new_job(clock, handler=name) for name in ("first", "good", "not a name", "fine", "too bad!", "last")}
    storing = Storing(
        lambda names: [str(stored[0]) for stored in store.database.insert_group([jobs[name] for name in names])]
    )
    first, others = first_and_others(group_commit_of(storing), storing, threads, list(jobs)[1:])
    storing.go.release(100)
    errors = [future.exception(PATIENCE) for future in (first, *others)]
    refused = next(type(error) for error in errors if isinstance(error, REFUSED))
    assert [type(error) for error in errors] == [
        type(None),
        type(None),
        refused,
        type(None),
        refused,
        type(None),
    ]
    stored = {row["handler"]: str(row["id"]) for row in sql("SELECT id, handler FROM jobs")}
    assert stored == {
        name: future.result() for name, future in zip(jobs, (first, *others), strict=True) if future.exception() is None
    }


def test_two_jobs_with_one_unique_key_in_one_group_are_one_row(
    store: Store, clock: ManualClock, sql: Sql, threads: ThreadPoolExecutor
) -> None:
    job = new_job(clock, unique_key="welcome:7")
    begun, go = threading.Event(), threading.Event()

    def store_slowly(group: Sequence[NewJob]) -> list[tuple[int, bool]]:
        begun.set()
        assert go.wait(PATIENCE)
        return store.database.insert_group(group)

    commit = store.new_jobs._inserts = GroupCommit(store_slowly, partial(CommitUnknownError, store.location))
    first = threads.submit(store.new_jobs.insert, new_job(clock))
    assert begun.wait(PATIENCE)
    twins = [threads.submit(store.new_jobs.insert, job) for _ in range(8)]
    wait_until(lambda: len(commit._line) == 8)
    go.set()
    first.result(PATIENCE)
    answers = [twin.result(PATIENCE) for twin in twins]
    assert len({job_id for job_id, _ in answers}) == 1
    assert sum(is_new for _, is_new in answers) == 1
    assert len(sql("SELECT * FROM jobs WHERE unique_key IS NOT NULL")) == 1


# The line


def test_who_comes_during_a_commit_is_stored_in_the_next_one_together_and_in_order(threads: ThreadPoolExecutor) -> None:
    storing = Storing(lambda items: [item.upper() for item in items])
    first, others = first_and_others(group_commit_of(storing), storing, threads, ["a", "b", "c"])
    storing.go.release(2)
    assert first.result(PATIENCE) == "FIRST"
    assert [other.result(PATIENCE) for other in others] == ["A", "B", "C"]
    assert storing.groups == [["first"], ["a", "b", "c"]]


def test_nobody_returns_before_his_commit(threads: ThreadPoolExecutor) -> None:
    storing = Storing()
    first, others = first_and_others(group_commit_of(storing), storing, threads, ["a", "b"])
    storing.go.release()
    first.result(PATIENCE)
    assert storing.begun.acquire(timeout=PATIENCE)
    assert not any(other.done() for other in others)
    storing.go.release()
    assert [other.result(PATIENCE) for other in others] == ["a", "b"]


def test_a_group_is_bounded(threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "LARGEST_GROUP", 3)
    storing = Storing()
    first, others = first_and_others(group_commit_of(storing), storing, threads, list("abcdefg"))
    storing.go.release(10)
    for future in (first, *others):
        future.result(PATIENCE)
    assert [len(group) for group in storing.groups] == [1, 3, 3, 1]


# Those who shared a commit come again


def shared_commit(commit: Commit, storing: Storing, threads: ThreadPoolExecutor) -> None:
    """Let two threads share a commit."""
    first, others = first_and_others(commit, storing, threads, ["a", "b"])
    storing.go.release(2)
    for future in (first, *others):
        future.result(PATIENCE)
    assert storing.groups.pop() == ["a", "b"]
    storing.begun.acquire()


def test_who_leads_right_after_a_shared_commit_waits_until_as_many_have_come_again(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "LINGER", PATIENCE)
    storing = Storing()
    commit = group_commit_of(storing)
    shared_commit(commit, storing, threads)
    storing.go.release(10)
    leader = threads.submit(commit.store, "c")
    wait_until(lambda: commit._awaited is not None)
    assert threads.submit(commit.store, "d").result(PATIENCE) == "d"
    assert leader.result(PATIENCE) == "c"
    assert storing.groups[-1] == ["c", "d"]


def test_who_does_not_come_again_is_waited_for_a_moment_once(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "LINGER", 0.05)
    storing = Storing()
    commit = group_commit_of(storing)
    shared_commit(commit, storing, threads)
    storing.go.release(10)
    assert commit.store("c") == "c"
    monkeypatch.setattr(group_commit, "LINGER", PATIENCE)
    assert commit.store("d") == "d"
    assert storing.groups[-2:] == [["c"], ["d"]]


def test_who_comes_long_after_a_shared_commit_waits_for_nobody(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "LINGER", PATIENCE)
    storing = Storing()
    commit = group_commit_of(storing)
    shared_commit(commit, storing, threads)
    commit._last_end -= PATIENCE
    storing.go.release(10)
    assert commit.store("c") == "c"


def test_who_is_interrupted_while_he_waits_for_others_is_not_stored_and_holds_up_nobody(
    threads: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    interrupt_main_thread: Callable[[Callable[[], object]], None],
) -> None:
    monkeypatch.setattr(group_commit, "LINGER", PATIENCE)
    storing = Storing()
    commit = group_commit_of(storing)
    shared_commit(commit, storing, threads)
    storing.go.release(10)

    def interrupt_lingering() -> None:
        wait_until(lambda: commit._awaited is not None)
        interrupt_main_thread(lambda: None)

    interrupting = threads.submit(interrupt_lingering)
    with pytest.raises(Interrupted):
        commit.store("mine")
    interrupting.result(PATIENCE)
    assert threads.submit(commit.store, "later").result(PATIENCE) == "later"
    assert storing.groups[-1] == ["later"]
    assert not any("mine" in group for group in storing.groups)


# Errors


def test_an_error_of_the_database_reaches_all_of_its_group_and_nothing_is_tried_twice(
    threads: ThreadPoolExecutor,
) -> None:
    def fill_up(items: Sequence[str]) -> Sequence[str]:
        if "a" in items:
            raise DiskFullError("jobs.db")
        return items

    storing = Storing(fill_up)
    commit = group_commit_of(storing)
    first, others = first_and_others(commit, storing, threads, ["a", "b", "c"])
    storing.go.release(10)
    assert first.result(PATIENCE) == "first"
    assert {type(other.exception(PATIENCE)) for other in others} == {DiskFullError}
    assert storing.groups == [["first"], ["a", "b", "c"]]
    assert threads.submit(commit.store, "later").result(PATIENCE) == "later"


def test_an_unknown_commit_is_not_tried_again(threads: ThreadPoolExecutor) -> None:
    def half_fail(items: Sequence[str]) -> Sequence[str]:
        if "a" in items:
            raise CommitUnknownError("jobs.db", "disk I/O error")
        return items

    storing = Storing(half_fail)
    _, others = first_and_others(group_commit_of(storing), storing, threads, ["a", "b"])
    storing.go.release(10)
    assert {type(other.exception(PATIENCE)) for other in others} == {CommitUnknownError}
    assert storing.groups == [["first"], ["a", "b"]]


def test_the_others_of_an_interrupted_leader_are_told_that_nobody_knows(threads: ThreadPoolExecutor) -> None:
    def interrupted(items: Sequence[str]) -> Sequence[str]:
        if "a" in items:
            raise KeyboardInterrupt
        return items

    storing = Storing(interrupted)
    commit = group_commit_of(storing)
    _, (leader, *others) = first_and_others(commit, storing, threads, ["a", "b", "c"])
    storing.go.release(10)
    assert isinstance(leader.exception(PATIENCE), KeyboardInterrupt)
    errors = [other.exception(PATIENCE) for other in others]
    assert [type(error) for error in errors] == [CommitUnknownError, CommitUnknownError]
    assert "the thread that stored it was interrupted" in str(errors[0])
    assert threads.submit(commit.store, "later").result(PATIENCE) == "later"


def test_a_leader_interrupted_while_it_stores_one_by_one_leaves_nobody_without_an_answer(
    threads: ThreadPoolExecutor,
) -> None:
    def spoilt(items: Sequence[str]) -> Sequence[str]:
        if len(items) > 1:
            raise ValueError("one of them is bad")
        if items == ["b"]:
            raise KeyboardInterrupt
        return items

    storing = Storing(spoilt)
    commit = group_commit_of(storing)
    _, (leader, *others) = first_and_others(commit, storing, threads, ["a", "b", "c"])
    storing.go.release(10)
    assert isinstance(leader.exception(PATIENCE), KeyboardInterrupt)
    assert [type(other.exception(PATIENCE)) for other in others] == [CommitUnknownError, CommitUnknownError]
    assert threads.submit(commit.store, "later").result(PATIENCE) == "later"


# A thread that is interrupted while it waits: only the main thread can be, by a signal


class Interrupted(BaseException):
    """What a signal handler raises, as Control-C does."""


@pytest.fixture
def interrupt_main_thread() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Make the main thread call this and raise `Interrupted`, wherever it is."""
    todo: list[Callable[[], object]] = []
    main_thread = threading.get_ident()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if todo:
            todo.pop()()
            raise Interrupted

    def interrupt(act: Callable[[], object]) -> None:
        todo.append(act)
        while todo:  # again and again: a signal just before a wait begins does not end it
            signal.pthread_kill(main_thread, signal.SIGUSR1)
            time.sleep(0.01)

    before = signal.signal(signal.SIGUSR1, on_signal)
    yield interrupt
    signal.signal(signal.SIGUSR1, before)


def test_who_is_interrupted_in_the_line_is_not_stored_and_holds_up_nobody(
    threads: ThreadPoolExecutor, interrupt_main_thread: Callable[[Callable[[], object]], None]
) -> None:
    storing = Storing()
    commit = group_commit_of(storing)
    first = threads.submit(commit.store, "first")
    assert storing.begun.acquire(timeout=PATIENCE)

    def interrupt_in_line() -> None:
        wait_until(lambda: len(commit._line) == 1)
        interrupt_main_thread(lambda: None)

    interrupting = threads.submit(interrupt_in_line)
    with pytest.raises(Interrupted):
        commit.store("mine")
    interrupting.result(PATIENCE)
    later = threads.submit(commit.store, "later")
    wait_until(lambda: len(commit._line) == 1)
    storing.go.release(10)
    assert first.result(PATIENCE) == "first"
    assert later.result(PATIENCE) == "later"
    assert storing.groups == [["first"], ["later"]]


def test_who_is_interrupted_just_when_it_is_made_leader_hands_the_lead_on(
    threads: ThreadPoolExecutor, interrupt_main_thread: Callable[[Callable[[], object]], None]
) -> None:
    storing = Storing()
    commit = group_commit_of(storing)
    first = threads.submit(commit.store, "first")
    assert storing.begun.acquire(timeout=PATIENCE)
    later: list[Future[str]] = []

    def let_the_first_hand_over() -> None:
        storing.go.release(10)
        first.result(PATIENCE)

    def interrupt_at_the_head_of_the_line() -> None:
        wait_until(lambda: len(commit._line) == 1)
        later.append(threads.submit(commit.store, "later"))
        wait_until(lambda: len(commit._line) == 2)
        interrupt_main_thread(let_the_first_hand_over)

    interrupting = threads.submit(interrupt_at_the_head_of_the_line)
    with pytest.raises(Interrupted):
        commit.store("mine")
    interrupting.result(PATIENCE)
    assert later[0].result(PATIENCE) == "later"
    assert storing.groups == [["first"], ["later"]]
    assert threads.submit(commit.store, "after all").result(PATIENCE) == "after all"


def test_who_is_interrupted_while_a_leader_stores_his_item_keeps_nobody_from_his_answer(
    threads: ThreadPoolExecutor, interrupt_main_thread: Callable[[Callable[[], object]], None]
) -> None:
    storing = Storing()
    commit = group_commit_of(storing)
    first = threads.submit(commit.store, "first")
    assert storing.begun.acquire(timeout=PATIENCE)
    leader = threads.submit(commit.store, "leader")
    wait_until(lambda: len(commit._line) == 1)
    behind: list[Future[str]] = []

    def interrupt_while_stored() -> None:
        wait_until(lambda: len(commit._line) == 2)
        behind.append(threads.submit(commit.store, "behind"))
        wait_until(lambda: len(commit._line) == 3)
        storing.go.release()
        assert storing.begun.acquire(timeout=PATIENCE)
        interrupt_main_thread(lambda: None)

    interrupting = threads.submit(interrupt_while_stored)
    with pytest.raises(Interrupted):
        commit.store("mine")
    interrupting.result(PATIENCE)
    later = threads.submit(commit.store, "later")
    wait_until(lambda: len(commit._line) == 1)
    storing.go.release(10)
    assert (first.result(PATIENCE), leader.result(PATIENCE)) == ("first", "leader")
    assert (behind[0].result(PATIENCE), later.result(PATIENCE)) == ("behind", "later")
    assert storing.groups == [["first"], ["leader", "mine", "behind"], ["later"]]


def test_who_is_interrupted_just_when_his_item_is_stored_passes_the_waking_on(
    threads: ThreadPoolExecutor, interrupt_main_thread: Callable[[Callable[[], object]], None]
) -> None:
    storing = Storing()
    commit = group_commit_of(storing)
    first = threads.submit(commit.store, "first")
    assert storing.begun.acquire(timeout=PATIENCE)
    leader = threads.submit(commit.store, "leader")
    wait_until(lambda: len(commit._line) == 1)
    behind: list[Future[str]] = []

    def let_all_be_stored() -> None:
        storing.go.release(10)
        assert (first.result(PATIENCE), leader.result(PATIENCE)) == ("first", "leader")

    def interrupt_in_line() -> None:
        wait_until(lambda: len(commit._line) == 2)
        behind.append(threads.submit(commit.store, "behind"))
        wait_until(lambda: len(commit._line) == 3)
        interrupt_main_thread(let_all_be_stored)

    interrupting = threads.submit(interrupt_in_line)
    with pytest.raises(Interrupted):
        commit.store("mine")
    interrupting.result(PATIENCE)
    assert behind[0].result(PATIENCE) == "behind"
    assert storing.groups == [["first"], ["leader", "mine", "behind"]]
