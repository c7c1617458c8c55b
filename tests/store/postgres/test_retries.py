"""Two people retry jobs of one unique key at the same moment: one of them does, the other is told in our words."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from durablejobs.errors import DuplicateJobError
from durablejobs.outcomes import Failure, GaveUp
from durablejobs.store import Store

from ...conftest import Claim, Enqueue, Settle, Sql


@pytest.fixture
def dialect() -> str:
    return "postgresql"


def test_of_two_retries_at_once_one_wins_and_the_other_is_a_duplicate(
    store: Store, enqueue: Enqueue, claim: Claim, settle: Settle, sql: Sql
) -> None:
    ids = []
    for _ in range(2):
        ids.append(enqueue(unique_key="k"))
        settle(claim()[0], GaveUp(Failure("fail", "no")))
    barrier = Barrier(2)

    def retry(job_id: int) -> str:
        barrier.wait(30)
        try:
            return store.acts.retry(job_id).status.value
        except DuplicateJobError as error:
            return error.unique_key

    with ThreadPoolExecutor(2) as threads:
        for _ in range(10):
            assert sorted(threads.map(retry, ids)) == ["k", "pending"]
            settle(claim()[0], GaveUp(Failure("fail", "no")))
