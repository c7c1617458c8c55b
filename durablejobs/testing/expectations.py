"""Which jobs a test means, and the table that shows which ones there are instead."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from ..calls import call_text, compact
from ..config import checked_number
from ..errors import ConfigurationError
from ..jobs import Job
from ..statuses import Status

_COLUMNS: Final = ("id", "status", "queue", "runs", "call")
_LONGEST_CALL: Final = 100
_MOST_ROWS: Final = 50


@dataclass(frozen=True, slots=True)
class Where:
    """What else must be true of a job; None: anything."""

    queue: str | None = None
    priority: int | None = None
    status: str | Status | None = None
    within: float | timedelta | None = None
    """It is due at most so many seconds from now."""
    after: float | timedelta | None = None
    """It is not due for so many seconds from now."""
    unique_key: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    """These members, among others."""
    count: int | None = None
    """Exactly so many jobs; None: one or more."""

    def __post_init__(self) -> None:
        for name in ("within", "after"):
            if getattr(self, name) is not None:
                checked_number(_seconds(getattr(self, name)), name, 0, 1e12)
        if self.status is not None:
            try:
                Status(self.status)
            except ValueError:
                raise ConfigurationError("status", f"must be one of {', '.join(Status)}, not {self.status!r}") from None

    def holds(self, job: Job, now: datetime) -> bool:
        """Return whether all of it is true of this job."""
        due_in = (job.run_at - now).total_seconds()
        return (
            self.queue in (None, job.queue)
            and self.priority in (None, job.priority)
            and self.status in (None, job.status)
            and self.unique_key in (None, job.unique_key)
            and (self.within is None or due_in <= _seconds(self.within))
            and (self.after is None or due_in >= _seconds(self.after))
            and all(name in job.meta and _is_equal(value, job.meta[name]) for name, value in self.meta.items())
        )

    def __str__(self) -> str:
        chosen = {name: getattr(self, name) for name in self.__slots__ if name != "count"}
        return ", ".join(f"{name}={value!r}" for name, value in chosen.items() if value not in (None, {}))


def _seconds(value: float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else value


@dataclass(frozen=True, slots=True)
class Expectation:
    """A call that is looked for among the jobs: a handler's name, and those of its arguments that matter."""

    handler: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    signature: inspect.Signature | None
    """Of the handler, where it is known: then `f(1)` and `f(number=1)` are the same call."""

    def __post_init__(self) -> None:
        if self.signature is not None:  # a test that asks for what cannot be is mistaken, also in `refute_enqueued`
            self.signature.bind_partial(*self.args, **self.kwargs)

    def matches(self, job: Job) -> bool:
        """Return whether the job is such a call; arguments that are not named here may be anything."""
        if job.handler != self.handler:
            return False
        if self.signature is None:
            return self._matches_as_written(job)
        try:
            call = self.signature.bind(*job.args, **job.kwargs)
        except TypeError:
            return self._matches_as_written(job)
        call.apply_defaults()
        wanted = self.signature.bind_partial(*self.args, **self.kwargs)
        return all(self._is_among(name, value, call.arguments) for name, value in wanted.arguments.items())

    def _is_among(self, name: str, wanted: Any, found: Mapping[str, Any]) -> bool:
        assert self.signature is not None
        if self.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            return all(key in found[name] and _is_equal(value, found[name][key]) for key, value in wanted.items())
        return _is_equal(wanted, found[name])

    def _matches_as_written(self, job: Job) -> bool:
        if len(job.args) < len(self.args):
            return False
        return all(map(_is_equal, self.args, job.args)) and all(
            name in job.kwargs and _is_equal(value, job.kwargs[name]) for name, value in self.kwargs.items()
        )

    def __str__(self) -> str:
        parts = [_shown(value) for value in self.args]
        parts += [f"{name}={_shown(value)}" for name, value in self.kwargs.items()]
        return f"{self.handler}({', '.join(parts)})"


def _shown(value: Any) -> str:
    try:
        return compact(value)
    except (TypeError, ValueError):  # unittest.mock.ANY, say
        return repr(value)


def _is_equal(wanted: Any, found: Any) -> bool:
    """Compare with what came out of JSON, where a tuple is a list."""
    if wanted == found:
        return True
    try:
        return bool(json.loads(json.dumps(wanted)) == found)
    except (TypeError, ValueError):
        return False


def table_of(found: Sequence[Job], now: datetime) -> str:
    """Return the jobs as a table, in the order of their ids."""
    if not found:
        return "  (no jobs)"
    rows = [_COLUMNS, *(_row(job, now) for job in found[:_MOST_ROWS])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = [_line(row, widths) for row in rows]
    if len(found) > _MOST_ROWS:
        lines.append(f"  … and {len(found) - _MOST_ROWS:,} more")
    return "\n".join(lines)


def _line(row: Iterable[str], widths: Sequence[int]) -> str:
    return ("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip()


def _row(job: Job, now: datetime) -> tuple[str, ...]:
    call = f"{job.handler}({call_text(job.args, job.kwargs)})"
    return (
        str(job.id),
        job.status.value,
        job.queue,
        _runs(job, now),
        call if len(call) <= _LONGEST_CALL else f"{call[: _LONGEST_CALL - 1]}…",
    )


def _runs(job: Job, now: datetime) -> str:
    if job.is_final:
        return f"attempt {job.attempt}" if job.attempt else "never"
    due_in = (job.run_at - now).total_seconds()
    return f"in {due_in:g} s" if due_in > 0 else "now"
