"""The statuses and the legal changes between them: one table, and the database knows the same words."""

from __future__ import annotations

import sqlite3

import pytest

from durablejobs.statuses import FINAL, LEGAL_CHANGES, LIVE, Status
from durablejobs.store import Store

from .conftest import Sql


def test_every_status_is_either_live_or_final() -> None:
    assert set(Status) == LIVE | FINAL
    assert not LIVE & FINAL


def test_the_table_of_changes_names_every_status_once() -> None:
    assert LEGAL_CHANGES.keys() == set(Status)
    for before, after in LEGAL_CHANGES.items():
        assert before not in after


def test_a_job_that_has_ended_only_comes_back_by_a_retry() -> None:
    for status in FINAL:
        assert LEGAL_CHANGES[status] == {Status.PENDING}


def test_a_job_runs_only_after_it_was_pending() -> None:
    assert {before for before, after in LEGAL_CHANGES.items() if Status.RUNNING in after} == {Status.PENDING}


def test_only_what_runs_succeeds_or_fails() -> None:
    for end in (Status.SUCCEEDED, Status.FAILED):
        assert {before for before, after in LEGAL_CHANGES.items() if end in after} == {Status.RUNNING}


def test_every_live_status_leads_to_an_ending_and_can_be_cancelled() -> None:
    for status in LIVE:
        assert Status.CANCELLED in LEGAL_CHANGES[status]
        reachable, frontier = {status}, {status}
        while frontier:
            frontier = {after for before in frontier for after in LEGAL_CHANGES[before]} - reachable
            reachable |= frontier
        assert reachable == set(Status) - ({Status.BLOCKED} if status is not Status.BLOCKED else set())


@pytest.mark.parametrize("status", Status)
def test_the_database_knows_every_status(store: Store, sql: Sql, status: Status) -> None:
    finished = "'2030-01-01 12:00:00'" if status in FINAL else "NULL"
    sql(
        "INSERT INTO jobs(handler, status, finished_at, lease_expires_at) "
        f"VALUES ('mail', '{status}', {finished}, '2030-01-01 12:00:00')"
    )
    job = store.reads.get(1)
    assert job is not None
    assert job.status is status
    assert job.is_final == (status in FINAL)


def test_the_database_knows_no_other_status(store: Store, sql: Sql) -> None:
    for word in ("retrying", "waiting", "Pending", ""):
        with pytest.raises(sqlite3.IntegrityError, match="status_is_known"):
            sql("INSERT INTO jobs(handler, status) VALUES ('mail', ?)", word)


def test_a_status_is_its_own_word() -> None:
    assert [str(status) for status in Status] == [
        "scheduled",
        "pending",
        "blocked",
        "running",
        "succeeded",
        "failed",
        "cancelled",
    ]
