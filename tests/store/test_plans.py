"""The hot statements go through their indexes: a lost index fails here, not at three in the morning."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from durablejobs import DurableJobs
from durablejobs.store import claims, endings, rescues

STATEMENTS = {
    "promote": (claims.PROMOTE.sql, ["ix_jobs_scheduled"]),
    "peek": (claims.PEEK.sql, ["ix_jobs_pending", "ix_jobs_scheduled"]),
    "pending queues": (claims.PENDING_QUEUES.sql, ["ix_jobs_pending"]),
    "claim of one queue": (claims.claim_statement(1).sql, ["ix_jobs_pending"]),
    "claim of five queues": (claims.claim_statement(5).sql, ["ix_jobs_pending"]),
    "extend": (claims.EXTEND.sql, ["ix_jobs_running"]),
    "claimed by": (claims.CLAIMED_BY.sql, ["ix_jobs_running"]),
    "orphans": (rescues.ORPHANS_OF_WORKER.sql, ["ix_jobs_running"]),
    "succeed": (endings.succeed_statement(64), ["INTEGER PRIMARY KEY"]),
}


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    path = tmp_path / "jobs.db"
    with closing(DurableJobs(path)) as jobs:
        for number in range(5):
            jobs.using(queue=f"q{number}").enqueue_many("mail", ([each] for each in range(500)))
        jobs.using(delay=60).enqueue_many("mail", ([each] for each in range(500)))
    with closing(sqlite3.connect(path)) as connection:
        yield connection


def plan(connection: sqlite3.Connection, sql: str) -> str:
    rows = connection.execute(f"EXPLAIN QUERY PLAN {sql}", [None] * sql.count("?"))
    return "\n".join(row[3] for row in rows)


def faults(text: str, indexes: list[str]) -> list[str]:
    lost = [f"no {index}" for index in indexes if index not in text]
    scans = [line for line in text.splitlines() if line.startswith("SCAN jobs") and "INDEX" not in line]
    sorts = [line for line in text.splitlines() if "TEMP B-TREE" in line]
    return lost + scans + sorts


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_hot_statement_goes_through_its_index_and_sorts_nothing(filled: sqlite3.Connection, name: str) -> None:
    sql, indexes = STATEMENTS[name]
    text = plan(filled, sql)
    assert faults(text, indexes) == [], text


def test_the_check_notices_a_lost_index(filled: sqlite3.Connection) -> None:
    filled.execute("DROP INDEX ix_jobs_pending")
    sql, indexes = STATEMENTS["claim of one queue"]
    assert faults(plan(filled, sql), indexes) != []
