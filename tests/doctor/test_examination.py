"""The doctor finds what is wrong, says why it matters and what to do; each finding has its planted fault here."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from durablejobs import DatabaseConfig, DatabaseNotFoundError, DatabaseUnusableError, DurableJobs
from durablejobs.doctor import files, library
from durablejobs.doctor.examination import examine_surroundings
from durablejobs.doctor.findings import Finding, Level, size
from durablejobs.doctor.log_alarm import LOOK_EVERY, LogAlarm
from durablejobs.doctor.processes import holders, sqlite_libraries
from durablejobs.file_systems import file_system_of

from ..clocks import ManualClock
from ..conftest import Register, Sql

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc")


def found(jobs: DurableJobs, check: str, deep: bool = False) -> list[Finding]:
    """What a check says beyond ok."""
    return [each for each in jobs.examine(deep=deep) if each.check == check and each.level is not Level.OK]


def only(jobs: DurableJobs, check: str, deep: bool = False) -> Finding:
    [finding] = found(jobs, check, deep)
    assert finding.why
    assert finding.remedy
    return finding


def test_nothing_is_wrong_with_a_fresh_database(jobs: DurableJobs) -> None:
    jobs.open()
    assert [each for each in jobs.examine(deep=True) if each.level is Level.WRONG] == []


def test_a_missing_file_and_a_directory_are_errors_and_not_findings(tmp_path: Path) -> None:
    with pytest.raises(DatabaseNotFoundError):
        DurableJobs(tmp_path / "none.db", create=False).examine()
    with pytest.raises(DatabaseUnusableError, match="is a directory"):
        DurableJobs(tmp_path, create=False).examine()


def test_another_journal_mode_is_found(jobs: DurableJobs, database_path: Path) -> None:
    jobs.open()
    jobs.close()
    with closing(sqlite3.connect(database_path)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
    assert only(jobs, "journal mode").what.startswith("the journal mode is delete")


# The library


@pytest.mark.parametrize(
    ("version", "is_bad"),
    [
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 0), True),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 0), False),
    ],
)
def test_the_bad_versions_of_sqlite_are_known(version: tuple[int, int, int], is_bad: bool) -> None:
    assert library.has_reset_bug(version) == is_bad


@pytest.mark.parametrize(("version", "level"), [((3, 40, 1), Level.ADVICE), ((3, 53, 0), Level.OK)])
def test_the_version_is_judged(version: tuple[int, int, int], level: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    assert library.check_version().level is level


@on_linux
def test_this_process_has_loaded_one_library() -> None:
    sqlite3.connect(":memory:").close()
    assert len(sqlite_libraries(os.getpid())) == 1


@on_linux
def test_a_second_library_in_a_process_that_uses_the_database_is_found(
    jobs: DurableJobs, database_path: Path, tmp_path: Path
) -> None:
    jobs.open()
    [own] = sqlite_libraries(os.getpid())
    second = tmp_path / "libsqlite3-of-another-package.so"
    second.write_bytes(Path(own).read_bytes())
    program = "import ctypes, sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM jobs');"
    program += "ctypes.CDLL(sys.argv[2]); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, database_path, second], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert other.pid in holders([str(database_path)])
        finding = only(jobs, "one SQLite")
        other.communicate()
    assert finding.level is Level.WRONG
    assert f"process {other.pid}" in finding.what
    assert second.name in finding.what


# Files


@on_linux
def test_the_file_system_is_the_one_that_the_kernel_names(tmp_path: Path) -> None:
    named = subprocess.run(["stat", "-f", "-c", "%T", "/proc"], capture_output=True, text=True, check=True)
    assert file_system_of("/proc/self") == named.stdout.strip()
    assert file_system_of(tmp_path)


@pytest.mark.parametrize(
    ("kind", "level"),
    [("nfs4", Level.WRONG), ("fuse.sshfs", Level.WRONG), ("virtiofs", Level.WRONG), ("tmpfs", Level.ADVICE)],
)
def test_a_file_system_that_cannot_be_trusted_is_named(
    jobs: DurableJobs, kind: str, level: Level, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.open()
    monkeypatch.setattr(files, "file_system_of", lambda _path: kind)
    finding = only(jobs, "file system")
    assert (finding.level, kind in finding.what) == (level, True)
    assert finding in examine_surroundings(jobs._store)


def test_mounts_are_read_as_the_kernel_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 254:0 / / rw shared:1 - ext4 /dev/vda rw\n"
        "30 22 0:40 / /srv/my\\040share rw - nfs4 host:/x rw\n"
        "31 22 0:41 / /srv/my\\040share rw - cifs //host/y rw\n"
        "nonsense\n"
    )
    monkeypatch.setattr("durablejobs.file_systems._MOUNTS", mounts)
    assert file_system_of("/srv/my share/jobs.db") == "cifs"
    assert file_system_of("/srv/my shared/jobs.db") == "ext4"
    monkeypatch.setattr("durablejobs.file_systems._MOUNTS", tmp_path / "none")
    assert file_system_of("/srv") is None


@pytest.mark.parametrize(("mode", "may"), [(0o644, "read it"), (0o666, "write it")])
def test_files_that_others_may_open_are_found(jobs: DurableJobs, database_path: Path, mode: int, may: str) -> None:
    jobs.open()
    database_path.chmod(mode)
    assert any(may in each.what for each in found(jobs, "rights"))


def test_a_directory_that_others_may_write_is_found(jobs: DurableJobs, tmp_path: Path) -> None:
    jobs.open()
    tmp_path.chmod(0o777)
    assert "may write the directory" in only(jobs, "rights").what
    tmp_path.chmod(0o1777)
    assert found(jobs, "rights") == []


def test_a_second_name_of_the_file_is_found(jobs: DurableJobs, database_path: Path) -> None:
    jobs.open()
    os.link(database_path, database_path.with_name("other.db"))
    assert "2 names" in only(jobs, "rights").what


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_of_several_owners_are_found(jobs: DurableJobs, database_path: Path) -> None:
    jobs.enqueue("mail")
    os.chown(f"{database_path}-lock", 12345, 12345)
    assert "12345" in only(jobs, "rights").what


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")
def test_a_file_that_this_user_may_not_write_is_found(jobs: DurableJobs, database_path: Path) -> None:
    jobs.open()
    database_path.chmod(stat.S_IRUSR)
    assert any("may not read and write" in each.what for each in found(jobs, "rights"))


def test_too_little_room_is_found(jobs: DurableJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs.open()
    monkeypatch.setattr("shutil.disk_usage", lambda _path: namedtuple("Usage", "total used free")(9, 8, 1_500_000))
    assert only(jobs, "free space").what.startswith("1.5 MB are free")


@contextmanager
def reader_in(path: Path) -> Iterator[int]:
    """Another process with an open reading transaction, as a forgotten shell has it."""
    program = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN');"
    program += "c.execute('SELECT count(*) FROM jobs').fetchall(); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        yield other.pid
        other.communicate()


@on_linux
def test_a_long_log_is_found_with_the_process_that_keeps_it(
    jobs: DurableJobs, database_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.enqueue("mail")
    monkeypatch.setattr(files, "LOG_IS_LONG", 1)
    assert "nobody just now" in only(jobs, "write-ahead log").what
    with reader_in(database_path) as pid:
        finding = only(jobs, "write-ahead log")
        assert f"(process {pid})" in finding.what
        assert finding.level is Level.ADVICE
        monkeypatch.setattr(files, "LOG_IS_TOO_LONG", 1)
        assert only(jobs, "write-ahead log").level is Level.WRONG


@on_linux
def test_a_worker_warns_of_a_log_that_a_reader_keeps_and_again_only_when_it_has_doubled(
    jobs: DurableJobs,
    database_path: Path,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    jobs.enqueue("mail")
    alarm = LogAlarm(jobs.location, clock)
    alarm.look()
    assert caplog.messages == []
    monkeypatch.setattr(files, "LOG_IS_LONG", 1)
    with reader_in(database_path) as pid:
        for _ in range(3):
            clock.advance(LOOK_EVERY)
            alarm.look()
        [message] = caplog.messages
        assert message.startswith("the write-ahead log grows: it has ")
        assert f"(process {pid})" in message
        jobs.enqueue_many("mail", [["x" * 1000]] * 2000)
        alarm.look()
        assert len(caplog.messages) == 1  # it is not time yet
        clock.advance(LOOK_EVERY)
        alarm.look()
        assert len(caplog.messages) == 2


def test_a_working_worker_looks_at_the_log(
    jobs: DurableJobs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    jobs.handler("mail")(lambda: None)
    jobs.enqueue("mail")
    monkeypatch.setattr(files, "LOG_IS_LONG", 1)
    jobs.work(burst=True, concurrency=1)
    assert any(message.startswith("the write-ahead log grows") for message in caplog.messages)


# The database


def test_a_file_that_is_no_database_is_a_finding(database_path: Path) -> None:
    database_path.write_text("once upon a time" * 100)
    database_path.chmod(0o600)
    assert "not a SQLite database" in only(DurableJobs(database_path, create=False), "database").what


def test_a_database_without_a_queue_is_a_finding_with_the_way_out(database_path: Path) -> None:
    with closing(sqlite3.connect(database_path)) as other:
        other.execute("CREATE TABLE theirs(a)")
    with closing(DurableJobs(database_path, create=False)) as jobs:
        assert "durablejobs migrate" in only(jobs, "schema").what


def test_looking_changes_nothing(jobs: DurableJobs, database_path: Path) -> None:
    with closing(sqlite3.connect(database_path)) as other:
        other.execute("CREATE TABLE theirs(a)")
    before = database_path.read_bytes()
    assert {each.check for each in jobs.examine() if each.level is Level.WRONG} >= {"journal mode", "schema"}
    assert database_path.read_bytes() == before


def test_less_than_full_synchronous_is_a_finding(database_path: Path) -> None:
    with closing(DurableJobs(database_path, database_config=DatabaseConfig(synchronous="NORMAL"))) as jobs:
        jobs.open()
        assert only(jobs, "synchronous").level is Level.WRONG


def test_a_damaged_file_is_found_when_looking_deep(jobs: DurableJobs, database_path: Path) -> None:
    jobs.enqueue_many("mail", [("x" * 500,)] * 200)
    jobs.close()
    content = bytearray(database_path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4096] = os.urandom(4096)
    database_path.write_bytes(content)
    assert [each for each in jobs.examine(deep=True) if each.level is Level.WRONG]


def test_rows_that_break_a_promise_are_found_when_looking_deep(jobs: DurableJobs, sql: Sql) -> None:
    job = jobs.enqueue("mail")
    sql("UPDATE jobs SET status = 'succeeded', finished_at = created_at WHERE id = ?", job.id)
    assert found(jobs, "promise I5") == []
    assert f"among them {job.id}" in only(jobs, "promise I5", deep=True).what


# The clock


def test_a_job_from_the_future_says_that_the_clock_is_wrong(timed_jobs: DurableJobs, clock: ManualClock) -> None:
    timed_jobs.enqueue("mail")
    assert found(timed_jobs, "clock") == []
    clock.set(clock.now() - timedelta(hours=2))
    assert "7,200 s in the future" in only(timed_jobs, "clock").what


def test_a_clock_that_has_lost_its_battery_is_found(timed_jobs: DurableJobs, clock: ManualClock) -> None:
    timed_jobs.open()
    clock.set(clock.now().replace(year=1970))
    assert "it is 1970" in only(timed_jobs, "clock").what


# Jobs and workers


def test_jobs_in_a_queue_that_no_worker_serves_are_found(jobs: DurableJobs, register: Register, sql: Sql) -> None:
    jobs.using(queue="reports").enqueue("mail")
    worker = register()
    assert found(jobs, "queues") == []
    sql("UPDATE job_workers SET queues = 'mail=3,default=1' WHERE id = ?", worker)
    assert "1 jobs wait in the queue reports" in only(jobs, "queues").what
    sql("UPDATE job_workers SET queues = 'mail,reports' WHERE id = ?", worker)
    assert found(jobs, "queues") == []


def test_a_paused_queue_is_named_with_its_reason_and_is_nothing_wrong(jobs: DurableJobs) -> None:
    jobs.using(queue="mail").enqueue("mail")
    assert found(jobs, "paused queues") == []
    jobs.pause("mail", reason="the server moves")
    finding = only(jobs, "paused queues")
    assert finding.what == "the queue mail is paused until somebody resumes it (the server moves); 1 jobs wait in it"
    assert finding.level is Level.ADVICE
    jobs.resume("mail")
    assert found(jobs, "paused queues") == []


def test_jobs_whose_handler_the_app_does_not_have_are_found(jobs: DurableJobs, sql: Sql) -> None:
    jobs.handler("mail")(lambda: None)
    jobs.enqueue("mail")
    assert found(jobs, "handlers") == []
    sql("INSERT INTO jobs(handler) VALUES ('mial')")
    assert "did you mean 'mail'?" in only(jobs, "handlers").what


def test_running_jobs_of_nobody_are_found(jobs: DurableJobs, sql: Sql) -> None:
    job = jobs.enqueue("mail")
    sql(
        "UPDATE jobs SET status = 'running', worker_id = 77, claim_token = 1, attempt = 1, started_at = run_at, "
        "lease_expires_at = run_at WHERE id = ?",
        job.id,
    )
    assert "1 jobs are running" in only(jobs, "orphans").what


@on_linux
def test_dead_workers_and_their_jobs_are_found(jobs: DurableJobs, sql: Sql, database_path: Path) -> None:
    jobs.enqueue("mail")
    program = (
        "import os, signal, sys; from durablejobs import DurableJobs; jobs = DurableJobs(sys.argv[1]);"
        "jobs.handler('mail')(lambda: os.kill(os.getpid(), signal.SIGKILL)); jobs.work(burst=True, concurrency=1)"
    )
    assert subprocess.run([sys.executable, "-c", program, database_path], check=False).returncode == -9
    finding = only(jobs, "workers")
    assert (finding.level, finding.what) == (Level.WRONG, "1 dead and none alive; 1 jobs were claimed by the dead")


@pytest.mark.parametrize(("count", "text"), [(17, "17 bytes"), (4_100_000, "4.1 MB"), (3.2e12, "3,200.0 GB")])
def test_sizes_are_told_as_people_do(count: float, text: str) -> None:
    assert size(count) == text
