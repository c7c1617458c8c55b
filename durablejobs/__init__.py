"""durablejobs: background jobs in one SQLite file. No broker, no server.

The names below are the public face. They are imported when first used, so that `durablejobs --help` does not pay
for SQLAlchemy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .app import DurableJobs
    from .backoff import Backoff
    from .clock import Clock
    from .config import FOREVER, DatabaseConfig, JobDefaults, Retention, WorkerConfig
    from .current import CurrentJob, current_job
    from .enqueue_options import EnqueueOptions
    from .errors import (
        ArgumentsError,
        BackupError,
        ChildStartError,
        ClaimLostError,
        CommitUnknownError,
        ConfigurationError,
        DatabaseBusyError,
        DatabaseError,
        DatabaseNotFoundError,
        DatabaseReplacedError,
        DatabaseUnreachableError,
        DatabaseUnusableError,
        DiskFullError,
        DuplicateJobError,
        DurableJobsError,
        IllegalActError,
        JobCancelledError,
        JobFailedError,
        JobNotFoundError,
        MoveError,
        QueueMovedError,
        RegistrationError,
        ResourceError,
        SchemaError,
        TransactionError,
        UnknownHandlerError,
        WaitTimeoutError,
    )
    from .events import Event
    from .handler import Handler
    from .jobs import EnqueuedBatch, Job
    from .outcomes import Cancel, Fail, JobCancelled, JobTimeout, Retry, Snooze
    from .records import JobError, JobFilter, LogLine, QueueState, QueueStatistics, WorkerRecord
    from .report import WorkerReport
    from .resources import INJECTED
    from .statuses import Status
    from .worker import Worker

_HOMES = {
    "app": ("DurableJobs",),
    "backoff": ("Backoff",),
    "clock": ("Clock",),
    "config": ("FOREVER", "DatabaseConfig", "JobDefaults", "Retention", "WorkerConfig"),
    "current": ("CurrentJob", "current_job"),
    "enqueue_options": ("EnqueueOptions",),
    "errors": (
        "ArgumentsError",
        "BackupError",
        "ClaimLostError",
        "ChildStartError",
        "CommitUnknownError",
        "ConfigurationError",
        "DatabaseBusyError",
        "DatabaseError",
        "DatabaseNotFoundError",
        "DatabaseReplacedError",
        "DatabaseUnreachableError",
        "DatabaseUnusableError",
        "DiskFullError",
        "DuplicateJobError",
        "DurableJobsError",
        "IllegalActError",
        "JobCancelledError",
        "JobFailedError",
        "JobNotFoundError",
        "MoveError",
        "QueueMovedError",
        "RegistrationError",
        "ResourceError",
        "SchemaError",
        "TransactionError",
        "UnknownHandlerError",
        "WaitTimeoutError",
    ),
    "events": ("Event",),
    "handler": ("Handler",),
    "jobs": ("EnqueuedBatch", "Job"),
    "outcomes": ("Cancel", "Fail", "JobCancelled", "JobTimeout", "Retry", "Snooze"),
    "records": ("JobError", "JobFilter", "LogLine", "QueueState", "QueueStatistics", "WorkerRecord"),
    "report": ("WorkerReport",),
    "resources": ("INJECTED",),
    "statuses": ("Status",),
    "worker": ("Worker",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "FOREVER",
    "INJECTED",
    "ArgumentsError",
    "Backoff",
    "BackupError",
    "Cancel",
    "ChildStartError",
    "ClaimLostError",
    "Clock",
    "CommitUnknownError",
    "ConfigurationError",
    "CurrentJob",
    "DatabaseBusyError",
    "DatabaseConfig",
    "DatabaseError",
    "DatabaseNotFoundError",
    "DatabaseReplacedError",
    "DatabaseUnreachableError",
    "DatabaseUnusableError",
    "DiskFullError",
    "DuplicateJobError",
    "DurableJobs",
    "DurableJobsError",
    "EnqueueOptions",
    "EnqueuedBatch",
    "Event",
    "Fail",
    "Handler",
    "IllegalActError",
    "Job",
    "JobCancelled",
    "JobCancelledError",
    "JobDefaults",
    "JobError",
    "JobFailedError",
    "JobFilter",
    "JobNotFoundError",
    "JobTimeout",
    "LogLine",
    "MoveError",
    "QueueMovedError",
    "QueueState",
    "QueueStatistics",
    "RegistrationError",
    "ResourceError",
    "Retention",
    "Retry",
    "SchemaError",
    "Snooze",
    "Status",
    "TransactionError",
    "UnknownHandlerError",
    "WaitTimeoutError",
    "Worker",
    "WorkerConfig",
    "WorkerRecord",
    "WorkerReport",
    "__version__",
    "current_job",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'durablejobs' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
