"""Behind a real PgBouncer in transaction mode, with `?listen=no`: each transaction may have another session."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import psycopg
import pytest
from sqlalchemy import make_url

from durablejobs import DurableJobs, Retry, current_job

from ... import postgres
from ...worker.harness import wait_until

PGBOUNCER: Final = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
SESSIONS: Final = 2
"""At the server, for all clients together: fewer than they have connections, so that they take turns."""

pytestmark = [
    pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed"),
    pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="pgbouncer refuses root"),
]


@pytest.fixture
def pooled(postgres_url: str, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[str]:
    """The URL of the test's database through PgBouncer; it listens on a socket only."""
    assert PGBOUNCER is not None
    parts = make_url(postgres_url)
    directory = Path("/tmp") / f"durablejobs-bouncer-{os.getpid()}"  # a short path: it is for a socket
    directory.mkdir(mode=0o777)
    directory.chmod(0o777)
    (directory / "users").write_text('"postgres" ""\n')
    server = _server(postgres_url)
    (directory / "ini").write_text(
        f"[databases]\njobs = {server}\n[pgbouncer]\nlisten_addr =\nlisten_port = 6432\n"
        f"unix_socket_dir = {directory}\nauth_type = any\nauth_file = {directory}/users\npool_mode = transaction\n"
        f"default_pool_size = {SESSIONS}\nmax_client_conn = 200\n"
        "ignore_startup_parameters = extra_float_digits\nserver_reset_query_always = 0\n"
    )
    command = [PGBOUNCER, str(directory / "ini")]
    if os.geteuid() == 0:
        user = os.stat(str(parts.query["host"])).st_uid if "host" in parts.query else 65534  # who may use the socket
        command = ["setpriv", f"--reuid={user}", "--clear-groups", *command]
    with (directory / "log").open("wb") as log:
        bouncer = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"postgresql+psycopg://postgres@/jobs?host={directory}&port=6432&listen=no"
    try:
        wait_until(lambda: _answers(directory), "PgBouncer answers", every=0.05)
        yield url
    except AssertionError as error:
        error.add_note((directory / "log").read_text())
        raise
    finally:
        bouncer.terminate()
        bouncer.wait(60)
        shutil.rmtree(directory, ignore_errors=True)


def _server(url: str) -> str:
    parts = make_url(url)
    named = {"host": parts.host, "port": parts.port, "dbname": parts.database, "user": parts.username}
    named |= {"host": parts.query["host"]} if "host" in parts.query else {}
    return " ".join(f"{name}={value}" for name, value in named.items() if value is not None)


def _answers(directory: Path) -> bool:
    try:
        psycopg.connect(host=str(directory), port=6432, user="postgres", dbname="jobs").close()
    except psycopg.OperationalError:
        return False
    return True


def test_jobs_are_enqueued_and_run_in_threads_and_with_transactions(pooled: str, postgres_url: str) -> None:
    with closing(DurableJobs(pooled)) as jobs, postgres.admin(postgres_url) as connection:

        @jobs.handler(max_attempts=3)
        def work(number: int) -> int:
            with current_job().transaction() as own:
                if number % 10 == 0 and current_job().attempt == 1:
                    raise Retry("again", delay=0)
                if number < 100:
                    work.using(connection=own).enqueue(number + 1000)
            return number

        work.enqueue_many([[number] for number in range(100)])
        for number in range(100, 120):
            work.using(unique_key=f"key {number % 5}", on_conflict="replace").enqueue(number)
        report = jobs.work(burst=True, concurrency=8, interval=0.1)
        assert report.succeeded == 205
        assert report.lost == 0
        count = "SELECT status, count(*) FROM jobs GROUP BY status"
        assert connection.execute(count).fetchall() == [("succeeded", 205)]
        sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = %s"
        assert connection.execute(sessions, ("client backend",)).fetchone() <= (SESSIONS + 1,)  # type: ignore[operator]
        assert [each for each in jobs._store.checks.rules() if each.broken] == []


def test_our_transactions_bring_their_settings_along_and_leave_none_behind(pooled: str) -> None:
    with closing(DurableJobs(pooled)) as jobs:
        jobs.enqueue("mail")
        with jobs._store.database.write() as connection:
            ours = connection.exec_driver_sql("SELECT current_setting('synchronous_commit')").scalar_one()
            assert ours == "on"
        parts = make_url(pooled)
        host = str(parts.query["host"])
        with psycopg.connect(host=host, port=6432, user="postgres", dbname="jobs", prepare_threshold=None) as plain:
            for _ in range(4):  # whichever session it gets
                left = plain.execute(
                    "SELECT current_setting('statement_timeout'), current_setting('lock_timeout')"
                ).fetchone()
                plain.commit()
                assert left == ("0", "0")


def test_text_arrives_as_it_is_although_another_client_has_set_an_encoding_in_the_session(pooled: str) -> None:
    host = str(make_url(pooled).query["host"])
    with (
        closing(DurableJobs(pooled)) as jobs,
        psycopg.connect(host=host, port=6432, user="postgres", dbname="jobs", autocommit=True) as other,
    ):
        jobs.open()
        other.execute("SET client_encoding TO latin1")
        job = jobs.using(check=False).enqueue("greet", "Grüße, 世界 😀")
        assert job.refresh().args == ["Grüße, 世界 😀"]
        for begin in (jobs._store.database.read, jobs._store.database.write, jobs._store.database.write_hot):
            with begin() as connection:
                assert connection.exec_driver_sql("SHOW client_encoding").scalar_one() == "UTF8"


def test_who_forgets_to_tell_of_the_pooler_gets_nothing_less_durable(pooled: str) -> None:
    with closing(DurableJobs(pooled.replace("&listen=no", ""))) as jobs:
        jobs.enqueue("mail")
        assert not jobs._store.database._connections.has_own_sessions  # type: ignore[attr-defined]
        with jobs._store.database.write() as connection:
            for setting, value in (("synchronous_commit", "on"), ("TimeZone", "UTC")):
                assert connection.exec_driver_sql(f"SHOW {setting}").scalar_one() == value


@pytest.mark.slow
def test_a_worker_process_finds_new_jobs_by_its_interval_and_its_jobs_move_when_it_is_killed(
    pooled: str, tmp_path: Path
) -> None:
    (tmp_path / "handlers.py").write_text(
        "import os, time\n"
        "from durablejobs import DurableJobs\n"
        "jobs = DurableJobs('unused.db')\n"
        "@jobs.handler('hold')\n"
        "def hold():\n"
        "    while not os.path.exists('gate'):\n"
        "        time.sleep(0.01)\n"
    )

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "durablejobs", "worker", "--db", pooled, "--interval", "0.2"]
        return subprocess.Popen([*command, "--lease", "3"], cwd=tmp_path, stderr=subprocess.DEVNULL)

    with closing(DurableJobs(pooled)) as jobs:
        first = start()
        wait_until(lambda: len(jobs.workers()) == 1, "the worker is there", every=0.05)
        job = jobs.using(check=False).enqueue("hold")
        wait_until(lambda: job.refresh().status == "running", "the job runs", every=0.05)
        first.kill()
        first.wait()
        second = start()
        wait_until(lambda: job.refresh().attempt == 2, "the other worker runs it", every=0.05)
        (tmp_path / "gate").touch()
        wait_until(lambda: job.refresh().status == "succeeded", "it has succeeded", every=0.05)
        assert job.refresh().crashes == 1
        second.terminate()
        assert second.wait(60) == 0


def test_the_fixture_really_gives_transactions_other_sessions(pooled: str) -> None:
    """Otherwise the tests above would prove nothing: what is set in a session is met by another client."""
    host = str(make_url(pooled).query["host"])
    plain = [psycopg.connect(host=host, port=6432, user="postgres", dbname="jobs", autocommit=True) for _ in range(3)]
    try:
        seen: set[tuple[int, ...]] = set()
        give_up = time.monotonic() + 30
        while len(seen) < 2 and time.monotonic() < give_up:
            with plain[0].transaction():
                first = plain[0].execute("SELECT pg_backend_pid()").fetchone()
                second = plain[1].execute("SELECT pg_backend_pid()").fetchone()
            assert first is not None
            assert second is not None
            seen |= {first, second}
            assert first != second
            third = plain[2].execute("SELECT pg_backend_pid()").fetchone()
            assert third in seen  # a session that another client has had
    finally:
        for connection in plain:
            connection.close()
