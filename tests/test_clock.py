"""Times as text and back."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from durablejobs.clock import SystemClock, from_text, to_text


def test_the_text_of_a_moment_reads_back_as_the_moment() -> None:
    moment = datetime(2026, 1, 31, 12, 0, 5, 42, tzinfo=UTC)
    assert to_text(moment) == "2026-01-31 12:00:05.000042"
    assert from_text(to_text(moment)) == moment
    assert from_text(to_text(moment)).tzinfo is UTC


@pytest.mark.parametrize("text", ["2026-01-31 12:00", "2026-01-31 12:00:00", "2026-01-31 12:00:00.000"])
def test_fewer_digits_as_sql_writes_them_are_read(text: str) -> None:
    assert from_text(text) == datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def test_the_clock_writes_the_same_text_that_its_datetime_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SystemClock()
    for nanoseconds in (0, 1_769_860_799_999_999_999, 1_769_860_800_000_000_000, 1_769_860_800_000_042_000, 999):
        monkeypatch.setattr(time, "time_ns", lambda now=nanoseconds: now)
        seconds, fraction = divmod(nanoseconds // 1000, 1_000_000)
        assert clock.now_text() == to_text(datetime.fromtimestamp(seconds, UTC).replace(microsecond=fraction))


def test_the_clock_runs() -> None:
    clock = SystemClock()
    before, text, after = clock.now(), clock.now_text(), clock.now()
    assert before <= from_text(text) <= after
