"""Log lines about runs that did not succeed: readable, harmless, and never a flood."""

from __future__ import annotations

import logging

import pytest

from durablejobs.ending_log import EndingLog
from durablejobs.jobs import ClaimedJob
from durablejobs.line_limit import MOST_PER_SECOND
from durablejobs.outcomes import Errored, Failure, GaveUp, Outcome, Snoozed, Stopped, Succeeded
from durablejobs.statuses import Status
from durablejobs.store.endings import Ending

from .clocks import ManualClock


@pytest.fixture
def ending_log(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> EndingLog:
    caplog.set_level(logging.DEBUG, "durablejobs.worker")
    return EndingLog(clock)


def ending(outcome: Outcome, job_id: int = 7) -> Ending:
    job = ClaimedJob(job_id, 1, "mail", "default", "[]", "{}", 0, "", 2, 5, 0, None, "{}")
    return Ending(job, outcome, "", "")


def errored(message: str = "no route") -> Ending:
    return ending(Errored(Failure("exception", message), 1.0))


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_success_is_not_logged(ending_log: EndingLog, caplog: pytest.LogCaptureFixture) -> None:
    ending_log.note(ending(Succeeded("1")), Status.SUCCEEDED)
    assert lines(caplog) == []


@pytest.mark.parametrize(
    ("run", "status", "line", "level"),
    [
        (errored(), Status.SCHEDULED, "job 7 (mail) attempt 2/5 will be retried: no route", logging.WARNING),
        (errored(), Status.FAILED, "job 7 (mail) attempt 2/5 failed: no route", logging.WARNING),
        (errored(), Status.CANCELLED, "job 7 (mail) attempt 2/5 cancelled: no route", logging.WARNING),
        (
            ending(GaveUp(Failure("fail", "bad address"))),
            Status.FAILED,
            "job 7 (mail) attempt 2/5 failed: bad address",
            logging.WARNING,
        ),
        (
            ending(Stopped(Failure("cancel", ""))),
            Status.CANCELLED,
            "job 7 (mail) attempt 2/5 cancelled: cancel",
            logging.WARNING,
        ),
        (ending(Snoozed(30)), Status.SCHEDULED, "job 7 (mail) snoozed for 30 s", logging.INFO),
        (errored(), None, "job 7: the claim was lost, its ending changes nothing", logging.WARNING),
        (ending(Succeeded()), None, "job 7: the claim was lost, its ending changes nothing", logging.WARNING),
    ],
)
def test_every_other_ending_is_one_line(
    ending_log: EndingLog, caplog: pytest.LogCaptureFixture, run: Ending, status: Status | None, line: str, level: int
) -> None:
    ending_log.note(run, status)
    assert [(record.getMessage(), record.levelno) for record in caplog.records] == [(line, level)]


def test_control_characters_in_an_error_are_escaped(ending_log: EndingLog, caplog: pytest.LogCaptureFixture) -> None:
    ending_log.note(errored("\x1b[2Jgone \u202etxt\r"), Status.FAILED)
    assert lines(caplog) == ["job 7 (mail) attempt 2/5 failed: \\x1b[2Jgone \\u202etxt\\r"]


def test_only_the_first_line_of_an_error_is_logged_and_not_all_of_a_long_one(
    ending_log: EndingLog, caplog: pytest.LogCaptureFixture
) -> None:
    ending_log.note(errored("first\nsecond"), Status.FAILED)
    ending_log.note(errored("x" * 100_000), Status.FAILED)
    assert lines(caplog)[0].endswith(": first")
    assert len(lines(caplog)[1]) < 400


def test_lines_beyond_the_most_per_second_are_counted_and_the_count_is_said(
    ending_log: EndingLog, caplog: pytest.LogCaptureFixture, clock: ManualClock
) -> None:
    for _ in range(MOST_PER_SECOND + 1234):
        ending_log.note(errored(), Status.SCHEDULED)
    assert len(lines(caplog)) == MOST_PER_SECOND
    caplog.clear()
    clock.advance(1)
    ending_log.note(errored("again"), Status.SCHEDULED)
    assert lines(caplog) == [
        "… and 1234 more runs that did not succeed; see `durablejobs list`",
        "job 7 (mail) attempt 2/5 will be retried: again",
    ]


def test_lost_claims_and_snoozes_count_too(ending_log: EndingLog, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(MOST_PER_SECOND):
        ending_log.note(ending(Succeeded()), None)
        ending_log.note(ending(Snoozed(1)), Status.SCHEDULED)
    ending_log.flush()
    assert len(lines(caplog)) == MOST_PER_SECOND + 1
    assert lines(caplog)[-1].startswith(f"… and {MOST_PER_SECOND} more runs")


def test_successes_do_not_use_up_the_lines(ending_log: EndingLog, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(10 * MOST_PER_SECOND):
        ending_log.note(ending(Succeeded()), Status.SUCCEEDED)
    ending_log.note(errored(), Status.FAILED)
    assert len(lines(caplog)) == 1


def test_a_lasting_error_logs_a_bounded_number_of_lines_per_second_and_leaves_none_unsaid(
    ending_log: EndingLog, caplog: pytest.LogCaptureFixture, clock: ManualClock
) -> None:
    for _ in range(10_000):
        ending_log.note(errored(), Status.SCHEDULED)
        clock.advance(0.001)
    ending_log.flush()
    assert len(lines(caplog)) <= 11 * (MOST_PER_SECOND + 1)
    left_out = sum(int(line.split()[2]) for line in lines(caplog) if line.startswith("…"))
    shown = sum(not line.startswith("…") for line in lines(caplog))
    assert left_out + shown == 10_000


def test_flushing_says_nothing_when_nothing_was_left_out_and_says_it_once(
    ending_log: EndingLog, caplog: pytest.LogCaptureFixture
) -> None:
    ending_log.flush()
    for _ in range(MOST_PER_SECOND + 1):
        ending_log.note(errored(), Status.FAILED)
    ending_log.flush()
    ending_log.flush()
    assert sum(line.startswith("… and 1 more") for line in lines(caplog)) == 1
    assert len(lines(caplog)) == MOST_PER_SECOND + 1
