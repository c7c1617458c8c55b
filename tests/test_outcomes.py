"""What a handler raises to choose its ending."""

from __future__ import annotations

import math
from typing import Any

import pytest

from durablejobs import Cancel, ConfigurationError, DurableJobsError, Fail, Retry, Snooze
from durablejobs.backoff import LONGEST_DELAY
from durablejobs.outcomes import HandlerSignal


@pytest.mark.parametrize("signal", [Retry(), Snooze(1), Fail("x"), Cancel()])
def test_a_signal_is_no_error_of_ours_so_that_catching_those_never_eats_it(signal: HandlerSignal) -> None:
    assert isinstance(signal, HandlerSignal)
    assert not isinstance(signal, DurableJobsError)


@pytest.mark.parametrize("delay", [-1, math.nan, math.inf, 1e300, "5", None, 1j])
def test_a_snooze_without_a_sensible_delay_is_refused(delay: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^Snooze delay: must be 0 to"):
        Snooze(delay)


@pytest.mark.parametrize("delay", [-1, math.nan, math.inf, LONGEST_DELAY + 1, "5"])
def test_a_retry_without_a_sensible_delay_is_refused(delay: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^Retry delay: must be 0 to"):
        Retry(delay=delay)


def test_a_retry_without_a_delay_leaves_it_to_the_backoff() -> None:
    assert Retry("later").delay is None
    assert Retry(delay=0).delay == 0.0


def test_signals_say_why() -> None:
    assert (str(Fail("no such user")), Fail("no such user").reason) == ("no such user", "no such user")
    assert (str(Cancel("not needed")), Cancel().reason) == ("not needed", "")
    assert str(Retry("busy")) == "busy"
