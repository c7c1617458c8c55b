"""Every error that durablejobs raises, in one tree.

    DurableJobsError
    ├── ConfigurationError          a setting or option is out of its bounds
    ├── RegistrationError           a handler cannot be registered
    ├── ResourceError               a worker cannot set up what its handlers need
    ├── UnknownHandlerError         no handler has this name
    ├── ArgumentsError              args or kwargs cannot be stored, or do not fit the handler
    ├── DuplicateJobError           another job holds this unique key
    ├── JobNotFoundError            no job has this id
    ├── IllegalActError             the job's status does not allow this act
    ├── JobFailedError              waited for: the job failed
    ├── JobCancelledError           waited for: the job was cancelled
    ├── WaitTimeoutError            waited for: the job has not ended in time
    ├── ClaimLostError              another worker has taken over the job that runs here
    ├── TransactionError            a handler's transaction is used as it cannot be
    ├── ChildStartError             child processes cannot be started; the worker ends
    └── DatabaseError               the database is the trouble; carries its path
        ├── DatabaseNotFoundError   no such file
        ├── DatabaseUnusableError   a directory, not a database, no permission, corrupt
        ├── DatabaseUnreachableError    the server does not answer, refuses, or hung up
        ├── DatabaseBusyError       another writer held the database for too long
        ├── DiskFullError           no room: nothing was stored
        ├── CommitUnknownError      the commit reported an error: stored or not, nobody can tell
        ├── DatabaseReplacedError   the file in use is gone, or another one is in its place
        ├── BackupError             a copy cannot be made there; carries the copy's path
        ├── MoveError               the queue cannot be moved like this
        ├── QueueMovedError         the queue is in another database now: nothing was stored
        └── SchemaError             the tables are missing, older, newer, or somebody else's

Each carries its facts as attributes and builds its own sentence. What a handler raises to choose its
ending (`Retry`, `Snooze`, `Fail`, `Cancel`) is not an error and has another base: see `outcomes`.
"""

from __future__ import annotations

from collections.abc import Iterable

from .spelling import nearest


class DurableJobsError(Exception):
    """The base of every error that durablejobs raises."""


class ConfigurationError(DurableJobsError, ValueError):
    """A setting or option is out of its bounds; nothing was started or stored."""

    def __init__(self, setting: str, problem: str) -> None:
        self.setting = setting
        self.problem = problem
        super().__init__(f"{setting}: {problem}")


class RegistrationError(DurableJobsError):
    """A handler cannot be registered; the message names it and the place."""


class ResourceError(DurableJobsError):
    """A worker cannot set up what its handlers need; no job was begun."""


class UnknownHandlerError(DurableJobsError):
    """No handler has this name; the message names the nearest one, or those that are known."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.known = sorted(known)
        near = nearest(name, self.known, likeness=0.65)
        if near:
            hint = f"; did you mean '{near}'?"
        elif self.known:
            hint = f"; known handlers: {', '.join(self.known[:20])}"
        else:
            hint = "; no handler is registered"
        super().__init__(f"no handler '{name}'{hint}")


class ArgumentsError(DurableJobsError, ValueError):
    """Args or kwargs cannot be stored or do not fit the handler; `path` leads to the culprit."""

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path}: {problem}" if path else problem)


class DuplicateJobError(DurableJobsError):
    """Another job holds this unique key; nothing was stored."""

    def __init__(self, unique_key: str, job_id: int | None = None) -> None:
        self.unique_key = unique_key
        self.job_id = job_id
        owner = f"job {job_id}" if job_id is not None else "another job"
        super().__init__(f"{owner} holds the unique key '{unique_key}'")


class JobNotFoundError(DurableJobsError, LookupError):
    """No job has this id."""

    def __init__(self, job_id: object) -> None:
        self.job_id = job_id
        super().__init__(f"no job {job_id}")


class IllegalActError(DurableJobsError):
    """The job's status does not allow this act; the job is unchanged."""

    def __init__(self, act: str, job_id: int, status: str, reason: str = "") -> None:
        self.act = act
        self.job_id = job_id
        self.status = status
        super().__init__(f"cannot {act} job {job_id}: {reason or f'it is {status}'}")


class JobFailedError(DurableJobsError):
    """The job that was waited for has failed; `error` is its last error."""

    def __init__(self, job_id: int, error: str | None) -> None:
        self.job_id = job_id
        self.error = error
        super().__init__(f"job {job_id} failed: {error or 'no reason was recorded'}")


class JobCancelledError(DurableJobsError):
    """The job that was waited for was cancelled."""

    def __init__(self, job_id: int, reason: str | None) -> None:
        self.job_id = job_id
        self.reason = reason
        super().__init__(f"job {job_id} was cancelled" + (f": {reason}" if reason else ""))


class WaitTimeoutError(DurableJobsError, TimeoutError):
    """The job that was waited for has not ended in time; it goes on."""

    def __init__(self, job_id: int, timeout: float, status: str) -> None:
        self.job_id = job_id
        self.timeout = timeout
        self.status = status
        super().__init__(f"job {job_id} is still {status} after {timeout:g} s")


class ClaimLostError(DurableJobsError):
    """Another worker has taken over the job that runs here: nothing that this run writes would count."""

    def __init__(self, job_id: int) -> None:
        self.job_id = job_id
        super().__init__(f"job {job_id} is not this worker's any more: nothing of this run is stored")


class TransactionError(DurableJobsError, RuntimeError):
    """A handler's transaction is used as it cannot be; nothing that was written in it is stored."""


class ChildStartError(DurableJobsError):
    """Child processes cannot be started, so that jobs of `mode="process"` cannot run; the worker ends."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"child processes cannot start: {reason}")


class DatabaseError(DurableJobsError):
    """The database is the trouble; `path` says which one."""

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path}: {problem}")


class DatabaseNotFoundError(DatabaseError):
    """There is no such database file, and this act does not create one."""

    def __init__(self, path: str) -> None:
        super().__init__(
            path, f"no such database; `durablejobs migrate --db {path}` creates it, and so does the first enqueue"
        )


class DatabaseUnusableError(DatabaseError):
    """The path is a directory, not a database, out of reach, not writable or corrupt."""


class DatabaseUnreachableError(DatabaseError):
    """The server does not answer, refuses the connection or hung up; nothing was stored, and it may come back."""

    def __init__(self, path: str, cause: str) -> None:
        self.cause = cause
        super().__init__(path, f"out of reach ({cause}); nothing was stored, try again")


class DatabaseBusyError(DatabaseError):
    """Another writer held the database for longer than the busy timeout, or was preferred; nothing was stored."""

    def __init__(self, path: str, timeout: float, why: str | None = None) -> None:
        self.timeout = timeout
        why = why or f"another writer has held it for {timeout:g} s"
        super().__init__(path, f"the database is busy: {why}; nothing was stored, try again")


class DiskFullError(DatabaseError):
    """There is no room on the disk; nothing was stored."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "the disk is full (or a file-size limit is reached); nothing was stored")


class CommitUnknownError(DatabaseError):
    """The commit reported an error, so that nobody can tell whether it is on disk.

    Retry with a `unique_key`, which can never store a second live job.
    """

    def __init__(self, path: str, cause: str) -> None:
        self.cause = cause
        super().__init__(
            path, f"the commit failed ({cause}); whether it was stored is unknown: look, or retry with a unique key"
        )


class DatabaseReplacedError(DatabaseError):
    """The database file was deleted or replaced while it was in use; what was just written is not in its place.

    Close the database (`jobs.close()`) before the next use to go on with the file that is there now.
    """

    def __init__(self, path: str) -> None:
        super().__init__(
            path, "the database file was deleted or replaced while in use; stopped before anything more is lost"
        )


class BackupError(DatabaseError):
    """A copy of the database cannot be made there; what was there before is as it was."""


class MoveError(DatabaseError):
    """The queue cannot be moved like this; what was copied is kept, and the same call goes on from there."""

    def __init__(self, path: str, problem: str, *, is_different: bool = False) -> None:
        self.is_different = is_different
        """Whether the rows of both sides were compared and are not the same."""
        super().__init__(path, problem)


class QueueMovedError(DatabaseError):
    """The queue has moved to another database: nothing was stored, no worker starts."""


class SchemaError(DatabaseError):
    """The tables are missing, older or newer than this version, or belong to somebody else."""
