"""The one place that turns an error into one line on stderr and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from typing import Any, Final

import click

from .. import errors as ours
from .terminal import say


class ExitCode(IntEnum):
    """What the exit code of every command means."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_FOUND = 3
    FAILED = 4
    """A check or a job failed."""
    NOT_READY = 5
    """Not in time, the database out of reach or busy, its schema behind."""
    INTERRUPTED = 130


EXPLAINED: Final = (
    "0 ok; 1 error; 2 wrong usage; 3 no such job; 4 a check or a job failed; "
    "5 not ready: timeout, database missing, busy or out of reach, schema behind; 130 interrupted."
)

# The first that fits: a class stands before its base.
_CODES: Final[tuple[tuple[type[ours.DurableJobsError], ExitCode], ...]] = (
    (ours.ConfigurationError, ExitCode.USAGE),
    (ours.ArgumentsError, ExitCode.USAGE),
    (ours.UnknownHandlerError, ExitCode.NOT_FOUND),
    (ours.JobNotFoundError, ExitCode.NOT_FOUND),
    (ours.JobFailedError, ExitCode.FAILED),
    (ours.JobCancelledError, ExitCode.FAILED),
    (ours.WaitTimeoutError, ExitCode.NOT_READY),
    (ours.CommitUnknownError, ExitCode.ERROR),
    (ours.DatabaseError, ExitCode.NOT_READY),
    (ours.DurableJobsError, ExitCode.ERROR),
)


_NO_THREAD: Final = (
    "the system gives no more threads; lower --concurrency, or raise the limit of processes (ulimit -u, TasksMax)"
)


class Refusal(click.ClickException):
    """A command cannot or will not do what it was asked, for a reason of its own."""

    def __init__(self, message: str, code: ExitCode = ExitCode.ERROR) -> None:
        super().__init__(message)
        self.code = code


def code_of(error: ours.DurableJobsError) -> ExitCode:
    """Return the exit code of one of the package's errors."""
    if isinstance(error, ours.MoveError) and error.is_different:
        return ExitCode.FAILED
    return next(code for kind, code in _CODES if isinstance(error, kind))


def guarded(run: Callable[[], Any]) -> int:
    """Run a command and return its exit code; what went wrong is said in one line.

    Only a bug of this program gets through, with its traceback.
    """
    try:
        code = int(run() or ExitCode.OK)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except (click.Abort, KeyboardInterrupt):
        return _said("interrupted", ExitCode.INTERRUPTED)
    except Refusal as error:
        return _said(error.message, error.code)
    except click.UsageError as error:
        return _said(_usage_message(error), ExitCode.USAGE)
    except click.ClickException as error:
        return _said(error.format_message(), ExitCode.ERROR)
    except ours.DurableJobsError as error:
        return _said(str(error), code_of(error))
    except OSError as error:
        return _environment_failed(error)
    except MemoryError:
        return _said("out of memory", ExitCode.ERROR)
    except RuntimeError as error:
        # Python has no error class for a thread that the system refuses.
        if str(error) != "can't start new thread":
            raise
        return _said(_NO_THREAD, ExitCode.ERROR)


def _said(message: str, code: ExitCode) -> int:
    say(f"durablejobs: {message}")
    return code


def _usage_message(error: click.UsageError) -> str:
    message = error.format_message().strip()
    if error.ctx is None:
        return message
    end = "" if message.endswith((".", "?", ")")) else "."
    return f"{message}{end} See '{error.ctx.command_path} --help'."


def _environment_failed(error: OSError) -> int:
    """A full disk behind stdout, a reader that went away, a file that cannot be read, a directory that is gone."""
    stdout_is_lost = error.filename is None and error.errno in (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EBADF)
    if stdout_is_lost:
        _discard_stdout()
    if error.errno == errno.EPIPE:  # `durablejobs list | head -1`: the reader has seen enough
        return ExitCode.ERROR
    reason = error.strerror or str(error)
    if stdout_is_lost:
        return _said(f"standard output: {reason}", ExitCode.ERROR)
    if error.filename is not None:
        return _said(f"{error.filename}: {reason}", ExitCode.ERROR)
    if error.errno == errno.ENOENT and not _is_working_directory_there():
        return _said("the working directory is gone; change to one that is there", ExitCode.ERROR)
    return _said(reason, ExitCode.ERROR)


def _is_working_directory_there() -> bool:
    try:
        return bool(os.getcwd())
    except OSError:
        return False


def _discard_stdout() -> None:
    """Let what is still buffered go nowhere, or the interpreter would complain at its end."""
    with suppress(OSError, ValueError, AttributeError):  # not a real file: nothing will complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
