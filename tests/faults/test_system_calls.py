"""Each system call on the database's files fails, one after another: what was said is true, and nothing is half."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from .promises import broken_promises
from .recording import HAS_STRACE
from .victims import Fate, Fault, Victims

pytestmark = [
    pytest.mark.skipif(not HAS_STRACE, reason="system calls are made to fail with strace"),
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

ONCE = [
    ("fdatasync", "EIO"),
    ("pwrite64", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("pwrite64", "EFBIG"),
    ("pread64", "EIO"),
    ("openat", "EMFILE"),
    ("openat", "EACCES"),
    ("ftruncate", "EIO"),
    ("fcntl", "EIO"),
    ("fcntl", "ENOLCK"),
    ("mmap", "ENOMEM"),
    ("newfstatat", "EIO"),
]
FOR_EVER = [("fdatasync", "EIO"), ("pwrite64", "ENOSPC"), ("pread64", "EIO")]


@pytest.fixture
def place(tmp_path: Path, empty_database: Path) -> Path:
    """A directory with an empty queue."""
    shutil.copyfile(empty_database, tmp_path / "jobs.db")
    return tmp_path


def rows_of(place: Path) -> list[tuple[int, str]]:
    with closing(sqlite3.connect(place / "jobs.db")) as connection:
        assert broken_promises(connection) == []
        return connection.execute("SELECT id, status FROM jobs").fetchall()


def faults(call: str, error: str, most: int, lasting: bool) -> Iterator[Fault]:
    for number in range(1, most + 1):
        yield Fault(call, f"error={error}", f"{number}+" if lasting else str(number))


def check_enqueue(place: Path, fate: Fate, stored_before: int) -> None:
    """What the enqueuer said is what the file holds."""
    assert fate.exit_code == 0, fate.log
    added = len(rows_of(place)) - stored_before
    if "stored" in fate.answer:
        assert added == 1, fate
    elif fate.answer["error"] == "CommitUnknownError":
        assert added in (0, 1), fate
    else:
        assert added == 0, fate
    assert "\n" not in fate.answer.get("message", "")


@pytest.mark.parametrize(("call", "error"), ONCE)
def test_an_enqueue_whose_system_call_fails_says_the_truth(
    victims: Victims, place: Path, call: str, error: str, record_property: Callable[[str, object], None]
) -> None:
    tried = 0
    answers: Counter[str] = Counter()
    for fault in faults(call, error, victims.run(place, do="enqueue").calls[call], lasting=False):
        before = len(rows_of(place))
        fate = victims.run(place, fault, do="enqueue")
        check_enqueue(place, fate, before)
        tried += fate.injected > 0
        answers[fate.answer.get("error", "stored")] += 1
    record_property("faults", tried)
    record_property("answers", dict(answers))
    assert tried > 0


@pytest.mark.parametrize(("call", "error"), FOR_EVER)
def test_an_enqueue_on_a_disk_that_has_failed_for_good_says_the_truth(
    victims: Victims, place: Path, call: str, error: str, record_property: Callable[[str, object], None]
) -> None:
    tried = 0
    most = victims.run(place, do="enqueue").calls[call]
    for fault in islice(faults(call, error, most, lasting=True), 0, None, max(1, most // 8)):
        before = len(rows_of(place))
        check_enqueue(place, victims.run(place, fault, do="enqueue"), before)
        tried += 1
    record_property("faults", tried)


def test_a_batch_whose_system_call_fails_is_there_as_a_whole_or_not_at_all(
    victims: Victims, place: Path, record_property: Callable[[str, object], None]
) -> None:
    tried = 0
    for call, error in (("pwrite64", "ENOSPC"), ("pwrite64", "EIO"), ("fdatasync", "EIO")):
        most = victims.run(place, do="batch", count=300).calls[call]
        for fault in islice(faults(call, error, most, lasting=False), 0, None, max(1, most // 8)):
            before = len(rows_of(place))
            fate = victims.run(place, fault, do="batch", count=300)
            assert fate.exit_code == 0, fate.log
            added = len(rows_of(place)) - before
            unknown = fate.answer.get("error") == "CommitUnknownError"
            assert added == 300 if "stored" in fate.answer else added in ((0, 300) if unknown else (0,)), fate
            tried += fate.injected > 0
    record_property("faults", tried)


@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
def test_an_enqueuer_that_is_killed_at_any_system_call_leaves_one_job_or_none(
    victims: Victims, place: Path, call: str, record_property: Callable[[str, object], None]
) -> None:
    most = victims.run(place, do="enqueue").calls[call]
    for number in range(1, most + 1):
        before = len(rows_of(place))
        fate = victims.run(place, Fault(call, "signal=SIGKILL", str(number)), do="enqueue", unique_key=f"key{number}")
        assert len(rows_of(place)) - before in ((1,) if fate.answer else (0, 1))
        again = victims.run(place, do="enqueue", unique_key=f"key{number}")  # safe to try again
        assert "stored" in again.answer
        assert len(rows_of(place)) - before == 1
    record_property("kills", most)


def check_worker(victims: Victims, place: Path, fault: Fault, lasting: bool) -> Fate:
    """Let a worker meet the fault in the middle of ten jobs; a second one finishes what it leaves."""
    for file in ("calls", "jobs.db-wal", "jobs.db-shm", "jobs.db-lock"):
        (place / file).unlink(missing_ok=True)
    victims.run(place, do="batch", count=10)
    ids = [row[0] for row in rows_of(place) if row[1] == "pending"]
    fate = victims.run(place, fault, do="work", lease=1)
    assert fate.exit_code == 0, fate.log
    if lasting:
        assert fate.answer.get("seconds", 0) < 60, fate
    victims.run(place, do="work", lease=1)
    statuses = dict(rows_of(place))
    assert {statuses[each] for each in ids} == {"succeeded"}, (fault, fate.log)
    calls = Counter((place / "calls").read_text().split())
    assert set(calls) == {str(number) for number in range(10)}
    assert fate.log.count("\n") < 60, fate.log  # no storm of lines
    return fate


WORKER_FAULTS = [
    ("fdatasync", "EIO", False),
    ("pwrite64", "EIO", False),
    ("pwrite64", "ENOSPC", False),
    ("pread64", "EIO", False),
    ("fcntl", "EIO", False),
    ("openat", "EMFILE", False),
    ("fdatasync", "EIO", True),
    ("pwrite64", "ENOSPC", True),
]


@pytest.mark.parametrize(("call", "error", "lasting"), WORKER_FAULTS)
def test_a_worker_whose_system_call_fails_loses_no_job(
    victims: Victims,
    place: Path,
    call: str,
    error: str,
    lasting: bool,
    record_property: Callable[[str, object], None],
) -> None:
    victims.run(place, do="batch", count=10)
    most = victims.run(place, do="work", lease=1).calls[call]
    answers: Counter[str] = Counter()
    for fault in islice(faults(call, error, most, lasting), 0, None, max(1, most // 6)):
        fate = check_worker(victims, place, fault, lasting)
        answers[fate.answer.get("error", "succeeded")] += 1
    record_property("faults", answers.total())
    record_property("answers", dict(answers))


@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
def test_a_worker_that_is_killed_at_any_system_call_loses_no_job(
    victims: Victims, place: Path, call: str, record_property: Callable[[str, object], None]
) -> None:
    victims.run(place, do="batch", count=10)
    most = victims.run(place, do="work", lease=1).calls[call]
    kills = 0
    for number in range(1, most + 1, max(1, most // 6)):  # the last ones may come no more: runs differ in their waits
        (place / "calls").unlink(missing_ok=True)
        victims.run(place, do="batch", count=10)
        kills += victims.run(place, Fault(call, "signal=SIGKILL", str(number)), do="work", lease=1).exit_code == -9
        victims.run(place, do="work", lease=1)
        assert {status for _, status in rows_of(place)} == {"succeeded"}
        calls = Counter((place / "calls").read_text().split())
        assert set(calls) == {str(each) for each in range(10)}
    record_property("kills", kills)
    assert kills > 3


def test_syncs_that_take_long_lose_no_lease(victims: Victims, place: Path) -> None:
    """Each sync takes 0.4 s, the lease is 2 s: slower, and nothing is run twice."""
    victims.run(place, do="batch", count=10)
    fate = victims.run(place, Fault("fdatasync", "delay_enter=400000", "1+"), do="work", lease=2)
    assert fate.answer["succeeded"] == 10
    assert Counter((place / "calls").read_text().split()).most_common(1)[0][1] == 1
    assert {status for _, status in rows_of(place)} == {"succeeded"}


@pytest.mark.parametrize(
    "limits",
    [{"RLIMIT_NOFILE": 9}, {"RLIMIT_FSIZE": 20_000}, {"RLIMIT_AS": 120_000_000}],
    ids=lambda each: next(iter(each)),
)
def test_an_enqueue_without_descriptors_file_size_or_memory_says_the_truth(
    victims: Victims, place: Path, limits: dict[str, int]
) -> None:
    fate = victims.run(place, do="batch", count=5_000, limits=limits)
    added = len(rows_of(place))
    if "stored" in fate.answer:
        assert added == 5_000
    else:
        assert added == 0
        assert fate.exit_code == 0 or "MemoryError" in fate.log


# Planted bugs


def test_the_harness_finds_an_enqueue_that_says_stored_before_it_is(place: Path) -> None:
    with pytest.raises(AssertionError):
        check_enqueue(place, Fate({"stored": 1}, 0, Counter(), 1, ""), 0)


def test_the_harness_finds_a_job_behind_an_error_that_says_nothing_was_stored(victims: Victims, place: Path) -> None:
    victims.run(place, do="enqueue")
    with pytest.raises(AssertionError):
        check_enqueue(place, Fate({"error": "DiskFullError"}, 0, Counter(), 1, ""), 0)
