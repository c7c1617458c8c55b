"""`durablejobs workers`: who is there, and who is alive."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from .commands import Command
from .errors import ExitCode
from .opening import opened_reader, opened_store
from .parameters import database_option, json_option
from .records import json_object, relative, time_text
from .terminal import Cell, Column, counted, say, show, show_json, show_table

if TYPE_CHECKING:
    from ..jobs import Job
    from ..records import Wish, WorkerRecord

_COLUMNS: Final = (
    Column("id", is_number=True),
    Column("state"),
    Column("name"),
    Column("host"),
    Column("pid", is_number=True),
    Column("queues", is_flexible=True),
    Column("running", is_number=True),
    Column("started"),
    Column("heartbeat"),
    Column("version"),
)
_JOB_COLUMNS: Final = (
    Column("worker", is_number=True),
    Column("job", is_number=True),
    Column("handler"),
    Column("queue"),
    Column("tries", is_number=True),
    Column("time"),
)
_MOST_JOBS: Final = 1000
_STYLES: Final = {"alive": "green", "dead": "red"}
_WISHES: Final[dict[str, Wish | None]] = {"quiet": "quiet", "stop": "stop", "resume": None}
_ANSWERS: Final = {
    "quiet": "begins nothing more; what runs goes on",
    "stop": "ends as soon as what runs has ended, or its grace period is over",
    "resume": "goes on",
}


@click.command(
    cls=Command,
    short_help="List the workers, or ask one to begin nothing more, or to stop.",
    examples=[
        "durablejobs workers --db jobs.db",
        "durablejobs workers --json",
        "durablejobs workers quiet web-1:4711            # by its name or id",
        "durablejobs workers resume 3",
        "durablejobs workers stop 3",
    ],
)
@click.argument("act", type=click.Choice(list(_WISHES)), required=False, metavar="[quiet|resume|stop]")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@database_option
@json_option
def workers(act: str | None, names: tuple[str, ...], database: str | None, as_json: bool) -> int:
    """List the workers and what each of them runs for how long; or ask workers for something.

    'dead' means that the process is gone; the next look of another worker gives its jobs back. 'unknown' means that
    this machine cannot tell, and the heartbeat has to. 'time' of a job that was claimed a little ahead counts from
    its claim.

    A worker that is asked hears it within a second. One that is quiet begins no more jobs until it is to resume; one
    that is to stop ends as after SIGTERM. Whatever starts it again at its end will do so now too.
    """
    if act is None:
        _list(database, as_json)
        return ExitCode.OK
    if not names or as_json:
        problem = "--json is for the list" if as_json else f"which worker is to {act}? Give its name or id"
        raise click.UsageError(problem, click.get_current_context())
    return _ask(act, names, database)


def _ask(act: str, names: Sequence[str], database: str | None) -> int:
    worst = ExitCode.OK
    with opened_store(database) as store:
        for name in dict.fromkeys(names):
            if count := store.workers.ask(name, _WISHES[act]):
                say(f"worker {name} {_ANSWERS[act]}" + (f" ({counted(count, 'worker')})" if count > 1 else ""))
            else:
                say(f"durablejobs: no worker has the name or id {name}")
                worst = ExitCode.NOT_FOUND
    return worst


def _list(database: str | None, as_json: bool) -> None:
    from ..records import JobFilter
    from ..statuses import Status

    with opened_reader(database) as reader:
        found = reader.workers()
        states = reader.worker_states()
        running = reader.list_jobs(JobFilter((Status.RUNNING,)), _MOST_JOBS)
    running.sort(key=lambda job: (job.worker_id or 0, job.started_at or job.created_at, job.id))
    if as_json:
        for record in found:
            jobs = [_job_object(job) for job in running if job.worker_id == record.id]
            show_json({**json_object(record), "state": states.get(record.id, "unknown"), "jobs": jobs})
    elif found:
        now = datetime.now(UTC)
        show_table(_COLUMNS, [_row(record, states.get(record.id, "unknown"), now) for record in found])
        if running:
            show()
            show_table(_JOB_COLUMNS, [_job_row(job, now) for job in running])
    else:
        say("no workers")


def _job_object(job: Job) -> dict[str, object]:
    started = json_object(job)["started_at"]
    return {"id": job.id, "handler": job.handler, "queue": job.queue, "attempt": job.attempt, "started_at": started}


def _job_row(job: Job, now: datetime) -> list[str | Cell]:
    tries = f"{job.spent_attempts}/{job.max_attempts}"
    return [str(job.worker_id or ""), str(job.id), job.handler, job.queue, tries, time_text(job, now)]


def _state(record: WorkerRecord, state: str) -> str:
    """Return the state with what the worker was asked to do."""
    asked = {"quiet": "quiet", "stop": "stopping"}.get(record.asked_to or "")
    return f"{state}, {asked}" if asked else state


def _row(record: WorkerRecord, state: str, now: datetime) -> list[str | Cell]:
    return [
        str(record.id),
        Cell(_state(record, state), _STYLES.get(state, "")),
        record.name,
        record.host,
        str(record.pid),
        record.queues,
        f"{record.running}/{record.concurrency}" + (f", {len(record.stuck)} stuck" if record.stuck else ""),
        relative(record.started_at, now),
        relative(record.heartbeat_at, now),
        record.version,
    ]
