"""The parts of the counts of ended jobs are added up, and what they come to stays the same."""

from __future__ import annotations

import pytest

from durablejobs.outcomes import Succeeded
from durablejobs.statuses import Status
from durablejobs.store import Store

from ...conftest import Claim, Enqueue, Settle, Sql


@pytest.fixture
def dialect() -> str:
    return "postgresql"


def test_folding_leaves_one_row_for_each_queue_and_status_with_the_same_counts(
    store: Store, enqueue: Enqueue, claim: Claim, settle: Settle, sql: Sql
) -> None:
    for _ in range(2):
        for _ in range(5):
            enqueue()
        for job in claim(5):
            settle(job, Succeeded("1"))
        assert len(sql("SELECT * FROM job_counts")) >= 5
        before = store.reads.statistics(5)[0].counts[Status.SUCCEEDED]
        store.upkeep.fold_counts()
        [row] = sql("SELECT queue, status, part, number FROM job_counts")
        assert row == {"queue": "default", "status": "succeeded", "part": 0, "number": before}
    assert store.reads.statistics(5)[0].counts[Status.SUCCEEDED] == 10
