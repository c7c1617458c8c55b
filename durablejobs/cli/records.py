"""Jobs and other records as JSON and as short text; what `list`, `show` and their neighbours share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ..statuses import Status
from .terminal import brief

if TYPE_CHECKING:
    from ..jobs import Job

STYLES: Final[Mapping[str, str]] = {
    "running": "cyan",
    "succeeded": "green",
    "failed": "red",
    "retrying": "yellow",
    "cancelled": "dim",
}
"""The colour of a status."""

_NOT_SHOWN: Final = frozenset({"source", "is_duplicate"})


def json_object(record: Any) -> dict[str, Any]:
    """Return a record as a JSON object: its fields, times as ISO 8601 in UTC."""
    fields = [field.name for field in dataclasses.fields(record) if field.name not in _NOT_SHOWN]
    return {name: _plain(getattr(record, name)) for name in fields}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value


def status_word(job: Job) -> str:
    """Return the status as people see it: a scheduled job with attempts behind it is retrying."""
    return "retrying" if job.status is Status.SCHEDULED and job.attempt > 0 else job.status.value


BAR: Final = 10
"""Characters of a bar."""


def progress_text(progress: Any) -> str:
    """Return what a handler has said about its progress: `3/10 resizing`."""
    if not isinstance(progress, dict):  # written by SQL
        return "" if progress is None else str(progress)
    done, total, message = (progress.get(name) for name in ("done", "total", "message"))
    amount = "" if done is None else _amount(done) if total is None else f"{_amount(done)}/{_amount(total)}"
    return " ".join(filter(None, (amount, str(message or ""))))


def _amount(number: Any) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".") if isinstance(number, float) else str(number)


def progress_bar(progress: Any) -> str:
    """Return the same behind a bar, where there is something to draw."""
    share = progress_share(progress)
    if share is None:
        return progress_text(progress)
    full = round(share * BAR)
    return f"{'█' * full}{'░' * (BAR - full)} {progress_text(progress)}"


def progress_share(progress: Any) -> float | None:
    """Return how much of it is done, 0 to 1; None when nobody knows."""
    if not isinstance(progress, dict):
        return None
    done, total = progress.get("done"), progress.get("total")
    if not isinstance(done, int | float) or not isinstance(total, int | float) or total <= 0:
        return None
    return min(max(done / total, 0.0), 1.0)


def time_text(job: Job, now: datetime) -> str:
    """Return what a job's time says now: when it is due, how long it waits, runs, or took."""
    if job.status is Status.SCHEDULED:
        return f"due {relative(job.run_at, now)}"
    if job.status is Status.PENDING:
        return f"waits {_since(job.run_at, now)}"
    if job.status is Status.RUNNING and job.started_at is not None:
        return f"runs {_since(job.started_at, now)}"
    if job.finished_at is not None and job.started_at is not None:
        return f"took {_since(job.started_at, job.finished_at)}"
    return ""


def _since(moment: datetime, now: datetime) -> str:
    return brief((now - moment).total_seconds())


def relative(moment: datetime, now: datetime) -> str:
    """Return `in 5 min` or `3 h ago`."""
    seconds = (moment - now).total_seconds()
    if abs(seconds) < 0.5:
        return "now"
    return f"in {brief(seconds)}" if seconds > 0 else f"{brief(-seconds)} ago"


def absolute(moment: datetime) -> str:
    """Return a time as the rows have it, in UTC and to the millisecond."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
