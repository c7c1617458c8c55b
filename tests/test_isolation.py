"""Suspects run alone."""

from __future__ import annotations

from durablejobs.isolation import Isolation
from durablejobs.jobs import ClaimedJob


def claimed(job_id: int, crashes: int = 0) -> ClaimedJob:
    return ClaimedJob(job_id, 1, "mail", "default", "[]", "{}", 0, "", 1, 20, crashes, None, "{}")


def ids(jobs: list[ClaimedJob]) -> list[int]:
    return [job.id for job in jobs]


def test_jobs_without_a_history_of_crashes_pass_and_leave_it_inactive() -> None:
    isolation = Isolation(max_crashes=5)
    assert ids(isolation.hold_back([claimed(1), claimed(2, crashes=3)])) == [1, 2]
    assert not isolation.is_active
    assert isolation.next_alone() == []


def test_a_job_one_crash_short_of_the_limit_is_held_back() -> None:
    isolation = Isolation(max_crashes=5)
    assert ids(isolation.hold_back([claimed(1), claimed(2, crashes=4), claimed(3, crashes=9), claimed(4)])) == [1, 4]
    assert isolation.is_active


def test_suspects_run_one_at_a_time_in_the_order_they_were_claimed() -> None:
    isolation = Isolation(max_crashes=2)
    isolation.hold_back([claimed(1, crashes=1), claimed(2, crashes=1)])
    assert ids(isolation.next_alone()) == [1]
    assert isolation.is_active
    isolation.ended({1})
    assert isolation.is_active
    assert ids(isolation.next_alone()) == [2]
    isolation.ended({2})
    assert not isolation.is_active
    assert isolation.next_alone() == []


def test_it_stays_active_until_the_suspect_itself_has_ended() -> None:
    isolation = Isolation(max_crashes=2)
    isolation.hold_back([claimed(1, crashes=1)])
    isolation.next_alone()
    isolation.ended({7, 8})
    assert isolation.is_active
    isolation.ended({7, 1})
    assert not isolation.is_active


def test_suspects_that_have_not_begun_are_taken_back_and_the_running_one_is_not() -> None:
    isolation = Isolation(max_crashes=2)
    isolation.hold_back([claimed(1, crashes=1), claimed(2, crashes=1), claimed(3, crashes=1)])
    isolation.next_alone()
    assert ids(isolation.take_waiting()) == [2, 3]
    assert isolation.take_waiting() == []
    assert isolation.is_active
    isolation.ended({1})
    assert not isolation.is_active


def test_when_a_single_crash_is_the_limit_a_job_that_never_crashed_still_passes() -> None:
    isolation = Isolation(max_crashes=1)
    assert ids(isolation.hold_back([claimed(1), claimed(2, crashes=1)])) == [1]
