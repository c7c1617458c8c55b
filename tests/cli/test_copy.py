"""`durablejobs copy`: a queue moves to another database, whole, once, whatever interrupts it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durablejobs import DurableJobs, MoveError, QueueMovedError, Retention
from durablejobs.config import FOREVER
from durablejobs.store import Store
from durablejobs.store.moving import QueueMove

from ..worker.harness import wait_until
from .conftest import Run

KEPT = Retention(succeeded=FOREVER, failed=FOREVER, cancelled=FOREVER)
ROWS = (
    "SELECT id, handler, args, status, attempt, run_at, result, error, created_at, finished_at FROM jobs ORDER BY id",
    "SELECT * FROM job_errors ORDER BY id",
    "SELECT * FROM job_counts WHERE number > 0 ORDER BY queue, status",
)


@pytest.fixture
def source(tmp_path: Path) -> DurableJobs:
    """A queue with a history: succeeded, failed, retrying, cancelled, scheduled, due, pending and deleted jobs."""
    jobs = DurableJobs(tmp_path / "old.db")

    @jobs.handler("mail", max_attempts=1)
    def mail(number: int) -> int:
        if number % 3 == 0:
            raise ValueError(f"ünlucky {number}")
        return number

    jobs.enqueue_many("mail", [[number] for number in range(1200)])
    jobs.work(burst=True, retention=KEPT)
    mail.using(max_attempts=3).enqueue(0)
    jobs.work(burst=True, retention=KEPT)
    jobs.cancel(mail.enqueue(1).id)
    mail.using(delay=3600).enqueue(2)
    mail.using(unique_key="once").enqueue(3)
    jobs.enqueue_many("mail", [[number] for number in range(600)])
    jobs.delete(mail.enqueue(4).id)  # the highest id that was ever used, and it is not there any more
    jobs.close()
    return jobs


def content(path: Path) -> list[list[Any]]:
    with closing(sqlite3.connect(path)) as connection:
        return [connection.execute(query).fetchall() for query in ROWS]


def test_every_row_arrives_as_it_was(run: Run, source: DurableJobs, tmp_path: Path) -> None:
    before = content(tmp_path / "old.db")
    done = run("copy", "old.db", "new.db", "--json")
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "new.db") == before == content(tmp_path / "old.db")
    rows = len(before[0]) + len(before[1])
    assert json.loads(done.stdout) == {
        "source": str(tmp_path / "old.db"),
        "target": str(tmp_path / "new.db"),
        "rows": rows,
        "copied": rows,
    }
    assert run("verify", "--db", "new.db").returncode == 0


def test_the_id_of_a_deleted_job_is_not_used_again_on_the_other_side(
    run: Run, source: DurableJobs, tmp_path: Path
) -> None:
    highest = max(row[0] for row in content(tmp_path / "old.db")[0]) + 1
    run("copy", "old.db", "new.db")
    assert run("enqueue", "mail", "n:=1", "--db", "new.db").stdout == f"{highest + 1}\n"


def test_a_job_that_was_due_already_stays_pending(tmp_path: Path, run: Run) -> None:
    """Although its `run_at` lies behind its `created_at`, which makes a new job a scheduled one."""
    jobs = DurableJobs(tmp_path / "old.db")
    jobs.using(delay=60).enqueue("mail")
    jobs.close()
    with closing(sqlite3.connect(tmp_path / "old.db", isolation_level=None)) as connection:
        connection.execute("UPDATE jobs SET status = 'pending'")
    assert run("copy", "old.db", "new.db").returncode == 0
    assert content(tmp_path / "new.db")[0][0][3] == "pending"


def test_the_old_side_takes_no_jobs_and_starts_none_and_names_the_new_one(
    run: Run, source: DurableJobs, tmp_path: Path
) -> None:
    run("copy", "old.db", "new.db")
    for command in (["enqueue", "mail", "n:=1"], ["worker", "--burst"]):
        refused = run(*command, "--db", "old.db")
        assert refused.returncode == 5
        assert f"the queue has moved to {tmp_path / 'new.db'}" in refused.stderr
        assert "Traceback" not in refused.stderr
    with pytest.raises(QueueMovedError):
        source.enqueue("mail", 1)
    with pytest.raises(QueueMovedError):
        source.enqueue_many("mail", [[1], [2]])
    with (
        closing(sqlite3.connect(tmp_path / "old.db")) as connection,
        pytest.raises(sqlite3.IntegrityError, match="moved"),
    ):
        connection.execute("INSERT INTO jobs(handler) VALUES ('mail')")
    assert run("list", "--db", "old.db").returncode == 0


def test_the_old_side_can_be_opened_again(run: Run, source: DurableJobs) -> None:
    run("copy", "old.db", "new.db")
    assert "is open again" in run("copy", "old.db", "--reopen").stderr
    assert run("enqueue", "mail", "n:=1", "--db", "old.db").returncode == 0
    assert run("copy", "old.db", "--reopen").returncode == 1


def test_a_target_with_jobs_is_left_alone(run: Run, source: DurableJobs, tmp_path: Path) -> None:
    run("enqueue", "mail", "a", "--db", "new.db")
    refused = run("copy", "old.db", "new.db")
    assert refused.returncode == 5
    assert "has jobs already" in refused.stderr
    assert len(content(tmp_path / "new.db")[0]) == 1
    assert run("enqueue", "mail", "n:=1", "--db", "old.db").returncode == 0


def test_a_queue_does_not_move_to_itself(run: Run, source: DurableJobs) -> None:
    refused = run("copy", "old.db", "old.db")
    assert refused.returncode == 5
    assert "the source itself" in refused.stderr


def test_it_refuses_while_a_worker_is_alive_and_changes_nothing(
    run: Run, source: DurableJobs, working: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    working("old.db")
    refused = run("copy", "old.db", "new.db")
    assert refused.returncode == 5
    assert "1 worker is alive there" in refused.stderr
    assert run("enqueue", "mail", "n:=1", "--db", "old.db").returncode == 0


def test_with_drain_running_jobs_end_and_nothing_new_starts(
    run: Run, working: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    run("enqueue", "hold", "--db", "old.db")
    run("enqueue", "mail", "a", "--db", "old.db")
    worker = working("old.db", "--concurrency", "1")
    wait_until(lambda: _statuses(tmp_path / "old.db")[:1] == ["running"], "the job runs")
    copy = subprocess.Popen(
        [sys.executable, "-m", "durablejobs", "copy", "old.db", "new.db", "--drain"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: run("enqueue", "mail", "b", "--db", "old.db").returncode == 5, "the source is frozen")
    (tmp_path / "gate").touch()
    _, said = copy.communicate(timeout=60)
    assert copy.returncode == 0, said
    first, *others = _statuses(tmp_path / "new.db")
    assert (first, set(others)) == ("succeeded", {"pending"})
    assert worker.poll() is None  # it lives, and starts nothing


def _statuses(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT status FROM jobs ORDER BY id")]


@pytest.fixture
def working(tmp_path: Path) -> Any:
    """Start workers, which are killed in the end."""
    started: list[subprocess.Popen[str]] = []
    (tmp_path / "handlers.py").write_text(
        "import os, time\n"
        "from durablejobs import DurableJobs\n"
        "jobs = DurableJobs('old.db')\n"
        "@jobs.handler('hold')\n"
        "def hold():\n"
        "    while not os.path.exists('gate'):\n"
        "        time.sleep(0.01)\n"
        "@jobs.handler('mail')\n"
        "def mail(to): pass\n"
    )

    def start(database: str, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "durablejobs", "worker", "--db", database, *options]
        started.append(subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, text=True))
        with closing(sqlite3.connect(tmp_path / database)) as connection:
            count = "SELECT count(*) FROM job_workers"
            wait_until(lambda: connection.execute(count).fetchone()[0] == len(started), "the worker is there")
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_after_a_kill_in_the_middle_the_same_command_goes_on(run: Run, source: DurableJobs, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "durablejobs", "copy", "old.db", "new.db"]
    copy = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    wait_until(lambda: _number(tmp_path / "new.db") > 0, "some rows are there", every=0.001)
    os.kill(copy.pid, signal.SIGKILL)
    copy.wait()
    done = run("copy", "old.db", "new.db", "--json")
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "new.db") == content(tmp_path / "old.db")


def _number(path: Path) -> int:
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM jobs").fetchone()[0])
    except sqlite3.OperationalError:  # not there yet, or not its tables
        return 0


@pytest.mark.parametrize("stop_after", [1, 2, 4])
def test_it_goes_on_after_each_batch_without_copying_a_row_twice(
    source: DurableJobs, tmp_path: Path, stop_after: int
) -> None:
    with closing(Store(tmp_path / "old.db")) as old, closing(Store(tmp_path / "new.db")) as new:
        old.open()
        new.migrate()
        left = stop_after

        def stop(_count: int) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise KeyboardInterrupt

        first = QueueMove(old, new)
        first.begin(drain=False)
        with pytest.raises(KeyboardInterrupt):
            first.copy(stop)
        there = sum(map(len, content(tmp_path / "new.db")[:2]))
        second = QueueMove(old, new)
        second.begin(drain=False)
        assert second.copy(lambda _count: None) == second.count() - there
        second.compare(lambda _count: None)
        second.finish()
    assert content(tmp_path / "new.db") == content(tmp_path / "old.db")


def test_while_it_is_not_complete_the_target_starts_no_jobs(source: DurableJobs, tmp_path: Path) -> None:
    with closing(Store(tmp_path / "old.db")) as old, closing(Store(tmp_path / "new.db")) as new:
        old.open()
        new.migrate()
        move = QueueMove(old, new)
        move.begin(drain=False)
        with pytest.raises(QueueMovedError, match="is being copied here"):
            DurableJobs(tmp_path / "new.db").work(burst=True)


def test_a_row_that_differs_is_noticed_and_the_target_stays_closed(
    run: Run, source: DurableJobs, tmp_path: Path
) -> None:
    with closing(Store(tmp_path / "old.db")) as old, closing(Store(tmp_path / "new.db")) as new:
        old.open()
        new.migrate()
        move = QueueMove(old, new)
        move.begin(drain=False)
        move.copy(lambda _count: None)
        with closing(sqlite3.connect(tmp_path / "new.db", isolation_level=None)) as connection:
            connection.execute("UPDATE jobs SET result = '2' WHERE id = 2")
        with pytest.raises(MoveError, match="the table jobs differs"):
            move.compare(lambda _count: None)
    assert run("copy", "old.db", "new.db").returncode == 4
    assert run("worker", "--burst", "--db", "new.db").returncode == 5
