"""`durablejobs wait`, and the waiting of `enqueue --wait`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..errors import JobCancelledError, JobFailedError
from .commands import Command
from .errors import ExitCode
from .opening import opened_reader
from .parameters import DURATION, IDS_CONTEXT, database_option, job_id, json_option
from .terminal import say, show_json

if TYPE_CHECKING:
    from ..jobs import Job


@click.command(
    cls=Command,
    short_help="Wait for a job's end and print its result.",
    context_settings=IDS_CONTEXT,
    examples=[
        "durablejobs wait 12 --db jobs.db",
        "durablejobs wait 12 --timeout 30s --json",
    ],
)
@click.argument("job", metavar="ID")
@click.option("--timeout", type=DURATION, help="How long to wait; else for ever.")
@database_option
@json_option
def wait(job: str, timeout: float | None, database: str | None, as_json: bool) -> int:
    """Wait until a job has ended and print its result as JSON.

    Exits with 4 when the job failed or was cancelled, with 5 when it has not ended in time.
    """
    with opened_reader(database) as reader:
        return wait_and_show(reader.get(job_id(job)), timeout, as_json)


def wait_and_show(job: Job, timeout: float | None, as_json: bool) -> int:
    """Wait for a job's end, print its result, and return the exit code."""
    try:
        result = job.wait(timeout)
    except (JobFailedError, JobCancelledError) as error:
        if as_json:
            status = "failed" if isinstance(error, JobFailedError) else "cancelled"
            show_json({"id": job.id, "status": status, "result": None})
        say(f"durablejobs: {error}")
        return ExitCode.FAILED
    show_json({"id": job.id, "status": "succeeded", "result": result} if as_json else result)
    return ExitCode.OK
