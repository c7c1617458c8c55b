"""Noticing other connections' commits, with the kernel's reports and without."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from durablejobs import DatabaseUnusableError
from durablejobs.store import Store
from durablejobs.store.sqlite import watch
from durablejobs.store.sqlite.watch import ASK_EVERY, Watch

from ...conftest import Enqueue, RunPython, Sql

OpenWatch = Callable[[], Watch]
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux reports writes by inotify")


@pytest.fixture
def open_watch(store: Store) -> Iterator[OpenWatch]:
    opened: list[Watch] = []

    def open_one() -> Watch:
        opened.append(store.watch_work())
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


@pytest.fixture(params=["reports", "no reports"])
def watched(request: pytest.FixtureRequest, open_watch: OpenWatch, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """A watch, on a platform that reports writes and on one that does not."""
    if request.param == "no reports":
        monkeypatch.setattr(watch, "_watch_writes", lambda _file: None)
    return open_watch()


def test_without_a_commit_nothing_has_changed(watched: Watch) -> None:
    assert not watched.changed()
    assert not watched.changed()


def test_a_commit_of_this_process_is_noticed_once(watched: Watch, enqueue: Enqueue) -> None:
    enqueue()
    assert watched.changed()
    assert not watched.changed()


def test_a_commit_of_another_program_is_noticed_once(watched: Watch, sql: Sql) -> None:
    sql("INSERT INTO jobs(handler) VALUES ('mail')")
    assert watched.changed()
    assert not watched.changed()


def test_a_commit_of_another_process_is_noticed(watched: Watch, store: Store, run_python: RunPython) -> None:
    code = "import sys, durablejobs; durablejobs.DurableJobs(sys.argv[1]).enqueue('mail')"
    assert run_python(code, store.location).returncode == 0
    assert watched.changed()


def test_many_commits_between_two_looks_are_one_change(watched: Watch, enqueue: Enqueue) -> None:
    for _ in range(5):
        enqueue()
    assert watched.changed()
    assert not watched.changed()


def test_what_is_only_read_or_rolled_back_is_no_news(watched: Watch, store: Store, sql: Sql) -> None:
    store.claims.peek()
    sql("BEGIN IMMEDIATE")
    sql("INSERT INTO jobs(handler) VALUES ('mail')")
    sql("ROLLBACK")
    assert not watched.changed()


def test_its_own_connections_commits_are_no_news(watched: Watch) -> None:
    watched._connection.execute("INSERT INTO jobs(handler) VALUES ('mail')")
    assert not watched.changed()


def test_two_watches_notice_the_same_commit(open_watch: OpenWatch, enqueue: Enqueue) -> None:
    first, second = open_watch(), open_watch()
    enqueue()
    assert first.changed()
    assert second.changed()


def test_commits_are_noticed_after_the_log_was_written_back_and_started_again(
    watched: Watch, sql: Sql, enqueue: Enqueue
) -> None:
    enqueue()
    watched.changed()
    sql("PRAGMA wal_checkpoint(TRUNCATE)")
    watched.changed()
    enqueue()
    assert watched.changed()


@on_linux
def test_the_kernel_reports_a_write(open_watch: OpenWatch, enqueue: Enqueue) -> None:
    watched = open_watch()
    assert watched.descriptor is not None
    assert select.select([watched.descriptor], [], [], 0)[0] == []
    enqueue()
    assert select.select([watched.descriptor], [], [], 10)[0] == [watched.descriptor]


@on_linux
def test_the_kernel_goes_on_reporting_after_the_log_was_cut(open_watch: OpenWatch, enqueue: Enqueue, sql: Sql) -> None:
    watched = open_watch()
    sql("PRAGMA wal_checkpoint(TRUNCATE)")
    if select.select([watched.descriptor], [], [], 0)[0]:
        watched.note_write()
    enqueue()
    assert select.select([watched.descriptor], [], [], 10)[0]


@on_linux
def test_a_report_that_was_taken_does_not_come_again(open_watch: OpenWatch, enqueue: Enqueue) -> None:
    watched = open_watch()
    enqueue()
    watched.note_write()
    assert select.select([watched.descriptor], [], [], 0)[0] == []


@on_linux
def test_with_reports_it_asks_only_after_one_and_soon_then(open_watch: OpenWatch, enqueue: Enqueue) -> None:
    watched = open_watch()
    assert watched.ask_again_in() > 60
    enqueue()
    watched.note_write()
    waits = [watched.ask_again_in() for _ in range(20)]
    assert waits[0] < 0.001
    assert waits == sorted(waits)
    assert waits[-1] == ASK_EVERY
    assert watched.changed()
    assert watched.ask_again_in() > 60


def test_without_reports_it_asks_every_few_milliseconds(open_watch: OpenWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_watch_writes", lambda _file: None)
    assert open_watch().ask_again_in() == ASK_EVERY <= 0.01


@on_linux
def test_a_kernel_that_refuses_to_report_is_no_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert watch._watch_writes(store.database.path.with_name("missing")) is None
    monkeypatch.setattr(sys, "platform", "another")
    assert watch._watch_writes(store.database.path) is None


@on_linux
def test_closing_gives_the_descriptors_back(store: Store) -> None:
    def open_descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    store.watch_work().close()
    before = open_descriptors()
    for _ in range(5):
        store.watch_work().close()
    assert open_descriptors() <= before


def test_asking_is_cheap(watched: Watch) -> None:
    started = time.process_time()
    for _ in range(1000):
        watched.changed()
    assert time.process_time() - started < 0.5


def test_an_error_of_the_look_out_is_news_and_no_error_of_its_own(store: Store) -> None:
    watch = store.watch_work()
    watch._connection.close()  # type: ignore[attr-defined]
    assert watch.changed()
    assert watch.changed()
    watch.close()


def test_a_look_out_on_a_file_that_is_no_database_is_one_of_our_errors(store: Store, database_path: Path) -> None:
    store.close()
    database_path.write_bytes(b"once upon a time " * 1000)
    with pytest.raises(DatabaseUnusableError, match="not a SQLite database"):
        store.database.watch_work()
