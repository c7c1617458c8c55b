"""How many jobs are claimed beyond those that can start: many when they are short, none when they are long."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durablejobs.clock import to_text
from durablejobs.jobs import ClaimedJob
from durablejobs.outcomes import Succeeded
from durablejobs.read_ahead import MOST_AHEAD, WORK_AHEAD, ReadAhead
from durablejobs.store.endings import Ending

from .clocks import START

JOB = ClaimedJob(1, 1, "mail", "default", "[]", "{}", 0, "", 1, 20, 0, None, "{}")


def runs(seconds: float, count: int = 1) -> list[Ending]:
    return [Ending(JOB, Succeeded(), to_text(START), to_text(START + timedelta(seconds=seconds)))] * count


def test_nothing_is_claimed_ahead_before_a_run_has_been_measured() -> None:
    assert ReadAhead(4).jobs == 0
    read_ahead = ReadAhead(4)
    read_ahead.learn([])
    assert read_ahead.jobs == 0


@pytest.mark.parametrize("concurrency", [1, 4])
def test_jobs_that_take_no_time_are_claimed_by_the_hundreds(concurrency: int) -> None:
    read_ahead = ReadAhead(concurrency)
    read_ahead.learn(runs(0))
    assert read_ahead.jobs == MOST_AHEAD


def test_it_is_the_work_of_a_short_time_for_all_slots() -> None:
    read_ahead = ReadAhead(4)
    read_ahead.learn(runs(0.001))
    assert read_ahead.jobs == pytest.approx(4 * WORK_AHEAD / 0.001, abs=1)


@pytest.mark.parametrize("seconds", [WORK_AHEAD, 0.1, 10, 1e6])
def test_slow_jobs_are_not_claimed_ahead(seconds: float) -> None:
    read_ahead = ReadAhead(4)
    read_ahead.learn(runs(seconds))
    assert read_ahead.jobs == 0


def test_one_slow_batch_ends_the_reading_ahead_at_once_and_short_jobs_bring_it_back() -> None:
    read_ahead = ReadAhead(2)
    read_ahead.learn(runs(0.0001, 100))
    assert read_ahead.jobs > 100
    read_ahead.learn(runs(1, 2))
    assert read_ahead.jobs == 0
    for _ in range(12):
        read_ahead.learn(runs(0.0001, 100))
    assert read_ahead.jobs > 100


def test_what_was_learnt_can_be_forgotten() -> None:
    read_ahead = ReadAhead(2)
    read_ahead.learn(runs(0))
    read_ahead.forget()
    assert read_ahead.jobs == 0


def test_a_clock_that_was_set_back_during_a_run_counts_as_no_time() -> None:
    read_ahead = ReadAhead(1)
    read_ahead.learn(runs(-3600))
    assert read_ahead.jobs == MOST_AHEAD


@given(st.integers(1, 1000), st.lists(st.floats(0, 1e5), max_size=20))
def test_it_is_bounded_whatever_the_runs_took(concurrency: int, durations: list[float]) -> None:
    read_ahead = ReadAhead(concurrency)
    for seconds in durations:
        read_ahead.learn(runs(seconds, 3))
        assert 0 <= read_ahead.jobs <= MOST_AHEAD
