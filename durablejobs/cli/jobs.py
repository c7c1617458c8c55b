"""`durablejobs list` and `show`."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from ..calls import call_text, compact
from ..config import parsed_job_id
from ..statuses import Status
from .commands import Command
from .opening import opened_reader
from .parameters import IDS_CONTEXT, Parsed, database_option, filter_options, job_id, json_option
from .records import (
    STYLES,
    absolute,
    json_object,
    progress_bar,
    progress_text,
    relative,
    status_word,
    time_text,
)
from .terminal import Cell, Column, cut, is_terminal, say, show, show_json, show_table
from .watching import watch

if TYPE_CHECKING:
    from ..jobs import Job
    from ..reading import Reader
    from ..records import JobError, LogLine

_COLUMNS: Final = (
    Column("id", is_number=True),
    Column("status"),
    Column("handler"),
    Column("queue"),
    Column("tries", is_number=True),
    Column("created"),
    Column("time"),
    Column("args", is_flexible=True),
    Column("error", is_flexible=True),
)
_PROGRESS_AT: Final = 2
"""Behind the status."""
_LONGEST_CELL: Final = 80
_INDENT: Final = "    "
_LEVEL_STYLES: Final = {"debug": "dim", "warning": "yellow", "error": "red", "critical": "red"}


def _parse_before(text: str) -> int:
    number = parsed_job_id(text)
    if number is None:
        raise ValueError(f"must be a job's id, not {text[:60]!r}")
    return number


@click.command(
    "list",
    cls=Command,
    short_help="List jobs, newest first.",
    examples=[
        "durablejobs list --db jobs.db",
        "durablejobs list --status failed --status running --queue mail",
        "durablejobs list --limit 100 --before 4711",
        "durablejobs list --status failed --json | jq .error",
        "durablejobs list --status running --watch          # until Ctrl-C",
    ],
)
@filter_options
@click.option("--limit", type=int, default=20, show_default=True, help="How many at most.")
@click.option("--before", type=Parsed("id", _parse_before), help="Only jobs with smaller ids: the next page.")
@click.option("--watch", "watched", is_flag=True, help="Go on showing them as they change, until Ctrl-C.")
@database_option
@json_option
def list_jobs(
    statuses: tuple[Status, ...],
    handler: str | None,
    queue: str | None,
    limit: int,
    before: int | None,
    watched: bool,
    database: str | None,
    as_json: bool,
) -> None:
    """List jobs, newest first.

    'retrying' is shown for a scheduled job that has attempts behind it. With --watch a terminal shows the list as it
    is now; a pipe or a file gets a line for each job that is new or has changed.
    """
    from ..records import JobFilter

    wanted = JobFilter(statuses, handler, queue)
    with opened_reader(database) as reader:
        if watched:
            return watch(reader, lambda: reader.list_jobs(wanted, limit, before), _draw_list, as_json)
        found = reader.shown(reader.list_jobs(wanted, limit, before))
        has_more = len(found) == limit and bool(reader.list_jobs(wanted, 1, found[-1].id))
    _show_list(found, as_json)
    if not found:
        say("no jobs" + (f" of {wanted}" if str(wanted) != "all" else "") + (f" before {before}" if before else ""))
    if has_more:
        say(f"there are more: --before {found[-1].id}")
    return None


def _show_list(found: list[Job], as_json: bool) -> None:
    if as_json:
        for job in found:
            show_json(json_object(job))
    elif found:
        _draw_list(found)


def _draw_list(found: Sequence[Job]) -> None:
    """Show the table, with a column of progress where a job has some to tell."""
    if not found:
        show("no jobs")
        return
    now = datetime.now(UTC)
    columns, rows = list(_COLUMNS), [_row(job, now) for job in found]
    if any(_has_progress(job) for job in found):
        columns.insert(_PROGRESS_AT, Column("progress", is_flexible=True))
        for job, row in zip(found, rows, strict=True):
            row.insert(_PROGRESS_AT, _progress(job) if _has_progress(job) else "")
    show_table(columns, rows)


def _has_progress(job: Job) -> bool:
    return job.progress is not None and not job.is_final


def _progress(job: Job) -> str:
    text = progress_bar(job.progress) if is_terminal(sys.stdout) else progress_text(job.progress)
    return cut(text, _LONGEST_CELL)


def _row(job: Job, now: datetime) -> list[str | Cell]:
    word = status_word(job)
    return [
        str(job.id),
        Cell(word, STYLES.get(word, "")),
        job.handler,
        job.queue,
        f"{job.spent_attempts}/{job.max_attempts}",
        relative(job.created_at, now),
        time_text(job, now),
        cut(call_text(job.args, job.kwargs), _LONGEST_CELL),
        cut(job.error or "", _LONGEST_CELL),
    ]


@click.command(
    "show",
    cls=Command,
    short_help="Show all about one job.",
    context_settings=IDS_CONTEXT,
    examples=[
        "durablejobs show 12 --db jobs.db",
        "durablejobs show 12 --log",
        "durablejobs show 12 --watch                        # until it has ended",
        "durablejobs show 12 --json",
    ],
)
@click.argument("job", metavar="ID")
@click.option("--log", "with_log", is_flag=True, help="Also what is kept of its log.")
@click.option("--watch", "watched", is_flag=True, help="Go on showing it as it changes, until it has ended.")
@database_option
@json_option
def show_job(job: str, with_log: bool, watched: bool, database: str | None, as_json: bool) -> None:
    """Show all about one job: its arguments, what has happened to it, and each attempt that did not succeed.

    With --watch a terminal shows the job as it is now; a pipe or a file gets a line for each change.
    """
    with opened_reader(database) as reader:
        number = reader.get(job_id(job)).id

        def draw(_jobs: Sequence[Job] = ()) -> None:
            found, errors = reader.get_with_errors(number)
            (found,) = reader.shown([found])
            _show_text(found, errors, _worker_text(found, reader), _hindrances(found, reader))
            if with_log:
                _show_log(reader.log_of(number))

        if watched:
            watch(reader, lambda: [reader.get(number)], draw, as_json, until=lambda jobs: jobs[0].is_final)
        elif as_json:
            _show_json(reader, number, with_log)
        else:
            draw()


def _show_json(reader: Reader, number: int, with_log: bool) -> None:
    job, errors = reader.get_with_errors(number)
    (job,) = reader.shown([job])
    shown = {**json_object(job), "errors": [json_object(error) for error in errors]}
    if with_log:
        shown["log"] = [json_object(line) for line in reader.log_of(number)]
    show_json(shown)


def _show_log(lines: Sequence[LogLine]) -> None:
    show()
    show("  log" if lines else "  log: nothing was kept", "bold")
    attempt = None
    for line in lines:
        if line.attempt != attempt:
            attempt = line.attempt
            show(f"  attempt {attempt}", "dim")
        first, *rest = line.message.splitlines() or [""]
        show(f"{_INDENT}{absolute(line.at)} {line.level:<8}{first}", _LEVEL_STYLES.get(line.level, ""))
        for text in rest:
            show(textwrap.indent(text, 2 * _INDENT))


def _worker_text(job: Job, reader: Reader) -> str | None:
    """Return who runs the job, if it runs."""
    if job.worker_id is None:
        return None
    for worker in reader.workers():
        if worker.id == job.worker_id:
            stuck = ", where it is stuck: it goes on after its timeout" if job.id in worker.stuck else ""
            return f"{worker.id} ({worker.name}, pid {worker.pid} on {worker.host}){stuck}"
    return f"{job.worker_id}, which is not registered any more"


def _hindrances(job: Job, reader: Reader) -> list[str]:
    """Return what a pending job waits for, but for a free worker."""
    if job.status is not Status.PENDING:
        return []
    found = []
    queue = next((state for state in reader.queues() if state.queue == job.queue), None)
    if queue is not None and queue.is_paused:
        until = "until it is resumed" if queue.paused_until is None else f"until {absolute(queue.paused_until)} UTC"
        found.append(f"queue {job.queue} is paused {until}" + (f": {queue.reason}" if queue.reason else ""))
    if queue is not None and queue.max_running is not None and queue.running >= queue.max_running:
        found.append(f"{queue.running} of {queue.max_running} running in queue {job.queue}")
    limit = reader.limit_state(job)
    if limit is not None and limit.running >= limit.max_running:
        found.append(f"{limit.running} of {limit.max_running} running for {limit.group}")
    return found


def _show_text(job: Job, errors: list[JobError], worker: str | None, hindrances: list[str]) -> None:
    now = datetime.now(UTC)
    word = status_word(job)
    show(f"job {job.id}: {job.handler}({call_text(job.args, job.kwargs)})", "bold")
    _field("status", word if hindrances else f"{word}{_status_hint(job, now)}", STYLES.get(word, ""))
    for hindrance in hindrances:
        _field("waits", hindrance, "yellow")
    _field("queue", f"{job.queue}, priority {job.priority}")
    _field("tries", f"{job.spent_attempts} of {job.max_attempts}" + (f", {job.crashes} crashes" if job.crashes else ""))
    for label, value in (("unique key", job.unique_key), ("worker", worker)):
        if value is not None:
            _field(label, value)
    if job.meta:
        _field("meta", compact(job.meta))
    if job.progress is not None:
        _field("progress", progress_bar(job.progress) if is_terminal(sys.stdout) else progress_text(job.progress))
    _show_timeline(job, now)
    if job.status is Status.SUCCEEDED:
        _field("result", compact(job.result))
    elif job.error is not None:
        _field("last error", job.error)
    for error in errors:
        _show_error(error)


def _status_hint(job: Job, now: datetime) -> str:
    """Return when the job runs next, where that is known."""
    if job.status is Status.SCHEDULED:
        return f", runs {relative(job.run_at, now)}"
    if job.status is Status.PENDING:
        return ", runs as soon as a worker of its queue is free"
    if job.cancel_requested_at is not None and job.status is Status.RUNNING:
        return ", was asked to stop"
    return ""


def _show_timeline(job: Job, now: datetime) -> None:
    moments = [
        ("created", job.created_at),
        ("due", job.run_at),
        ("started", job.started_at),
        ("cancel asked", job.cancel_requested_at),
        ("finished", job.finished_at),
    ]
    for label, moment in moments:
        if moment is not None:
            took = f", {time_text(job, now)}" if label == "finished" and job.started_at else ""
            _field(label, f"{absolute(moment)} UTC, {relative(moment, now)}{took}")


def _field(label: str, value: str, style: str = "") -> None:
    show(f"  {label:<13}{value}", style)


def _show_error(error: JobError) -> None:
    worker = f", worker {error.worker_id}" if error.worker_id is not None else ""
    show()
    show(f"  attempt {error.attempt}: {error.kind}, {absolute(error.ended_at)} UTC{worker}", "bold")
    for line in (error.traceback or error.message).splitlines():
        show(textwrap.indent(line, _INDENT))
