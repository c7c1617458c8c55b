"""How long a job waits before its next attempt."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durablejobs import Backoff, ConfigurationError
from durablejobs.backoff import LONGEST_DELAY, delay_after


def test_the_wait_doubles_from_five_seconds_up_to_an_hour() -> None:
    backoff = Backoff(jitter=0)
    assert [backoff(attempt) for attempt in range(1, 13)] == [
        5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600,
    ]  # fmt: skip


def test_attempt_two_thousand_waits_as_long_as_the_cap_says() -> None:
    assert Backoff(jitter=0)(2000) == 3600
    assert Backoff(base=1e-9, factor=100, cap=60, jitter=0)(1_000_000) == 60
    assert Backoff(base=5e-324, factor=100, jitter=0)(2000) <= 3600


def test_twenty_attempts_with_the_defaults_last_about_ten_hours() -> None:
    hours = sum(Backoff(jitter=0)(attempt) for attempt in range(1, 20)) / 3600
    assert 9 < hours < 11


@given(
    base=st.floats(0, LONGEST_DELAY),
    factor=st.floats(1, 100),
    cap=st.floats(0, LONGEST_DELAY),
    jitter=st.floats(0, 1),
    attempt=st.integers(1, 10**9),
)
def test_no_wait_is_longer_than_the_cap_and_its_jitter(
    base: float, factor: float, cap: float, jitter: float, attempt: int
) -> None:
    delay = Backoff(base, factor, cap, jitter)(attempt)
    assert 0 <= delay <= cap * (1 + jitter) * (1 + 1e-9)


@given(base=st.floats(0.001, 100), factor=st.floats(1, 10), attempt=st.integers(1, 300))
def test_a_later_attempt_never_waits_less(base: float, factor: float, attempt: int) -> None:
    backoff = Backoff(base, factor, jitter=0)
    assert backoff(attempt) <= backoff(attempt + 1)


def test_jitter_spreads_jobs_that_failed_together() -> None:
    waits = {Backoff(base=100, jitter=0.2)(1) for _ in range(200)}
    assert len(waits) > 100
    assert all(80 <= wait <= 120 for wait in waits)
    assert max(waits) - min(waits) > 20


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("base", -1),
        ("base", math.nan),
        ("base", math.inf),
        ("base", "5"),
        ("base", LONGEST_DELAY + 1),
        ("factor", 0.5),
        ("factor", 101),
        ("factor", None),
        ("cap", -1),
        ("cap", math.nan),
        ("jitter", -0.1),
        ("jitter", 1.1),
        ("jitter", math.nan),
        ("jitter", "x"),
    ],
)
def test_a_setting_out_of_bounds_is_refused_by_name(setting: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Backoff(**{setting: value})
    assert caught.value.setting == f"backoff {setting}"


def test_any_function_of_the_attempt_is_a_rule() -> None:
    assert delay_after(lambda attempt: attempt * 7, 3) == 21
    assert delay_after(lambda attempt: True, 3) == 1


def raises(_attempt: int) -> float:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    "rule",
    [
        raises,
        lambda: 5,
        lambda attempt: None,
        lambda attempt: math.nan,
        lambda attempt: "soon",
        lambda attempt: 10**400,
    ],
    ids=["raises", "wrong signature", "None", "NaN", "text", "no float"],
)
def test_a_broken_rule_costs_no_attempt_because_the_default_stands_in(rule: Any) -> None:
    assert 5 * 0.8 <= delay_after(rule, 1) <= 5 * 1.2


@pytest.mark.parametrize(
    ("returned", "delay"), [(-5, 0), (-math.inf, 0), (1e300, LONGEST_DELAY), (math.inf, LONGEST_DELAY)]
)
def test_what_a_rule_returns_is_kept_between_now_and_a_year(returned: float, delay: float) -> None:
    assert delay_after(lambda attempt: returned, 1) == delay
