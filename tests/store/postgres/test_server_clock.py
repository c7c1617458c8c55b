"""The server's time is counted on here: slow answers do not disturb it, and a clock that was set is followed."""

from __future__ import annotations

import time

from durablejobs.store.postgres.server_clock import ServerClock

SECOND = 10**6
NOON = 1_800_000_000 * SECOND


def clock_at_noon() -> ServerClock:
    clock = ServerClock(lambda: None)
    clock.learn(NOON, time.monotonic_ns())
    return clock


def seconds_since_noon(clock: ServerClock) -> float:
    return clock.now().timestamp() - NOON / SECOND


def test_an_answer_that_was_long_under_way_does_not_set_the_clock_back() -> None:
    clock = clock_at_noon()
    clock.learn(NOON - 200 * SECOND, time.monotonic_ns() - 300 * 10**9)
    assert seconds_since_noon(clock) >= 0


def test_a_server_whose_clock_was_set_back_is_followed() -> None:
    clock = clock_at_noon()
    clock.learn(NOON - 3600 * SECOND, time.monotonic_ns())
    assert seconds_since_noon(clock) < -3000


def test_a_server_whose_clock_was_set_forward_is_followed() -> None:
    clock = clock_at_noon()
    clock.learn(NOON + 3600 * SECOND, time.monotonic_ns())
    assert seconds_since_noon(clock) >= 3600
