"""How long a process keeps its handle on a lock file: until nobody in it uses the file, and not a moment less.

Closing a handle drops all locks of the process on the file, so another process looks whether they are still there.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from durablejobs.store import Store
from durablejobs.store.presence import HAS_LOCKS, lent
from durablejobs.store.sqlite.files import use_lock_file_of
from durablejobs.store.sqlite.gate import Gate
from durablejobs.store.workers import Registration

from ..conftest import RunPython

pytestmark = [
    pytest.mark.skipif(not HAS_LOCKS, reason="the platform has no byte-range locks"),
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the platform does not list open files"),
]

LOOK = """
import sys
from pathlib import Path
from durablejobs.store.sqlite.files import use_lock_file_of

file = use_lock_file_of(Path(sys.argv[1]))
print(*(file.is_taken(number) for number in range(int(sys.argv[2]))))
"""


def looks(run_python: RunPython, database: Path, seats: int) -> str:
    """Whether each of the first seats is taken, as another process sees it."""
    return run_python(LOOK, database, seats).stdout


def describe(seat: int | None, now: str) -> Registration:
    return Registration("worker", "host", 1, seat, "all", 1, "0", now, now)


def open_under(directory: Path) -> list[str]:
    """The files in a directory on which this process has a handle."""
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    found = [os.readlink(link) for link in links if os.path.lexists(link)]  # the listing itself is gone by now
    return [path for path in found if path.startswith(str(directory))]


def write(path: Path) -> Store:
    """Return a store there in which this process has written."""
    opened = Store(path)
    opened.open()
    opened.migrate()
    with opened.database.write() as connection:
        connection.exec_driver_sql("INSERT INTO jobs(handler) VALUES ('mail')")
    return opened


def test_a_hundred_queues_that_were_written_to_and_closed_leave_no_file_open(tmp_path: Path) -> None:
    """A program may keep a queue for each of its tenants."""
    template = tmp_path / "template.db"
    write(template).close()
    content = template.read_bytes()
    for number in range(100):
        path = tmp_path / f"tenant-{number}.db"
        path.write_bytes(content)
        write(path).close()
    assert open_under(tmp_path) == []


def test_who_only_looks_at_the_seats_leaves_no_file_open(tmp_path: Path) -> None:
    write(tmp_path / "jobs.db").close()
    store = Store(tmp_path / "jobs.db")
    with store.workers.presence() as presence:
        assert presence is not None
        assert not presence.is_taken(0)
        assert open_under(tmp_path) == [str(tmp_path / "jobs.db-lock")]
    assert open_under(tmp_path) == []


def test_a_queue_that_is_used_again_after_its_end_opens_the_file_again(tmp_path: Path) -> None:
    store = write(tmp_path / "jobs.db")
    store.close()
    with store.database.write():
        assert str(tmp_path / "jobs.db-lock") in open_under(tmp_path)
    store.close()
    store.close()
    assert open_under(tmp_path) == []


def test_of_two_queues_on_one_file_one_is_closed_and_the_seat_of_the_other_still_holds(
    run_python: RunPython, database_path: Path
) -> None:
    first, second = write(database_path), write(database_path)
    _, seat = second.workers.register(describe)
    assert seat is not None
    first.close()
    assert looks(run_python, database_path, 1) == "True\n"
    seat.leave()
    assert looks(run_python, database_path, 1) == "False\n"
    second.close()


def test_a_queue_that_is_closed_while_its_worker_sits_keeps_the_seat(
    run_python: RunPython, database_path: Path
) -> None:
    store = write(database_path)
    _, seat = store.workers.register(describe)
    assert seat is not None
    store.close()
    write(database_path).close()
    assert looks(run_python, database_path, 1) == "True\n"
    seat.leave()
    assert open_under(database_path.parent) == []


def test_who_is_inside_the_gate_keeps_it_when_the_queue_is_closed(database_path: Path) -> None:
    """The lock is his, whoever closes."""
    gate = Gate(partial(use_lock_file_of, database_path))
    assert gate.enter(0)
    gate.close()
    with lent(partial(use_lock_file_of, database_path)) as file:
        assert file is not None
    assert open_under(database_path.parent) == [str(database_path) + "-lock"]
    gate.leave()
    gate.close()
    assert open_under(database_path.parent) == []


def test_a_forked_child_that_gives_back_what_it_inherited_keeps_its_own_seat(
    run_python: RunPython, database_path: Path
) -> None:
    """Closing the inherited handle would drop the child's locks."""
    code = f"""
import os, subprocess, sys
from pathlib import Path
from durablejobs.store.sqlite.files import use_lock_file_of
inherited = use_lock_file_of(Path(sys.argv[1]))
child = os.fork()
if child == 0:
    own = use_lock_file_of(Path(sys.argv[1])).take_seat([])
    inherited.give_back()
    subprocess.run([sys.executable, "-c", {LOOK!r}, sys.argv[1], "1"])
    os._exit(0)
os.waitpid(child, 0)
"""
    assert run_python(code, database_path).stdout == "True\n"
