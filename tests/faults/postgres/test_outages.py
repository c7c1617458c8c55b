"""A server that is out of reach for longer than a lease: workers live on, and what they ran is stored afterwards."""

from __future__ import annotations

import logging
import threading

import psycopg
import pytest
from psycopg.rows import DictRow

from durablejobs import DurableJobs

from ...worker.harness import wait_until
from .proxy import Proxy
from .workers import PATIENCE, running


def test_a_job_that_runs_through_an_outage_longer_than_the_lease_is_settled_afterwards(
    jobs: DurableJobs, proxy: Proxy, direct: psycopg.Connection[DictRow], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "durablejobs.worker")
    began, may_end = threading.Event(), threading.Event()

    @jobs.handler("slow")
    def slow() -> str:
        began.set()
        assert may_end.wait(PATIENCE)
        return "done"

    def ended() -> list[DictRow]:
        return direct.execute("SELECT result #>> '{}' AS result FROM jobs WHERE status = 'succeeded'").fetchall()

    slow.enqueue()
    with running(jobs, lease=1.0, heartbeat=0.2) as worker:
        assert began.wait(PATIENCE)
        proxy.refuse()
        proxy.reset()
        # Each pause is twice as long as the one before: six of them are far longer than the lease.
        wait_until(lambda: caplog.text.count("trying again") >= 6 or worker.has_ended, "it has tried for long")
        assert not worker.has_ended
        may_end.set()
        proxy.refuse(False)
        wait_until(lambda: ended() or worker.has_ended, "the job is settled")
        assert ended() == [{"result": "done"}]
        worker.stop()
