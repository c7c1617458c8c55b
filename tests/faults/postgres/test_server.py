"""The server itself is stopped, killed, or made a standby, while workers are at work."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count

import pytest
from psycopg.rows import DictRow, dict_row
from sqlalchemy import make_url

from durablejobs import DatabaseUnreachableError, DurableJobs, current_job

from ... import postgres
from ...worker.harness import wait_until
from .server import FAST, IMMEDIATE, Server, own_server
from .workers import running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

JOBS = 300
_names = count()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server for the tests of this file."""
    with own_server() as started:
        yield started


@pytest.fixture
def url(server: Server) -> str:
    """A database of its own, which ends with the server."""
    name = f"jobs_{next(_names)}"
    with postgres.admin(server.url) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    made = make_url(server.url).set(database=name).render_as_string(hide_password=False)
    with closing(DurableJobs(made)) as jobs:
        jobs.migrate()
    return made


class Site:
    """Two workers with many short jobs; each call is counted."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.calls: Counter[int] = Counter()
        self.apps = [DurableJobs(url), DurableJobs(url)]
        for app in self.apps:
            app.handler("count")(self._count)

    def _count(self) -> None:
        self.calls[current_job().id] += 1
        time.sleep(0.005)

    def rows(self, statement: str) -> list[DictRow]:
        with postgres.admin(self.url) as connection:
            return connection.cursor(row_factory=dict_row).execute(statement).fetchall()

    def unfinished(self) -> int:
        return int(self.rows("SELECT count(*) AS jobs FROM jobs WHERE finished_at IS NULL")[0]["jobs"])

    def close(self) -> None:
        for app in self.apps:
            app.close()


@pytest.fixture
def site(url: str) -> Iterator[Site]:
    made = Site(url)
    yield made
    made.close()


def restart_fast(server: Server, _site: Site) -> None:
    server.restart(FAST)


def restart_immediately(server: Server, _site: Site) -> None:
    server.restart(IMMEDIATE)


def kill_one_backend(_server: Server, site: Site) -> None:
    for _ in range(10):
        site.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'durablejobs' "
            "AND datname = current_database() ORDER BY random() LIMIT 1"
        )
        time.sleep(0.05)


@pytest.mark.parametrize("strike", [restart_fast, restart_immediately, kill_one_backend])
def test_workers_connect_again_and_every_job_ends_after_running_once(
    server: Server, site: Site, strike: Callable[[Server, Site], None], record_property: Callable[[str, object], None]
) -> None:
    first, second = site.apps
    first.enqueue_many("count", [()] * JOBS)
    with running(first, heartbeat=0.2) as one, running(second, heartbeat=0.2) as other:
        for reached in (JOBS // 10, JOBS // 2):
            wait_until(lambda: site.calls.total() >= reached, "the workers are at work")  # noqa: B023
            strike(server, site)
        wait_until(lambda: not site.unfinished(), "all jobs have ended", every=0.05)
        assert one.stop().runs + other.stop().runs == JOBS
    ended = site.rows("SELECT id, status, attempt, crashes FROM jobs")
    assert {row["status"] for row in ended} == {"succeeded"}
    # The lease is long and nobody has died: there is nothing to rescue, so nothing has run twice.
    assert [row for row in ended if row["attempt"] != 1 or row["crashes"]] == []
    assert set(site.calls.values()) == {1}
    assert site.rows("SELECT * FROM job_errors") == []
    record_property("faults", 20 if strike is kill_one_backend else 2)


def test_a_worker_waits_while_its_server_is_a_standby_and_goes_on_when_it_is_promoted(
    server: Server, site: Site
) -> None:
    app = site.apps[0]
    app.enqueue("count")
    with running(app, heartbeat=0.2) as worker:
        wait_until(lambda: site.calls.total() == 1 and not site.unfinished(), "the first job has ended")
        app.enqueue("count")
        server.become_standby()
        with pytest.raises(DatabaseUnreachableError, match="nothing was stored, try again"):
            app.enqueue("count")
        assert not worker.has_ended
        site.rows("SELECT pg_promote()")
        wait_until(lambda: worker.has_ended or not site.unfinished(), "the second job has ended")
        worker.stop()
    assert set(site.calls.values()) == {1}


@pytest.fixture
def lazy_server(server: Server) -> Iterator[None]:
    """Commits return before they are in the log, by default, and are written there much later."""
    server.down()
    server.up(wal_writer_delay="10s", synchronous_commit="off")
    yield
    server.restart()


@pytest.mark.usefixtures("lazy_server")
def test_what_was_acknowledged_survives_the_servers_death_though_it_commits_lazily_by_default(
    server: Server, url: str
) -> None:
    with closing(DurableJobs(url)) as jobs:
        stored = [jobs.enqueue("mail", number).id for number in range(50)]
        server.restart(IMMEDIATE)
    with postgres.admin(url) as connection:
        assert [row[0] for row in connection.execute("SELECT id FROM jobs ORDER BY id")] == stored


@pytest.mark.usefixtures("lazy_server")
def test_a_lazy_commit_is_lost_by_the_same_death(server: Server, url: str) -> None:
    with postgres.admin(url) as connection:
        for _ in range(50):
            connection.execute("INSERT INTO jobs(handler) VALUES ('mail')")
    server.restart(IMMEDIATE)
    with postgres.admin(url) as connection:
        kept = connection.execute("SELECT count(*) FROM jobs").fetchone()
    assert kept is not None
    assert kept[0] < 50
