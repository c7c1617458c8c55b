"""What a worker counts of what it has settled."""

from __future__ import annotations

from durablejobs.clock import to_text
from durablejobs.events import Listeners
from durablejobs.jobs import ClaimedJob
from durablejobs.outcomes import Succeeded
from durablejobs.report import Reporter
from durablejobs.statuses import Status
from durablejobs.store.endings import Ending, Settlement

from .clocks import START, ManualClock

NOW = to_text(START)


def ending(job_id: int, token: int) -> Ending:
    job = ClaimedJob(job_id, token, "mail", "default", "[]", "{}", 0, NOW, token, 20, 0, None, "{}")
    return Ending(job, Succeeded(None), NOW, NOW)


def test_of_two_runs_of_a_job_by_a_worker_that_was_paused_each_is_counted_for_itself() -> None:
    told: list[tuple[int, Status | None]] = []
    reporter = Reporter(
        ManualClock(START), Listeners(), lambda each, status: told.append((each.job.claim_token, status))
    )
    first, second = ending(7, 1), ending(7, 2)
    reporter.note([first, second], Settlement([first.job], {}))
    assert (reporter.report.succeeded, reporter.report.lost) == (1, 1)
    assert told == [(1, None), (2, Status.SUCCEEDED)]


def test_of_two_runs_that_were_both_lost_none_has_succeeded() -> None:
    reporter = Reporter(ManualClock(START), Listeners())
    first, second = ending(7, 1), ending(7, 2)
    reporter.note([first, second], Settlement([first.job, second.job], {}))
    assert (reporter.report.succeeded, reporter.report.lost) == (0, 2)
