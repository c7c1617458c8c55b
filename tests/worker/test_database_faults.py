"""The database is busy, full, gone or replaced under a living worker."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from durablejobs import CommitUnknownError, DatabaseBusyError, DatabaseUnusableError, DurableJobs
from durablejobs.jobs import ClaimedJob, Notes
from durablejobs.read_ahead import ReadAhead
from durablejobs.statuses import Status
from durablejobs.store.doors.claims import Claims

from .harness import PATIENCE, Nursery, Queue, wait_until


@pytest.mark.parametrize("busy_timeout", [0.3, 30])
def test_a_worker_waits_for_another_writer_and_loses_nothing(queue: Queue, busy_timeout: float) -> None:
    worker = queue.start(busy_timeout=busy_timeout, concurrency=2)
    job_id = queue.enqueue("pass_gate", "gate", "kept")
    queue.wait_for_call(job_id)
    waiting = queue.enqueue_many("echo", 20)
    with closing(sqlite3.connect(queue.path, isolation_level=None)) as other:
        wait_until(lambda: set(queue.statuses()) == {"running", "succeeded"}, "only the slow job is left")
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE jobs SET meta = '{\"seen\": 1}' WHERE id = ?", (job_id,))
        queue.open_gate()
        since = time.monotonic()
        wait_until(lambda: time.monotonic() - since > 2, "the other writer is done")
        assert queue.row(job_id)["status"] == "running"
        other.execute("COMMIT")
    queue.wait_for("succeeded", job_id)
    assert queue.job(job_id).result == "kept"
    assert queue.calls_by_job() == dict.fromkeys([job_id, *waiting], 1)
    assert ("the database is busy" in worker.log) == (busy_timeout < 2)
    later = queue.enqueue("echo")
    queue.wait_for("succeeded", later)
    assert worker.stop()["succeeded"] == 22


def test_a_worker_gives_up_when_it_could_not_write_for_a_lease(queue: Queue) -> None:
    worker = queue.start(busy_timeout=0.1, lease=1, heartbeat=0.3)
    job_id = queue.enqueue("pass_gate", "gate")
    queue.wait_for_call(job_id)
    with closing(sqlite3.connect(queue.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        queue.open_gate()
        assert worker.wait() == 1
        other.execute("ROLLBACK")
    assert "DatabaseBusyError" in worker.log
    queue.run()
    row = queue.row(job_id)
    assert row["status"] == "succeeded"
    assert len(queue.calls()) == 2
    assert queue.registered() == []


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "running a job"])
@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_worker_ends_when_its_database_is_gone(
    queue: Queue, empty_database: Path, tmp_path: Path, how: str, busy: bool
) -> None:
    worker = queue.start_idle(interval=60)
    if busy:
        job_id = queue.enqueue("pass_gate", "gate")
        queue.wait_for_call(job_id)
    if how == "deleted":
        queue.path.unlink()
    else:
        shutil.copyfile(empty_database, tmp_path / "other.db")
        os.replace(tmp_path / "other.db", queue.path)
    assert worker.wait() == 1  # long before the interval is over
    assert "DatabaseReplacedError" in worker.log
    assert "the database file was deleted or replaced while in use" in worker.log
    if how == "deleted":
        assert not queue.path.exists()  # nothing has created it again


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little room."""
    mount = tmp_path / "small"
    mount.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(mount)], check=False)
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield mount
    subprocess.run(["umount", "--lazy", str(mount)], check=True)


@pytest.fixture
def small_queue(small_disk: Path, nursery: Nursery, empty_database: Path, tmp_path: Path) -> Iterator[Queue]:
    """A queue whose database is on the small disk; what the handlers write is not."""
    shutil.copyfile(empty_database, small_disk / "jobs.db")
    with Queue(tmp_path, nursery, small_disk / "jobs.db") as queue:
        yield queue
        for worker in queue.workers:
            worker.kill()
        queue.check_integrity()


def _fill(disk: Path) -> Path:
    """Take all the room that is left; return the file that holds it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    assert shutil.disk_usage(disk).free == 0
    return filler


def test_a_result_that_found_no_room_is_stored_when_there_is_room_again(small_queue: Queue, small_disk: Path) -> None:
    worker = small_queue.start()
    result = "x" * 500_000
    job_id = small_queue.enqueue("pass_gate", "gate", result)
    small_queue.wait_for_call(job_id)
    filler = _fill(small_disk)
    small_queue.open_gate()
    wait_until(lambda: worker.log.count("the disk is full") >= 2, "the worker has tried in vain, twice")
    assert worker.is_alive
    assert small_queue.row(job_id)["status"] == "running"
    filler.unlink()
    small_queue.wait_for("succeeded", job_id)
    assert small_queue.job(job_id).result == result
    assert len(small_queue.calls()) == 1
    later = small_queue.enqueue("echo")
    small_queue.wait_for("succeeded", later)
    assert worker.stop()["succeeded"] == 2


def test_a_worker_that_starts_on_a_full_disk_says_so(small_queue: Queue, small_disk: Path) -> None:
    small_queue.enqueue("echo")
    _fill(small_disk)
    worker = small_queue.start()
    assert worker.wait() == 1  # and not by SIGBUS, as who writes to a file that is only mapped
    assert "DiskFullError" in worker.log


def test_a_lock_file_that_cannot_be_written_is_one_clear_error(queue: Queue) -> None:
    (queue.directory / "jobs.db-lock").mkdir()
    with pytest.raises(DatabaseUnusableError, match=r"jobs\.db-lock: cannot be written: Is a directory"):
        queue.enqueue("echo")
    command = [sys.executable, "-m", "durablejobs", "workers", "--db", str(queue.path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stderr == "no workers\n"
    (queue.directory / "jobs.db-lock").rmdir()
    queue.enqueue("echo")


def test_a_restored_backup_is_noticed_and_goes_on_where_it_was(queue: Queue, tmp_path: Path) -> None:
    """The backup was made in the middle of a job; its worker ends, the next one runs the job again."""
    running = queue.enqueue("pass_gate", "gate")
    worker = queue.start(interval=60, lease=1, heartbeat=0.3)
    queue.wait_for_call(running)
    backup = tmp_path / "backup.db"
    queue.jobs.back_up(backup)
    after = queue.enqueue("echo")
    queue.jobs.close()
    os.replace(backup, queue.path)
    for suffix in ("-wal", "-shm"):
        Path(f"{queue.path}{suffix}").unlink(missing_ok=True)
    assert worker.wait() == 1
    assert "DatabaseReplacedError" in worker.log
    queue.forget_connection()
    queue.open_gate()
    queue.start(lease=1, heartbeat=0.3)
    queue.wait_for("succeeded", running)
    assert queue.sql("SELECT count(*) AS jobs FROM jobs WHERE id = ?", after) == [{"jobs": 0}]
    row = queue.row(running)
    assert (row["attempt"], row["crashes"]) == (2, 1)
    fresh = queue.enqueue("echo")
    queue.wait_for("succeeded", fresh)


def test_what_a_commit_of_unknown_outcome_has_claimed_is_given_back_before_the_worker_signs_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = Claims.turn
    with closing(DurableJobs(tmp_path / "jobs.db")) as jobs:
        jobs.handler("echo")(lambda value: value)
        job = jobs.enqueue("echo", 1)
        worker = jobs.worker(concurrency=1)

        def claims_and_does_not_know_it(claims: Claims, *requests: Any, **options: Any) -> None:
            turn(claims, *requests, **options)
            assert job.refresh().status == "running"
            worker.stop()
            worker.stop()
            raise CommitUnknownError(jobs.location, "disk I/O error")

        monkeypatch.setattr(Claims, "turn", claims_and_does_not_know_it)
        with pytest.raises(CommitUnknownError):
            worker.run()
        assert (job.refresh().status, job.refresh().attempt) == ("pending", 0)
        assert jobs.workers() == []


def test_jobs_that_could_not_be_given_back_at_once_are_given_back_in_a_later_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in no lane any more, and their worker lives: nobody else would ever run them."""
    monkeypatch.setattr(ReadAhead, "jobs", 5)
    monkeypatch.setattr("durablejobs.turns.STALE_AFTER", 3600)  # the turns themselves give nothing back
    release, failures = Claims.release, 5  # a try that goes on for a lease gives up at the fifth
    gate = threading.Event()

    def fails_at_first(claims: Claims, claimed: Sequence[ClaimedJob], notes: Sequence[Notes] = ()) -> int:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise DatabaseBusyError(jobs.location, 0.1)
        return release(claims, claimed, notes)

    monkeypatch.setattr(Claims, "release", fails_at_first)
    with closing(DurableJobs(tmp_path / "jobs.db")) as jobs:

        def count(status: str) -> int:
            return sum(each.counts.get(Status(status), 0) for each in jobs.statistics())

        jobs.handler("slow")(gate.wait)
        jobs.handler("echo")(lambda: None)
        first = jobs.enqueue("slow")
        jobs.enqueue_many("echo", [()] * 5)
        worker = jobs.worker(concurrency=1, name="one", lease=2, heartbeat=0.5)
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            wait_until(lambda: count("running") == 6, "the worker has claimed ahead")
            assert jobs.quiet_worker("one") == 1
            wait_until(lambda: count("pending") == 5, "they are given back")
            assert first.refresh().status == "running"
            assert jobs.resume_worker("one") == 1
            gate.set()
            wait_until(lambda: count("succeeded") == 6, "all have run")
        finally:
            gate.set()
            worker.stop()
            thread.join(PATIENCE)
