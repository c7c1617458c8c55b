"""A worker makes the write-ahead log as long as it will become; what is in it stays whole."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from durablejobs.store import Store
from durablejobs.store.sqlite.log_room import log_of, make_room

from ...conftest import Enqueue, Sql

LENGTH = 4_000_000


@pytest.fixture
def log(store: Store, database_path: Path) -> Path:
    """The log of a database that is open."""
    with store.database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE own(number)")
    return log_of(database_path)


def with_room(store: Store) -> None:
    with store.database.write():
        store.database.make_log_room()


@contextmanager
def limited_to(length: int) -> Iterator[None]:
    """Let no file of this process become longer, within the block."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_log_that_has_room_grows_no_more(store: Store, log: Path, enqueue: Enqueue) -> None:
    with_room(store)
    length = log.stat().st_size
    assert length >= LENGTH
    for _ in range(20):
        enqueue()
    assert log.stat().st_size == length


def test_a_log_that_is_long_already_is_left_as_it_is(store: Store, log: Path) -> None:
    with_room(store)
    length = log.stat().st_size
    with_room(store)
    assert log.stat().st_size == length


def test_what_is_in_a_log_with_room_is_found_after_a_crash(
    store: Store, log: Path, sql: Sql, enqueue: Enqueue, database_path: Path, tmp_path: Path
) -> None:
    """The copy is what a killed machine would find: a database file that knows nothing yet, and its log."""
    enqueue()
    with_room(store)
    enqueue()
    for suffix in ("", "-wal"):
        shutil.copy(f"{database_path}{suffix}", tmp_path / f"copy.db{suffix}")
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT count(*) FROM jobs").fetchone() == (2,)
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert sql("SELECT count(*) AS n FROM jobs") == [{"n": 2}]


def test_room_in_a_log_without_a_single_frame_is_no_log(store: Store, log: Path, sql: Sql) -> None:
    sql("PRAGMA wal_checkpoint(TRUNCATE)")
    assert log.stat().st_size == 0
    with_room(store)
    assert log.stat().st_size >= LENGTH
    assert sql("SELECT count(*) AS n FROM jobs") == [{"n": 0}]


def test_a_disk_that_is_nearly_full_keeps_its_room_for_jobs(
    store: Store, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who took it at his start would find none for his first jobs."""
    length = log.stat().st_size
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=LENGTH))
    with_room(store)
    assert log.stat().st_size == length


def test_room_of_which_there_is_only_a_part_is_given_back(store: Store, log: Path, enqueue: Enqueue, sql: Sql) -> None:
    """As a quota does it: the disk has room, but not for this file."""
    length = log.stat().st_size
    with limited_to(length + 100_000):
        with_room(store)
    assert log.stat().st_size == length
    enqueue()
    assert sql("SELECT count(*) AS n FROM jobs") == [{"n": 1}]


def test_the_log_of_a_link_is_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere" / "jobs.db", tmp_path / "jobs.db")
    assert log_of(tmp_path / "jobs.db") == tmp_path / "elsewhere" / "jobs.db-wal"


def test_where_there_is_no_log_nothing_is_made(tmp_path: Path) -> None:
    make_room(tmp_path / "jobs.db-wal", LENGTH)
    assert list(tmp_path.iterdir()) == []
