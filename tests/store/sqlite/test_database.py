"""The file: how it is opened, written, waited for, watched over, and kept apart after a fork."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durablejobs import (
    CommitUnknownError,
    DatabaseBusyError,
    DatabaseConfig,
    DatabaseError,
    DatabaseReplacedError,
    DatabaseUnusableError,
    DiskFullError,
    DurableJobs,
    SchemaError,
)
from durablejobs.store import Store
from durablejobs.store.hot import driver_of
from durablejobs.store.peeking import Peek

from ...clocks import ManualClock
from ...conftest import Enqueue, RunPython, Sql, new_job


def pragma(connection: Any, name: str) -> Any:
    return driver_of(connection).execute(f"PRAGMA {name}").fetchone()[0]


@pytest.mark.parametrize("kind", ["read", "write"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("journal_size_limit", 64 * 1024 * 1024)],
)
def test_every_connection_is_durable_and_checks_foreign_keys(store: Store, kind: str, name: str, value: Any) -> None:
    with getattr(store.database, kind)() as connection:
        assert pragma(connection, name) == value


@pytest.mark.parametrize(("chosen", "value"), [("NORMAL", 1), ("FULL", 2), ("EXTRA", 3)])
def test_synchronous_is_what_was_chosen(database_path: Path, chosen: str, value: int) -> None:
    with closing(Store(database_path, DatabaseConfig(synchronous=chosen))) as store:
        store.open()
        with store.database.write() as connection:
            assert pragma(connection, "synchronous") == value


def test_a_write_holds_the_write_lock_from_its_beginning(store: Store, sql: Sql) -> None:
    """BEGIN IMMEDIATE: nobody can commit between what a transaction reads and what it writes."""
    sql("PRAGMA busy_timeout = 0")
    with store.database.write(), pytest.raises(sqlite3.OperationalError, match="database is locked"):
        sql("BEGIN IMMEDIATE")
    assert sql("BEGIN IMMEDIATE") == []


def test_leaving_a_write_commits_it_and_an_exception_rolls_it_back(store: Store, clock: ManualClock, sql: Sql) -> None:
    insert = "INSERT INTO jobs(handler) VALUES ('mail')"
    with store.database.write() as connection:
        connection.exec_driver_sql(insert)
        assert sql("SELECT count(*) AS n FROM jobs") == [{"n": 0}]
    assert sql("SELECT count(*) AS n FROM jobs") == [{"n": 1}]

    def insert_and_raise(error: type[BaseException]) -> None:
        with store.database.write() as connection:
            connection.exec_driver_sql(insert)
            raise error

    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            insert_and_raise(error)
    assert sql("SELECT count(*) AS n FROM jobs") == [{"n": 1}]
    assert store.new_jobs.insert(new_job(clock))[0] == 2


def test_a_read_sees_one_moment_whatever_is_committed_meanwhile(store: Store, enqueue: Enqueue) -> None:
    enqueue()
    with store.database.read() as connection:
        count = "SELECT count(*) FROM jobs"
        assert connection.exec_driver_sql(count).scalar() == 1
        enqueue()
        assert connection.exec_driver_sql(count).scalar() == 1
    with store.database.read() as connection:
        assert connection.exec_driver_sql(count).scalar() == 2


def test_a_write_inside_a_write_of_the_same_thread_is_refused_instead_of_waiting_for_ever(
    store: Store, clock: ManualClock, enqueue: Enqueue
) -> None:
    with pytest.raises(RuntimeError, match="a write inside a write"), store.database.write():
        store.new_jobs.insert(new_job(clock))
    assert enqueue() == 1


def test_enqueueing_from_the_items_of_enqueue_many_is_refused(jobs: DurableJobs) -> None:
    def items() -> Iterator[tuple[int]]:
        for number in range(3):
            jobs.enqueue("mail")
            yield (number,)

    with pytest.raises(RuntimeError, match="a write inside a write"):
        jobs.enqueue_many("mail", items())
    assert jobs.list_jobs() == []
    assert jobs.enqueue("mail").id == 1


# Waiting for other writers


@pytest.fixture
def impatient(database_path: Path) -> Iterator[Store]:
    with closing(Store(database_path, DatabaseConfig(busy_timeout=0.05))) as store:
        store.open()
        yield store


def test_a_database_held_by_another_program_for_too_long_is_busy(
    impatient: Store, clock: ManualClock, sql: Sql, database_path: Path
) -> None:
    sql("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseBusyError) as caught:
        impatient.new_jobs.insert(new_job(clock))
    assert str(caught.value) == (
        f"{database_path}: the database is busy: another writer has held it for 0.05 s; nothing was stored, try again"
    )
    assert (caught.value.path, caught.value.timeout) == (str(database_path), 0.05)
    sql("ROLLBACK")
    assert impatient.new_jobs.insert(new_job(clock)) == (1, True)


def test_reading_does_not_wait_for_a_writer(impatient: Store, sql: Sql) -> None:
    sql("BEGIN IMMEDIATE")
    assert impatient.reads.get(1) is None
    assert impatient.claims.peek() == Peek(has_work=False, next_due=None)


def test_a_thread_that_writes_for_too_long_makes_the_others_say_so(impatient: Store, clock: ManualClock) -> None:
    inside, leave = threading.Event(), threading.Event()

    def write() -> None:
        with impatient.database.write():
            inside.set()
            leave.wait(60)

    writer = threading.Thread(target=write)
    writer.start()
    inside.wait(60)
    with pytest.raises(DatabaseBusyError):
        impatient.new_jobs.insert(new_job(clock))
    leave.set()
    writer.join()
    assert impatient.new_jobs.insert(new_job(clock)) == (1, True)


def test_threads_and_stores_that_write_at_once_all_get_their_turn(database_path: Path, clock: ManualClock) -> None:
    stores = [Store(database_path, DatabaseConfig(busy_timeout=60)) for _ in range(2)]
    stores[0].open()

    def write(store: Store) -> None:
        for _ in range(25):
            store.new_jobs.insert(new_job(clock))

    threads = [threading.Thread(target=write, args=(store,)) for store in stores for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(job.id for job in stores[0].reads.list_jobs(_all(), 1000)) == list(range(1, 201))
    for store in stores:
        store.close()


def _all() -> Any:
    from durablejobs import JobFilter

    return JobFilter()


# Fork


FORK = """
import os, sys
from durablejobs import DurableJobs

jobs = DurableJobs(sys.argv[1])
jobs.enqueue("mail", "parent before")
jobs.list_jobs()  # the pool has a connection now
child = os.fork()
if child == 0:
    status = 1
    try:
        database = jobs._store.database
        assert database.path.exists()
        links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
        assert any(os.readlink(link).endswith("jobs.db") for link in links if os.path.exists(link)), "inherited nothing"
        jobs.enqueue("mail", "child")
        assert len(jobs.list_jobs()) == 2
        jobs.close()
        status = 0
    finally:
        os._exit(status)
assert os.waitpid(child, 0)[1] == 0
jobs.enqueue("mail", "parent after")
print([job.args[0] for job in jobs.list_jobs()])
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc")
def test_a_forked_child_works_on_connections_of_its_own(run_python: RunPython, database_path: Path, sql: Sql) -> None:
    ended = run_python(FORK, database_path)
    assert (ended.stdout, ended.stderr) == ("['parent after', 'child', 'parent before']\n", "")
    assert sql("PRAGMA integrity_check") == [{"integrity_check": "ok"}]


FORK_IN_A_TRANSACTION = """
import os, sys
from durablejobs import DurableJobs

jobs = DurableJobs(sys.argv[1])
jobs.open()
database = jobs._store.database
engine, writer = database._engine, database._writer
with database.write() as connection:
    connection.exec_driver_sql("INSERT INTO jobs(handler) VALUES ('parent')")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            assert database._engine is not engine and database._writer is not writer
            assert jobs.list_jobs() == []  # the parent has not committed
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
print([job.handler for job in jobs.list_jobs()])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_in_the_middle_of_a_transaction_leaves_it_to_the_parent(
    run_python: RunPython, database_path: Path
) -> None:
    ended = run_python(FORK_IN_A_TRANSACTION, database_path)
    assert (ended.stdout, ended.stderr) == ("['parent']\n", "")


# The file itself


def test_the_file_that_was_opened_is_the_one_that_is_there(store: Store) -> None:
    store.check_identity()


def test_a_deleted_file_is_noticed(store: Store, database_path: Path) -> None:
    database_path.unlink()
    with pytest.raises(
        DatabaseReplacedError, match=r"jobs\.db: the database file was deleted or replaced while in use"
    ):
        store.check_identity()


def test_a_file_that_was_replaced_by_another_is_noticed(store: Store, database_path: Path, tmp_path: Path) -> None:
    shutil.copyfile(database_path, tmp_path / "restored.db")
    (tmp_path / "restored.db").replace(database_path)
    with pytest.raises(DatabaseReplacedError):
        store.check_identity()


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_an_enqueue_into_a_file_that_is_not_there_any_more_is_an_error(
    database_path: Path, tmp_path: Path, how: str
) -> None:
    """SQLite acknowledges it; what was enqueued would be lost without a word."""
    jobs = DurableJobs(database_path)
    jobs.enqueue("mail")
    if how == "deleted":
        database_path.unlink()
    else:
        jobs.back_up(tmp_path / "copy.db")
        os.replace(tmp_path / "copy.db", database_path)
        for suffix in ("-wal", "-shm"):
            database_path.with_name(f"jobs.db{suffix}").unlink()
    with pytest.raises(DatabaseReplacedError):
        jobs.enqueue("mail")
    with pytest.raises(DatabaseReplacedError):
        jobs.enqueue_many("mail", [()] * 3)
    jobs.close()
    assert jobs.enqueue("mail").id == (1 if how == "deleted" else 2)
    jobs.close()


def test_looking_at_another_programs_database_does_not_change_how_it_is_kept(database_path: Path) -> None:
    with closing(sqlite3.connect(database_path)) as theirs:
        theirs.execute("CREATE TABLE theirs(a)")
    before = database_path.read_bytes()
    for act in (DurableJobs(database_path).open, DurableJobs(database_path).statistics):
        with pytest.raises(SchemaError, match="a database without a job queue"):
            act()
    assert database_path.read_bytes() == before
    jobs = DurableJobs(database_path)
    jobs.migrate()
    jobs.enqueue("mail")
    with closing(sqlite3.connect(database_path)) as theirs:
        assert theirs.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_file_that_was_only_written_to_is_the_same(store: Store, sql: Sql, enqueue: Enqueue) -> None:
    enqueue()
    sql("VACUUM")
    store.check_identity()


def test_nothing_is_noticed_before_the_file_was_opened(database_path: Path) -> None:
    Store(database_path).check_identity()


# No room


def limit_pages(store: Store, more: int) -> None:
    """Let the writing connection grow the file by so many pages and no further."""
    with store.database.write() as connection:
        pages = pragma(connection, "page_count")
        driver_of(connection).execute(f"PRAGMA max_page_count = {pages + more}")


def test_a_full_disk_stores_nothing_and_the_same_store_goes_on_when_there_is_room(
    store: Store, clock: ManualClock, enqueue: Enqueue, database_path: Path, sql: Sql
) -> None:
    enqueue()
    limit_pages(store, 2)
    with pytest.raises(DiskFullError) as caught:
        store.new_jobs.insert(new_job(clock, args=f'["{"x" * 100_000}"]'))
    assert str(caught.value) == (
        f"{database_path}: the disk is full (or a file-size limit is reached); nothing was stored"
    )
    with pytest.raises(DiskFullError):
        store.new_jobs.insert_many(new_job(clock, args=f'["{"x" * 1000}"]') for _ in range(2000))
    assert sql("SELECT id FROM jobs") == [{"id": 1}]
    limit_pages(store, 1_000_000)
    assert store.new_jobs.insert(new_job(clock, args=f'["{"x" * 100_000}"]')) == (2, True)
    assert sql("PRAGMA integrity_check") == [{"integrity_check": "ok"}]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    directory = tmp_path / "small"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(directory)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


def test_on_a_disk_that_is_really_full_what_was_acknowledged_is_there_and_nothing_else(small_disk: Path) -> None:
    jobs = DurableJobs(small_disk / "jobs.db")
    acknowledged: list[int] = []
    with pytest.raises(DiskFullError):  # noqa: PT012 - the loop is what fills the disk
        while True:
            acknowledged.append(jobs.enqueue("mail", "x" * 5000).id)
    assert len(acknowledged) > 20
    assert sorted(job.id for job in jobs.list_jobs(limit=10_000)) == acknowledged
    for _ in range(3):
        with pytest.raises(DiskFullError):
            jobs.enqueue("mail", "x" * 5000)
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    acknowledged.append(jobs.enqueue("mail", "x" * 5000).id)
    assert sorted(job.id for job in jobs.list_jobs(limit=10_000)) == acknowledged
    jobs.close()


FILE_SIZE_LIMIT = """
import resource, sys
from durablejobs import CommitUnknownError, DatabaseError, DiskFullError, DurableJobs

jobs = DurableJobs(sys.argv[1])
acknowledged = [jobs.enqueue("mail").id]
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (512 * 1024, hard))
errors = []
for number in range(300):
    try:
        acknowledged.append(jobs.enqueue("mail", "x" * 5000).id)
    except DatabaseError as error:
        errors.append(type(error).__name__)
        if len(errors) == 3:
            break
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
acknowledged.append(jobs.enqueue("mail", "x" * 5000).id)
stored = sorted(job.id for job in jobs.list_jobs(limit=1000))
print(set(errors), set(acknowledged) <= set(stored), len(stored) - len(acknowledged))
"""


def test_a_file_size_limit_is_reported_and_the_same_process_goes_on_without_it(
    run_python: RunPython, database_path: Path, sql: Sql
) -> None:
    """SQLite calls it an I/O error. An acknowledged job is there; one that was not may be, if that was said."""
    ended = run_python(FILE_SIZE_LIMIT, database_path)
    assert ended.stderr == ""
    found = re.fullmatch(r"\{(.*)\} True (\d)\n", ended.stdout)
    assert found is not None, ended.stdout
    assert set(found[1].replace("'", "").split(", ")) <= {"DiskFullError", "CommitUnknownError"}
    assert int(found[2]) <= 1 if "CommitUnknownError" in found[1] else int(found[2]) == 0
    assert sql("PRAGMA integrity_check") == [{"integrity_check": "ok"}]


# What the driver reports


class Reported(sqlite3.OperationalError):
    def __init__(self, code: int) -> None:
        super().__init__("the driver's words")
        self.sqlite_errorcode = code


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (sqlite3.SQLITE_BUSY, DatabaseBusyError, "is busy"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, DatabaseBusyError, "is busy"),
        (sqlite3.SQLITE_LOCKED, DatabaseBusyError, "is busy"),
        (sqlite3.SQLITE_FULL, DiskFullError, "the disk is full"),
        (sqlite3.SQLITE_READONLY, DatabaseUnusableError, "cannot be written"),
        (sqlite3.SQLITE_READONLY_DBMOVED, DatabaseUnusableError, "cannot be written"),
        (sqlite3.SQLITE_CANTOPEN, DatabaseUnusableError, "cannot be opened"),
        (sqlite3.SQLITE_NOTADB, DatabaseUnusableError, "is not a SQLite database"),
        (sqlite3.SQLITE_CORRUPT, DatabaseUnusableError, "is damaged"),
        (sqlite3.SQLITE_IOERR_READ, DatabaseUnusableError, "the disk reports an error (the driver's words)"),
        (sqlite3.SQLITE_NOMEM, DatabaseUnusableError, "out of memory"),
    ],
)
def test_what_the_driver_reports_becomes_one_sentence_with_the_path(
    store: Store, database_path: Path, code: int, error: type[DatabaseError], words: str
) -> None:
    for kind in (store.database.read, store.database.write):
        with pytest.raises(error) as caught, kind():
            raise Reported(code)
        assert str(caught.value).startswith(f"{database_path}: ")
        assert words in str(caught.value)


def test_a_programming_error_is_shown_as_it_is(store: Store) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table: nonsense"), store.database.write() as connection:
        driver_of(connection).execute("SELECT * FROM nonsense")


def test_an_unknown_outcome_names_the_way_out() -> None:
    assert str(CommitUnknownError("/x/jobs.db", "disk I/O error")) == (
        "/x/jobs.db: the commit failed (disk I/O error); whether it was stored is unknown: look, "
        "or retry with a unique key"
    )


def test_a_connection_that_is_thrown_away_lets_go_of_the_write_lock_whatever_refers_to_its_statement(
    database_path: Path,
) -> None:
    """So SQLAlchemy does when a timeout interrupts a statement of a handler's transaction."""
    with closing(DurableJobs(database_path)) as jobs:
        jobs.open()
        transaction = jobs._store.database.lend()
        connection = transaction.__enter__()
        transaction.forbid_end(lambda _what: None)
        statement = driver_of(connection).execute("SELECT 1 UNION ALL SELECT 2")
        assert next(statement) == (1,)
        connection.invalidate()
        transaction.roll_back()
        with closing(sqlite3.connect(database_path, timeout=0, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
        del statement
