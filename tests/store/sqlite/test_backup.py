"""A backup is one moment of the database, complete and sound, or it is not there."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from durablejobs import BackupError, DurableJobs
from durablejobs.store.sqlite import backup
from durablejobs.store.sqlite.pragmas import integrity_problems

from ...conftest import Sql


def statuses(path: Path) -> list[tuple[str, int]]:
    with closing(sqlite3.connect(path)) as copy:
        return copy.execute("SELECT status, count(*) FROM jobs GROUP BY status ORDER BY status").fetchall()


def left_beside(target: Path) -> set[str]:
    return {path.name for path in target.parent.iterdir() if path.name.startswith(target.name)}


def test_a_copy_has_all_that_was_committed_also_what_is_only_in_the_log(jobs: DurableJobs, tmp_path: Path) -> None:
    jobs.enqueue_many("mail", [()] * 500)
    target = tmp_path / "copy.db"
    jobs.back_up(target)
    assert statuses(target) == [("pending", 500)]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert left_beside(target) == {"copy.db"}
    again = DurableJobs(target, create=False)
    again.handler("mail")(lambda: None)
    assert again.work(burst=True, concurrency=1).succeeded == 500
    assert statuses(tmp_path / "jobs.db") == [("pending", 500)]


def test_a_copy_is_one_moment_while_others_write_without_pause(
    jobs: DurableJobs, database_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each commit of the other adds three jobs: a copy made of two moments has another number."""
    monkeypatch.setattr(backup, "PAGES_AT_ONCE", 1)
    jobs.enqueue_many("mail", [("x" * 1000,)] * 3000)
    program = "import sys; from durablejobs import DurableJobs; jobs = DurableJobs(sys.argv[1])\n"
    program += "while True: jobs.enqueue_many('mail', [()] * 3); print(flush=True)"
    with subprocess.Popen([sys.executable, "-c", program, database_path], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        sizes = []
        for number in range(3):
            target = tmp_path / f"copy-{number}.db"
            jobs.back_up(target)
            assert integrity_problems(target) == []
            sizes.append(statuses(target)[0][1])
        other.kill()
    assert [number % 3 for number in sizes] == [0, 0, 0]
    assert sizes == sorted(set(sizes))


def test_a_copy_that_is_there_is_replaced_only_when_asked(jobs: DurableJobs, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    jobs.back_up(target)
    jobs.enqueue("mail")
    with pytest.raises(BackupError, match="is there already"):
        jobs.back_up(target)
    assert statuses(target) == []
    jobs.back_up(target, replace=True)
    assert statuses(target) == [("pending", 1)]


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-lock"])
def test_the_database_itself_is_never_the_target(jobs: DurableJobs, database_path: Path, suffix: str) -> None:
    jobs.enqueue("mail")
    with pytest.raises(BackupError, match="is the database itself"):
        jobs.back_up(f"{database_path}{suffix}", replace=True)
    assert statuses(database_path) == [("pending", 1)]


def test_the_database_by_another_name_is_never_the_target(jobs: DurableJobs, tmp_path: Path) -> None:
    jobs.enqueue("mail")
    (tmp_path / "link.db").symlink_to(tmp_path / "jobs.db")
    with pytest.raises(BackupError, match="is the database itself"):
        jobs.back_up(tmp_path / "link.db", replace=True)


def test_a_target_that_cannot_be_is_one_clear_error(jobs: DurableJobs, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="is a directory"):
        jobs.back_up(tmp_path)
    with pytest.raises(BackupError, match="does not exist"):
        jobs.back_up(tmp_path / "none" / "copy.db")
    with pytest.raises(BackupError, match="File name too long"):
        jobs.back_up(tmp_path / ("x" * 300))


def test_a_damaged_database_gives_no_copy(jobs: DurableJobs, tmp_path: Path, sql: Sql) -> None:
    jobs.enqueue("mail")
    sql("PRAGMA ignore_check_constraints = ON")
    sql("UPDATE jobs SET args = 'no json'")
    target = tmp_path / "copy.db"
    with pytest.raises(BackupError, match=r"not sound.*CHECK constraint"):
        jobs.back_up(target)
    assert left_beside(target) == set()


def test_a_copy_that_is_interrupted_leaves_what_was_there(
    jobs: DurableJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "copy.db"
    jobs.back_up(target)
    jobs.enqueue("mail")

    def interrupt(_path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(backup, "_sync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        jobs.back_up(target, replace=True)
    assert statuses(target) == []
    assert left_beside(target) == {"copy.db"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_copy_that_finds_no_room_is_one_clear_error_that_names_the_copy(jobs: DurableJobs, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        jobs.enqueue_many("mail", [("x" * 1000,)] * 500)
        with pytest.raises(BackupError, match=r"small/copy.db: the copy failed: .*full"):
            jobs.back_up(small / "copy.db")
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)


def test_the_command_makes_a_copy_and_prints_its_name(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "durablejobs", *arguments, "--db", "jobs.db"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DURABLEJOBS_")}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    run("enqueue", "mail")
    made = run("backup", "copy.db")
    assert (made.returncode, made.stdout) == (0, "copy.db\n")
    assert statuses(tmp_path / "copy.db") == [("pending", 1)]
    again = run("backup", "copy.db")
    assert (again.returncode, again.stderr.count("\n")) == (5, 1)
    assert "is there already" in again.stderr
    assert run("backup", "copy.db", "--replace").returncode == 0
