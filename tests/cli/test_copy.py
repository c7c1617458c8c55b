"""`durablejobs copy`: a queue moves to another database, whole, once, whatever interrupts it.

From file to file, from a file to PostgreSQL, and back.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import make_url

from durablejobs import DurableJobs, MoveError, QueueMovedError, Retention, current_job
from durablejobs.config import FOREVER
from durablejobs.statuses import Status
from durablejobs.store import Store
from durablejobs.store.doors.claims import ClaimRequest
from durablejobs.store.moving import QueueMove

from .. import postgres
from ..clocks import ManualClock
from ..conftest import REFUSED
from ..worker.harness import wait_until
from .conftest import Run

KEPT = Retention(succeeded=FOREVER, failed=FOREVER, cancelled=FOREVER)
ROWS = (
    "SELECT * FROM jobs ORDER BY id",
    "SELECT * FROM job_errors ORDER BY id",
    "SELECT * FROM job_logs ORDER BY id",
    "SELECT * FROM job_queues ORDER BY name",
    "SELECT * FROM job_handlers ORDER BY handler",
    "SELECT queue, status, sum(number) FROM job_counts GROUP BY queue, status HAVING sum(number) > 0 ORDER BY 1, 2",
)
COUNTED: Final = 5
"""So many of them are rows that are copied; the last are kept by triggers."""


@dataclass
class Side:
    """One of the two databases of a move."""

    name: str
    """What the commands are told."""
    location: str
    """What they say."""
    directory: Path

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement as another program would, and commit; times and JSON come back as text."""
        if self.name.startswith("postgresql"):
            with postgres.admin(self.name) as connection:
                cursor = connection.execute(statement)
                return cursor.fetchall() if cursor.description else []
        with closing(sqlite3.connect(self.directory / self.name, isolation_level=None)) as connection:
            return connection.execute(statement).fetchall()

    def content(self) -> list[list[tuple[Any, ...]]]:
        return [self.sql(query) for query in ROWS]

    def statuses(self) -> list[str]:
        return [row[0] for row in self.sql("SELECT status FROM jobs ORDER BY id")]

    def jobs(self) -> DurableJobs:
        return DurableJobs(self.name if "://" in self.name else self.directory / self.name)

    @contextmanager
    def store(self) -> Iterator[Store]:
        target = self.name if "://" in self.name else self.directory / self.name
        with closing(Store(target)) as store:
            store.migrate()
            store.open()
            yield store


Sides = tuple[Side, Side]
Working = Callable[..., "subprocess.Popen[str]"]
DIRECTIONS: Final = ("file to file", "file to server", "server to file")


@pytest.fixture(params=["file to file"])
def sides(request: pytest.FixtureRequest, tmp_path: Path) -> Sides:
    """Where a queue is, and where it is to go; from file to file unless the test asks for more."""

    def side(kind: str, name: str) -> Side:
        if kind == "file":
            return Side(name, str(tmp_path / name), tmp_path)
        url = request.getfixturevalue("postgres_url")
        shown = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        return Side(url, shown, tmp_path)

    old, new = str(request.param).split(" to ")
    return side(old, "old.db"), side(new, "new.db")


in_all_directions = pytest.mark.parametrize("sides", DIRECTIONS, indirect=True)
in_all_directions_if_slow = pytest.mark.parametrize(
    "sides",
    [pytest.param(way, marks=[pytest.mark.slow] if "server" in way else []) for way in DIRECTIONS],
    indirect=True,
)


@pytest.fixture
def source(sides: Sides) -> DurableJobs:
    """A queue with a history: succeeded, failed, retrying, cancelled, scheduled, due, pending and deleted jobs."""
    jobs = sides[0].jobs()
    if "://" not in sides[0].name:
        jobs.migrate()

    @jobs.handler("mail", max_attempts=1, keep_log=True)
    def mail(number: int) -> Any:
        if number % 40 == 0:
            current_job().log(f"sending {number}")
        if number % 3 == 0:
            raise ValueError(f"ünlucky {number}")
        return {"tenth": number / 10, "large": 10**17 + number, "text": "\x00\u2028 ü", "none": None}

    @jobs.handler("limited", max_running=3, redact=["secret"])
    def limited(secret: str) -> None: ...

    jobs.enqueue_many("mail", [[number] for number in range(200)])
    jobs.work(burst=True, retention=KEPT)
    mail.using(max_attempts=3).enqueue(0)
    jobs.work(burst=True, retention=KEPT)
    jobs.cancel(mail.enqueue(1).id)
    mail.using(delay=3600, timeout=0.1, meta={"trace": "ä"}, priority=-7).enqueue(2)
    mail.using(unique_key="once").enqueue(3)
    mail.using(unique_key="a day", unique_for=86400).enqueue(3)
    limited.enqueue("word")
    jobs.pause("mail", reason="an outage", until=datetime(2126, 1, 1, tzinfo=UTC))
    jobs.limit("bulk", 4)
    jobs.enqueue_many("mail", [[number] for number in range(400)])
    jobs.delete(mail.enqueue(4).id)  # the highest id that was ever used, and it is not there any more
    jobs.close()
    sides[0].sql(
        "UPDATE jobs SET status = 'running', attempt = 1, claim_token = 1, worker_id = 4711, started_at = created_at, "
        "lease_expires_at = created_at WHERE id = (SELECT max(id) FROM jobs)"  # its worker has died long ago
    )
    return jobs


@in_all_directions
def test_every_row_arrives_as_it_was(run: Run, source: DurableJobs, sides: Sides) -> None:
    old, new = sides
    before = old.content()
    assert all(before)
    done = run("copy", old.name, new.name, "--json")
    assert done.returncode == 0, done.stderr
    assert new.content() == before == old.content()
    rows = sum(map(len, before[:COUNTED]))
    assert json.loads(done.stdout) == {
        "source": old.location,
        "target": new.location,
        "rows": rows,
        "copied": rows,
    }
    assert f"{rows:,} rows compared, the same on both sides" in done.stderr
    verified = run("verify", "--db", new.name)
    assert verified.returncode == 0, verified.stdout + verified.stderr


@in_all_directions_if_slow
def test_no_id_is_used_again_on_the_other_side(run: Run, source: DurableJobs, sides: Sides) -> None:
    """Not even that of a job which is deleted; and the next error and line of a log find room too."""
    old, new = sides
    jobs, errors, logs = old.content()[:3]
    run("copy", old.name, new.name)
    assert run("enqueue", "fails", "--db", new.name).stdout == f"{jobs[-1][0] + 2}\n"
    assert run("worker", "--burst", "--db", new.name).returncode == 0
    assert new.content()[1][len(errors)][0] == errors[-1][0] + 1
    assert new.content()[2][: len(logs)] == logs


@in_all_directions_if_slow
def test_a_job_that_was_due_already_stays_pending(run: Run, sides: Sides) -> None:
    """Although its `run_at` lies behind its `created_at`, which makes a new job a scheduled one."""
    old, new = sides
    with closing(old.jobs()) as jobs:
        jobs.using(delay=60).enqueue("mail")
    old.sql("UPDATE jobs SET status = 'pending'")
    assert run("copy", old.name, new.name).returncode == 0
    assert new.statuses() == ["pending"]


@in_all_directions
def test_the_old_side_takes_no_jobs_and_starts_none_and_names_the_new_one(
    run: Run, source: DurableJobs, sides: Sides
) -> None:
    old, new = sides
    run("copy", old.name, new.name)
    for command in (["enqueue", "mail", "n:=1"], ["worker", "--burst"]):
        refused = run(*command, "--db", old.name)
        assert refused.returncode == 5
        assert f"the queue has moved to {new.location}" in refused.stderr
        assert "Traceback" not in refused.stderr
    with pytest.raises(QueueMovedError):
        source.enqueue("mail", 1)
    with pytest.raises(QueueMovedError):
        source.enqueue_many("mail", [[1], [2]])
    with pytest.raises(REFUSED, match="moved"):
        old.sql("INSERT INTO jobs(handler) VALUES ('mail')")
    assert run("list", "--db", old.name).returncode == 0


@in_all_directions_if_slow
def test_on_the_old_side_nobody_changes_a_job_any_more(run: Run, source: DurableJobs, sides: Sides) -> None:
    old, new = sides
    run("copy", old.name, new.name)
    before = old.content()
    waiting, ended = old.statuses().index("pending") + 1, 2
    for act in (source.cancel, source.delete):
        with pytest.raises(QueueMovedError, match="has moved"):
            act(waiting)
    with pytest.raises(QueueMovedError, match="has moved"):
        source.retry(ended)
    with pytest.raises(QueueMovedError, match="has moved"):
        source.pause("default")
    assert run("delete", "--status", "failed", "--yes", "--db", old.name).returncode == 5
    old.sql("UPDATE jobs SET status = 'pending' WHERE status = 'scheduled'")
    old.sql("DELETE FROM jobs")
    assert old.content() == before


@in_all_directions_if_slow
def test_the_old_side_can_be_opened_again(run: Run, source: DurableJobs, sides: Sides) -> None:
    old, new = sides
    run("copy", old.name, new.name)
    assert "is open again" in run("copy", old.name, "--reopen").stderr
    assert run("enqueue", "mail", "n:=1", "--db", old.name).returncode == 0
    assert source.retry(1).status == "pending"
    assert run("copy", old.name, "--reopen").returncode == 1


@in_all_directions_if_slow
def test_a_target_with_jobs_is_left_alone(run: Run, source: DurableJobs, sides: Sides) -> None:
    old, new = sides
    with new.store():
        assert run("enqueue", "mail", "a", "--db", new.name).returncode == 0
    refused = run("copy", old.name, new.name)
    assert refused.returncode == 5
    assert "has jobs already" in refused.stderr
    assert len(new.statuses()) == 1
    assert run("enqueue", "mail", "n:=1", "--db", old.name).returncode == 0


@pytest.mark.parametrize("name", ["old.db", "link.db"])
def test_a_queue_does_not_move_to_itself(run: Run, source: DurableJobs, tmp_path: Path, name: str) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "old.db")
    refused = run("copy", "old.db", name)
    assert refused.returncode == 5
    assert "the source itself" in refused.stderr
    assert run("enqueue", "mail", "n:=1", "--db", "old.db").returncode == 0


def test_an_empty_queue_does_not_move_to_itself_by_another_spelling_of_its_url(run: Run, postgres_url: str) -> None:
    host = str(make_url(postgres_url).query.get("host", ""))
    for changes in ({"schema": "public"}, {"host": f"{host}/."} if host else {"application_name": "other"}):
        other = make_url(postgres_url).update_query_dict(changes).render_as_string(hide_password=False)
        refused = run("copy", postgres_url, other)
        assert (refused.returncode, refused.stderr.count("\n")) == (5, 1), refused.stderr
        assert "the source itself" in refused.stderr
    assert run("enqueue", "mail", "n:=1", "--db", postgres_url).returncode == 0


@pytest.mark.slow
def test_a_queue_moves_to_another_schema_of_its_database(run: Run, postgres_url: str) -> None:
    other = make_url(postgres_url).update_query_dict({"schema": "order"}).render_as_string(hide_password=False)
    try:
        assert run("enqueue", "mail", "n:=1", "--db", postgres_url).returncode == 0
        assert run("copy", postgres_url, other).returncode == 0
        assert run("worker", "--burst", "--app", "handlers", "--db", other).returncode == 0
    finally:
        with postgres.admin(postgres_url) as connection:
            connection.execute('DROP SCHEMA IF EXISTS "order" CASCADE')


@in_all_directions_if_slow
def test_the_same_command_once_more_changes_nothing(run: Run, source: DurableJobs, sides: Sides) -> None:
    """Jobs that have run on the new side and are deleted there must not come again, nor rules that are gone."""
    old, new = sides
    run("copy", old.name, new.name)
    run("delete", "--status", "succeeded", "--yes", "--db", new.name)
    run("limit", "mail", "5", "--db", new.name)
    before = new.content()
    again = run("copy", old.name, new.name)
    assert again.returncode == 0
    assert "had moved there before" in again.stderr
    assert new.content() == before


@in_all_directions_if_slow
def test_a_kill_between_the_two_ends_leaves_nothing_to_do_but_closing(
    run: Run, source: DurableJobs, sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = sides
    with old.store() as from_store, new.store() as to_store:
        move = begun_move(from_store, to_store)
        move.copy(lambda _count: None)
        monkeypatch.setattr(move, "_close_source", lambda: None)
        move.finish()
    run("delete", "--status", "succeeded", "--yes", "--db", new.name)
    before = new.content()
    assert run("copy", old.name, new.name).returncode == 0
    assert new.content() == before
    assert all(row[0] is not None for row in old.sql("SELECT finished_at FROM job_moves"))


def test_a_queue_that_was_opened_again_moves_to_no_side_that_has_its_jobs(
    run: Run, source: DurableJobs, sides: Sides
) -> None:
    run("copy", "old.db", "new.db")
    run("copy", "old.db", "--reopen")
    refused = run("copy", "old.db", "new.db")
    assert refused.returncode == 5
    assert "has jobs already" in refused.stderr
    assert run("enqueue", "mail", "n:=1", "--db", "new.db").returncode == 0
    assert run("enqueue", "mail", "n:=1", "--db", "old.db").returncode == 0


def test_a_side_that_is_still_being_filled_moves_nowhere(run: Run, source: DurableJobs, sides: Sides) -> None:
    old, new = sides
    with old.store() as from_store, new.store() as to_store:
        begun_move(from_store, to_store)
    refused = run("copy", "new.db", "third.db")
    assert refused.returncode == 5
    assert "is being copied here" in refused.stderr
    assert "Traceback" not in refused.stderr


@in_all_directions_if_slow
def test_who_enqueues_on_the_new_side_too_early_gets_an_id_of_its_own(
    run: Run, source: DurableJobs, sides: Sides
) -> None:
    old, new = sides
    with old.store() as from_store, new.store() as to_store:
        move = QueueMove(from_store, to_store)
        move.begin(drain=False)
        assert run("enqueue", "mail", "early", "--db", new.name).returncode == 0
        move.seal()
        move.copy(lambda _count: None)
        move.compare(lambda _count: None)
        move.finish()
    assert len(new.statuses()) == len(old.statuses()) + 1


@in_all_directions_if_slow
def test_it_refuses_while_a_worker_is_alive_and_changes_nothing(run: Run, sides: Sides, working: Working) -> None:
    old, new = sides
    working(old)
    refused = run("copy", old.name, new.name)
    assert refused.returncode == 5
    assert "1 worker is alive there" in refused.stderr
    assert run("enqueue", "mail", "n:=1", "--db", old.name).returncode == 0


@in_all_directions_if_slow
def test_with_drain_running_jobs_end_and_nothing_new_starts(
    run: Run, sides: Sides, working: Working, tmp_path: Path
) -> None:
    """What those jobs leave behind goes along, and the worker, which lives on, changes nothing any more."""
    old, new = sides
    worker = working(old, "--concurrency", "1", "--interval", "0.2")
    run("enqueue", "hold", "--db", old.name)
    run("enqueue", "mail", "a", "--db", old.name)
    wait_until(lambda: old.statuses()[:1] == ["running"], "the job runs")
    copy = subprocess.Popen(
        [sys.executable, "-m", "durablejobs", "copy", old.name, new.name, "--drain"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: run("enqueue", "mail", "b", "--db", old.name).returncode == 5, "the source is frozen")
    (tmp_path / "gate").touch()
    _, said = copy.communicate(timeout=60)
    assert copy.returncode == 0, said
    first, *others = new.statuses()
    assert (first, set(others)) == ("scheduled", {"pending"})  # it comes back after its backoff
    assert [row[0] for row in new.sql("SELECT message FROM job_errors")] == ["ValueError: held"]
    assert worker.poll() is None  # it lives, and starts nothing


@in_all_directions
def test_a_worker_that_lives_on_promotes_and_prunes_nothing_once_the_rows_are_copied(
    source: DurableJobs, sides: Sides
) -> None:
    old, new = sides
    with old.store() as from_store, new.store() as to_store:
        move = QueueMove(from_store, to_store)
        move.begin(drain=True)
        move.seal()
        move.copy(lambda _count: None)
        before = old.content()
        clock = ManualClock(datetime(2100, 1, 1, tzinfo=UTC))
        target = old.name if "://" in old.name else old.directory / old.name
        with closing(Store(target, clock=clock)) as worker:
            worker.claims.turn([], ClaimRequest(1, (), 10, 30.0))
            assert worker.upkeep.rescue_strays(20, "its worker vanished") == []
            assert worker.upkeep.prune({Status.SUCCEEDED: clock.now()}) == 0
        assert old.content() == before
        move.compare(lambda _count: None)


@pytest.fixture
def working(tmp_path: Path, run: Run) -> Iterator[Working]:
    """Start workers, which are killed in the end."""
    started: list[subprocess.Popen[str]] = []
    (tmp_path / "handlers.py").write_text(
        "import os, time\n"
        "from durablejobs import DurableJobs\n"
        "jobs = DurableJobs('old.db')\n"
        "@jobs.handler('hold', max_attempts=1)\n"
        "def hold():\n"
        "    while not os.path.exists('gate'):\n"
        "        time.sleep(0.01)\n"
        "    raise ValueError('held')\n"
        "@jobs.handler('mail')\n"
        "def mail(to): pass\n"
    )

    def start(side: Side, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "durablejobs", "worker", "--db", side.name, *options]
        with side.store():
            started.append(subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, text=True))
        count = "SELECT count(*) FROM job_workers"
        wait_until(lambda: side.sql(count)[0][0] == len(started), "the worker is there", every=0.05)
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@in_all_directions_if_slow
def test_after_a_kill_in_the_middle_the_same_command_goes_on(
    run: Run, source: DurableJobs, sides: Sides, tmp_path: Path
) -> None:
    old, new = sides
    command = [sys.executable, "-m", "durablejobs", "copy", old.name, new.name]
    copy = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    wait_until(lambda: _number(new) > 0, "some rows are there", every=0.001)
    os.kill(copy.pid, signal.SIGKILL)
    copy.wait()
    done = run("copy", old.name, new.name, "--json")
    assert done.returncode == 0, done.stderr
    assert new.content() == old.content()


def _number(side: Side) -> int:
    if "://" not in side.name and not (side.directory / side.name).exists():
        return 0
    try:
        return int(side.sql("SELECT count(*) FROM jobs")[0][0])
    except sqlite3.OperationalError:  # its tables are not there yet
        return 0


@pytest.mark.parametrize(
    ("sides", "stop_after"), [*((way, 2) for way in DIRECTIONS), ("file to file", 1), ("file to file", 4)],
    indirect=["sides"],
)  # fmt: skip
def test_it_goes_on_after_each_batch_without_copying_a_row_twice(
    source: DurableJobs, sides: Sides, stop_after: int
) -> None:
    old, new = sides
    with old.store() as from_store, new.store() as to_store:
        left = stop_after

        def stop(_count: int) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise KeyboardInterrupt

        first = begun_move(from_store, to_store)
        with pytest.raises(KeyboardInterrupt):
            first.copy(stop)
        there = sum(len(rows) for rows in new.content()[:3])
        second = begun_move(from_store, to_store)
        assert second.copy(lambda _count: None) == second.count() - there
        second.compare(lambda _count: None)
        second.finish()
    assert new.content() == old.content()


def begun_move(old: Store, new: Store) -> QueueMove:
    move = QueueMove(old, new)
    move.begin(drain=False)
    move.seal()
    return move


@in_all_directions_if_slow
def test_while_it_is_not_complete_the_target_starts_no_jobs(source: DurableJobs, sides: Sides) -> None:
    old, new = sides
    with old.store() as from_store, new.store() as to_store:
        begun_move(from_store, to_store)
        with pytest.raises(QueueMovedError, match="is being copied here"), closing(new.jobs()) as jobs:
            jobs.work(burst=True)


@in_all_directions
def test_a_row_that_differs_is_noticed_and_the_target_stays_closed(run: Run, source: DurableJobs, sides: Sides) -> None:
    old, new = sides
    with old.store() as from_store, new.store() as to_store:
        move = begun_move(from_store, to_store)
        move.copy(lambda _count: None)
        new.sql("UPDATE jobs SET result = '2' WHERE id = 2")
        with pytest.raises(MoveError, match="the table jobs differs"):
            move.compare(lambda _count: None)
    differing = run("copy", old.name, new.name)
    assert differing.returncode == 4, differing.stderr
    assert run("worker", "--burst", "--db", new.name).returncode == 5


@pytest.mark.parametrize("sides", ["file to server"], indirect=True)
def test_a_row_that_only_sqlite_can_hold_is_named(run: Run, source: DurableJobs, sides: Sides) -> None:
    old, new = sides
    old.sql("UPDATE jobs SET priority = 3000000000 WHERE id = 570")
    refused = run("copy", old.name, new.name)
    assert refused.returncode == 5, refused.stderr
    assert "cannot hold row 570 of the table jobs (integer out of range)" in refused.stderr
    assert "--reopen" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_path_that_no_other_database_can_keep_is_refused_before_anything_is_done(run: Run, tmp_path: Path) -> None:
    run("enqueue", "mail", "a", "--db", "a.db")
    run("enqueue", "mail", "a", "--db", "\udcff.db")
    for source, target, name in (("a.db", "\udcfe.db", "TARGET"), ("\udcff.db", "b.db", "SOURCE")):
        refused = run("copy", source, target)
        assert refused.returncode == 2, refused.stderr
        assert f"{name}: must be a text without NUL and lone surrogates" in refused.stderr
    assert not {"b.db", "\udcfe.db"} & set(os.listdir(tmp_path))
