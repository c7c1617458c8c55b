"""Signs of life that the kernel keeps: who sits on a seat, and what ran there when somebody died."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from durablejobs import DatabaseUnusableError, DurableJobs
from durablejobs.store import Store
from durablejobs.store.presence import HAS_LOCKS, MOST_SLOTS, SEAT_BYTES, LockFile, Seat, lent
from durablejobs.store.sqlite.files import use_lock_file_of
from durablejobs.store.workers import Registration

from ..conftest import RunPython
from .test_lock_file import describe, looks

pytestmark = pytest.mark.skipif(not HAS_LOCKS, reason="the platform has no byte-range locks")

SIT = """
import sys
from pathlib import Path
from durablejobs.store.sqlite.files import use_lock_file_of

file = use_lock_file_of(Path(sys.argv[1]))
seat = file.take_seat([])
for slot, job_id in enumerate(sys.argv[2:]):
    seat.mark(slot, int(job_id))
print(seat.number, flush=True)
for line in sys.stdin:
    if line == "leave\\n":
        seat.leave()
    print("done", flush=True)
"""


class Sitter:
    """A process of its own that sits on a seat and runs these jobs."""

    def __init__(self, path: Path, *running: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SIT, str(path), *map(str, running)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.seat = int(self._process.stdout.readline())

    def leave(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("leave\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def sitter(database_path: Path) -> Iterator[Callable[..., Sitter]]:
    """Return a function that starts a process which sits on a seat and runs these jobs."""
    started: list[Sitter] = []

    def start(*running: int) -> Sitter:
        started.append(Sitter(database_path, *running))
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture
def file(database_path: Path) -> Iterator[LockFile]:
    found = use_lock_file_of(database_path)
    assert found is not None
    yield found
    found.give_back()


def test_a_seat_is_taken_as_long_as_its_process_lives(file: LockFile, sitter: Callable[..., Sitter]) -> None:
    assert not file.is_taken(0)
    other = sitter()
    assert other.seat == 0
    assert file.is_taken(0)
    assert not file.is_taken(1)
    other.kill()
    assert not file.is_taken(0)


def test_looking_at_a_seat_does_not_take_it(file: LockFile, sitter: Callable[..., Sitter]) -> None:
    assert not file.is_taken(0)
    assert not file.is_taken(0)
    assert sitter().seat == 0


def test_what_ran_is_known_after_the_death_of_the_worker(file: LockFile, sitter: Callable[..., Sitter]) -> None:
    other = sitter(7, 0, 123456789012)
    assert file.running_jobs(0) == {7, 123456789012}
    other.kill()
    assert file.running_jobs(0) == {7, 123456789012}


def test_who_leaves_in_order_leaves_no_marks(file: LockFile, sitter: Callable[..., Sitter]) -> None:
    other = sitter(7)
    other.leave()
    assert not file.is_taken(0)
    assert file.running_jobs(0) == frozenset()


def test_who_takes_a_dead_workers_seat_begins_without_its_marks(file: LockFile, sitter: Callable[..., Sitter]) -> None:
    sitter(7).kill()
    seat = file.take_seat([])
    assert seat.number == 0
    assert file.running_jobs(0) == frozenset()
    seat.leave()


def test_each_process_gets_the_first_free_seat(file: LockFile, sitter: Callable[..., Sitter]) -> None:
    sitters = [sitter() for _ in range(3)]
    assert [each.seat for each in sitters] == [0, 1, 2]
    sitters[1].kill()
    own = file.take_seat([])
    assert own.number == 1
    own.leave()


def test_a_seat_that_is_unavailable_is_passed_over_although_it_is_free(file: LockFile) -> None:
    seat = file.take_seat([0, 1, 3])
    assert seat.number == 2
    seat.leave()


def test_two_workers_in_one_process_have_a_seat_each(file: LockFile, run_python: RunPython) -> None:
    """The kernel never reports a process's own locks to itself, so the process has to know them."""
    first, second = file.take_seat([]), file.take_seat([])
    assert (first.number, second.number) == (0, 1)
    assert file.is_taken(0)
    assert file.is_taken(1)
    first.mark(0, 5)
    assert (file.running_jobs(0), file.running_jobs(1)) == ({5}, frozenset())
    first.leave()
    assert not file.is_taken(0)
    assert file.is_taken(1)
    second.leave()


def test_asking_for_other_seats_does_not_lose_ones_own(file: LockFile, sitter: Callable[..., Sitter]) -> None:
    own = file.take_seat([])
    assert not file.is_taken(1)
    assert file.running_jobs(1) == frozenset()
    assert sitter().seat == 1  # another process still finds seat 0 taken
    own.leave()


def test_who_leaves_a_seat_does_not_take_the_others_of_its_process_along(
    file: LockFile, run_python: RunPython, database_path: Path
) -> None:
    """A map of a seat has a handle too: closed, it would drop the locks of all seats, and others would rescue jobs that
    run."""
    seats = [file.take_seat([]) for _ in range(3)]
    seats[1].leave()
    assert looks(run_python, database_path, 3) == "True False True\n"
    again = file.take_seat([])
    assert again.number == 1
    assert looks(run_python, database_path, 3) == "True True True\n"
    again.leave()
    seats[0].leave()
    seats[2].leave()


def test_a_mark_on_a_seat_that_was_left_is_an_error(file: LockFile) -> None:
    """Another worker may sit there by now."""
    seat = file.take_seat([])
    seat.leave()
    with pytest.raises(TypeError, match="not memoryview"):
        seat.mark(0, 1)


def test_there_is_one_handle_for_each_file_in_a_process(database_path: Path, file: LockFile) -> None:
    """Closing a second one would drop the locks of the first."""
    with lent(partial(use_lock_file_of, database_path)) as again:
        assert again is file
    with lent(partial(use_lock_file_of, database_path.with_name("other.db"))) as other:
        assert other is not file


def test_a_forked_child_does_not_sit_on_its_parents_seat(run_python: RunPython, database_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from durablejobs.store.sqlite.files import use_lock_file_of
path = Path(sys.argv[1])
file = use_lock_file_of(path)
seat = file.take_seat([])
child = os.fork()
if child == 0:
    code = 1
    try:
        own_file = use_lock_file_of(path)
        taken = own_file.is_taken(0)
        own = own_file.take_seat([])
        code = 0 if taken and own.number == 1 else 2
    finally:
        os._exit(code)
print(os.waitpid(child, 0)[1], file.is_taken(0), file.is_taken(1))
"""
    ended = run_python(code, database_path)
    assert (ended.stdout, ended.stderr) == ("0 True False\n", "")


def test_every_slot_has_its_mark_and_a_mark_is_taken_back(file: LockFile) -> None:
    seat = file.take_seat([])
    for slot in range(MOST_SLOTS):
        seat.mark(slot, slot + 1)
    assert file.running_jobs(seat.number) == set(range(1, MOST_SLOTS + 1))
    assert file.running_jobs(seat.number + 1) == frozenset()
    seat.mark(3, 0)
    assert 4 not in file.running_jobs(seat.number)
    with pytest.raises(Exception, match="pack_into"):
        seat.mark(MOST_SLOTS, 1)
    seat.leave()


def test_the_file_grows_by_one_seat_at_a_time(file: LockFile) -> None:
    seats: list[Seat] = [file.take_seat([]) for _ in range(3)]
    assert os.stat(file.path).st_size == 3 * SEAT_BYTES
    for seat in seats:
        seat.leave()


# Together with the register


def test_a_registered_worker_has_a_seat_that_is_taken(store: Store, file: LockFile) -> None:
    worker, seat = store.workers.register(describe)
    assert seat is not None
    (vital,) = store.workers.vitals()
    assert (vital.id, vital.seat) == (worker, seat.number)
    assert file.is_taken(seat.number)
    seat.leave()


def test_a_dead_workers_seat_is_not_used_until_it_is_unregistered(
    store: Store, file: LockFile, sitter: Callable[..., Sitter]
) -> None:
    """Who sat down there would make the dead one look alive, and wipe off what it ran."""
    other = sitter(7)
    with store.database.write() as connection:
        from durablejobs.store import workers

        dead = workers.register(connection, describe(other.seat, "2030-01-01 12:00:00.000000"))
    other.kill()
    first, first_seat = store.workers.register(describe)
    assert first_seat is not None
    assert first_seat.number == 1
    assert not file.is_taken(0)
    assert file.running_jobs(0) == {7}
    store.workers.unregister(dead)
    second, second_seat = store.workers.register(describe)
    assert second_seat is not None
    assert second_seat.number == 0
    assert [vital.id for vital in store.workers.vitals()] == [first, second]
    first_seat.leave()
    second_seat.leave()


def test_a_registration_that_fails_leaves_no_seat_taken(store: Store, file: LockFile) -> None:
    def refuse(_seat: int | None, _now: str) -> Registration:
        raise ValueError("no")

    with pytest.raises(ValueError, match=r"^no$"):
        store.workers.register(refuse)
    assert not file.is_taken(0)
    assert store.workers.vitals() == []


def test_a_file_system_that_cannot_lock_is_an_error_and_not_a_lock_in_others_hands(
    file: LockFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken for a lock of others, looking for a free seat would go on for ever."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", fail)
    with pytest.raises(DatabaseUnusableError, match="cannot be locked: No locks available"):
        file.take_seat([])


@pytest.mark.sqlite("its writers lock a file")
def test_a_lock_that_cannot_be_given_back_is_logged_and_what_was_done_under_it_stands(
    jobs: DurableJobs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    jobs.open()
    lock = fcntl.lockf

    def fail_to_unlock(descriptor: int, what: int, *place: int) -> None:
        if what == fcntl.LOCK_UN:
            raise OSError(errno.EIO, "Input/output error")
        lock(descriptor, what, *place)

    monkeypatch.setattr("fcntl.lockf", fail_to_unlock)
    assert jobs.enqueue("mail").id == 1
    assert "cannot be unlocked" in caplog.text


def test_a_seat_that_cannot_be_read_is_one_of_our_errors(file: LockFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.pread", fail)
    with pytest.raises(DatabaseUnusableError, match="cannot be read"):
        file.sitter(0)
