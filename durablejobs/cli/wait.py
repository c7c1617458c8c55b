"""`durablejobs wait`, and the waiting of `enqueue --wait`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..errors import JobCancelledError, JobFailedError
from ..statuses import Status
from .commands import Command
from .errors import ExitCode
from .opening import opened_reader
from .parameters import DURATION, IDS_CONTEXT, database_option, job_id, json_option
from .terminal import say, show_json
from .watching import job_progress

if TYPE_CHECKING:
    from ..reading import Reader


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
        return wait_and_show(reader, reader.get(job_id(job)).id, timeout, as_json)


def wait_and_show(reader: Reader, number: int, timeout: float | None, as_json: bool) -> int:
    """Wait for a job's end with its progress on a terminal, print its result, and return the exit code."""
    with job_progress() as look:
        job = reader.wait_for_end(number, timeout, look)
    succeeded = job.status is Status.SUCCEEDED
    if as_json:
        show_json({"id": job.id, "status": job.status, "result": job.result if succeeded else None})
    elif succeeded:
        show_json(job.result)
    if succeeded:
        return ExitCode.OK
    failed = job.status is Status.FAILED
    say(f"durablejobs: {JobFailedError(job.id, job.error) if failed else JobCancelledError(job.id, job.error)}")
    return ExitCode.FAILED
