"""The statuses of a job and the legal changes between them.

This table is the law: the store writes no other change, the docs draw it, a property test walks it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """The status of a job, as it stands in the column `jobs.status`."""

    SCHEDULED = "scheduled"
    """Due later: delayed, snoozed, or waiting for its next attempt."""
    PENDING = "pending"
    """Ready to run."""
    BLOCKED = "blocked"
    """Waits for other jobs."""
    RUNNING = "running"
    """Claimed by a worker."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """Gave up: attempts spent, told to, or killed its workers."""
    CANCELLED = "cancelled"


FINAL: Final = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED})
"""A job in one of these has ended; only an operator's explicit act changes it."""

LIVE: Final = frozenset(Status) - FINAL
"""A job in one of these will still do something."""

LEGAL_CHANGES: Final[dict[Status, frozenset[Status]]] = {
    Status.SCHEDULED: frozenset({Status.PENDING, Status.CANCELLED}),
    # Back to scheduled: another enqueue with its unique key has put it off.
    Status.PENDING: frozenset({Status.RUNNING, Status.CANCELLED, Status.SCHEDULED}),
    Status.BLOCKED: frozenset({Status.PENDING, Status.SCHEDULED, Status.CANCELLED}),
    Status.RUNNING: frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.SCHEDULED, Status.PENDING}),
    # An operator's retry, and nothing else, takes a job out of a final status.
    Status.SUCCEEDED: frozenset({Status.PENDING}),
    Status.FAILED: frozenset({Status.PENDING}),
    Status.CANCELLED: frozenset({Status.PENDING}),
}
