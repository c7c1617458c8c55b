"""Workers on two machines, one of which loses its network for longer than its lease."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from psycopg.rows import dict_row

from durablejobs import DurableJobs

from ... import postgres
from ...worker.harness import wait_until
from .machines import NETWORK, Machine, machines
from .server import Server, own_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WITHIN = 120.0

_WORKER = """
import logging, os, sys, time
from pathlib import Path
from durablejobs import DurableJobs, current_job

logging.basicConfig(level=logging.INFO)
url, name, directory = sys.argv[1], sys.argv[2], Path(sys.argv[3])
jobs = DurableJobs(url)

@jobs.handler
def slow():
    job = current_job()
    (directory / f"{name}-began-{job.id}").touch()
    while not (directory / f"gate-{job.id}").exists():
        time.sleep(0.01)
    (directory / f"{name}-ended-{job.id}").touch()
    return name

@jobs.handler
def effect():
    with current_job().transaction() as connection:
        connection.exec_driver_sql("INSERT INTO effects VALUES (%s)", (current_job().id,))

jobs.work(concurrency=4, lease=3.0, heartbeat=0.5, interval=0.1)
"""


@pytest.fixture
def site() -> Iterator[list[Machine]]:
    """Two machines."""
    with machines(2) as made:
        yield made


@pytest.fixture
def server(site: list[Machine]) -> Iterator[Server]:
    """A server that both machines reach, each by its own cable."""
    with own_server() as started:
        started.down()
        with (started.directory / "data" / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {NETWORK}.0.0/16 trust\n")
        started.up(listen_addresses=", ".join(machine.server for machine in site))
        yield started


class Site:
    """The queue as it is seen from the server, and the workers' notes."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        self.directory = directory

    def rows(self, statement: str) -> list[dict[str, Any]]:
        with postgres.admin(self.url) as connection:
            return connection.cursor(row_factory=dict_row).execute(statement).fetchall()

    def work_on(self, machine: Machine, name: str) -> None:
        url = f"postgresql+psycopg://postgres@{machine.server}/postgres?connect_timeout=2"
        machine.start(self.directory / f"{name}.log", _WORKER, url, name, str(self.directory))

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()

    def noted(self, note: str) -> bool:
        return (self.directory / note).exists()

    def unfinished(self) -> int:
        return len(self.rows("SELECT FROM jobs WHERE finished_at IS NULL"))


def test_a_machine_that_is_cut_off_loses_its_jobs_to_the_other_and_works_on_when_it_is_back(
    site: list[Machine], server: Server, tmp_path: Path
) -> None:
    queue, (first, second) = Site(server.url, tmp_path), site
    with closing(DurableJobs(server.url)) as jobs:
        jobs.migrate()
        with postgres.admin(server.url) as connection:
            connection.execute("CREATE TABLE effects (job bigint)")
        jobs.enqueue("slow")
        queue.work_on(first, "first")
        wait_until(lambda: queue.noted("first-began-1"), "the first machine runs it", WITHIN)
        queue.work_on(second, "second")
        first.pull_the_plug()
        wait_until(lambda: queue.noted("second-began-1"), "the second machine has taken it over", WITHIN)
        jobs.enqueue_many("effect", [()] * 20)
        (tmp_path / "gate-1").touch()
        wait_until(lambda: queue.noted("first-ended-1"), "the cut off run has ended too", WITHIN)
        wait_until(lambda: not queue.unfinished(), "all jobs have ended meanwhile", WITHIN)
        before = queue.rows("SELECT * FROM jobs ORDER BY id")
        wait_until(lambda: "trying again" in queue.log("first"), "the first machine tries to store its ending", WITHIN)
        first.plug_in()
        second.pull_the_plug()
        jobs.enqueue("slow")
        (tmp_path / "gate-22").touch()
        wait_until(lambda: not queue.unfinished(), "the first machine works on", WITHIN)
        assert queue.noted("first-ended-22")
    assert queue.rows("SELECT * FROM jobs WHERE id < 22 ORDER BY id") == before  # its late ending has changed nothing
    told = queue.rows(
        "SELECT id, status, result #>> '{}' AS result, crashes FROM jobs WHERE handler = 'slow' ORDER BY id"
    )
    assert told == [
        {"id": 1, "status": "succeeded", "result": "second", "crashes": 1},
        {"id": 22, "status": "succeeded", "result": "first", "crashes": 0},
    ]
    effects = queue.rows("SELECT job FROM effects ORDER BY job")
    assert [row["job"] for row in effects] == list(range(2, 22))
    assert "job 1: the claim was lost, its ending changes nothing" in queue.log("first")
