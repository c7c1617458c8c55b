"""`durablejobs retry`, `cancel` and `delete`: what a person does to jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from ..errors import DuplicateJobError, IllegalActError, JobNotFoundError
from ..statuses import Status
from .commands import Command
from .errors import ExitCode, Refusal, code_of
from .opening import opened_store
from .parameters import IDS_CONTEXT, database_option, filter_options, job_id
from .terminal import ask, can_ask, counted, progress, say, show

if TYPE_CHECKING:
    from ..records import JobFilter
    from ..store import Store

F = TypeVar("F", bound=Callable[..., Any])

DONE: Final = {"retry": "retried", "cancel": "cancelled", "delete": "deleted"}
"""Each act and its past."""


@dataclass(frozen=True)
class Selection:
    """Which jobs were named on the command line, and how to go about it."""

    ids: tuple[str, ...]
    statuses: tuple[Status, ...]
    handler: str | None
    queue: str | None
    everything: bool
    dry_run: bool
    yes: bool

    @property
    def has_filter(self) -> bool:
        return bool(self.statuses or self.handler or self.queue or self.everything)


def selection_options(function: F) -> F:
    """Add the ids, the filters, `--dry-run` and `--yes`."""
    for decorate in (
        database_option,
        click.option("--yes", "-y", is_flag=True, help="Do not ask."),
        click.option("--dry-run", is_flag=True, help="Only say what would be done."),
        click.option("--all", "everything", is_flag=True, help="All jobs that the command applies to."),
        filter_options,
        click.argument("ids", nargs=-1, metavar="[ID]..."),
    ):
        function = decorate(function)
    return function


@click.command(
    cls=Command,
    short_help="Make jobs run again.",
    context_settings=IDS_CONTEXT,
    examples=[
        "durablejobs retry 12 13 --db jobs.db",
        "durablejobs retry --handler mail --dry-run",
        "durablejobs retry --all --yes",
        "durablejobs retry --status cancelled --queue mail",
    ],
)
@selection_options
def retry(database: str | None, **given: Any) -> int:
    """Make jobs run again now, with at least one more attempt each.

    A filter, and --all, mean failed jobs unless --status names others.
    """
    selection = Selection(**given)
    return _perform("retry", selection, selection.statuses or (Status.FAILED,), database)


@click.command(
    cls=Command,
    short_help="Cancel jobs that have not ended.",
    context_settings=IDS_CONTEXT,
    examples=[
        "durablejobs cancel 12 --db jobs.db",
        "durablejobs cancel --status scheduled --handler report",
        "durablejobs cancel --queue bulk --yes",
    ],
)
@selection_options
def cancel(database: str | None, **given: Any) -> int:
    """Cancel jobs that have not ended; those that run are asked to stop."""
    selection = Selection(**given)
    return _perform("cancel", selection, selection.statuses, database)


@click.command(
    cls=Command,
    short_help="Delete jobs that do not run.",
    context_settings=IDS_CONTEXT,
    examples=[
        "durablejobs delete 12 --db jobs.db",
        "durablejobs delete --status cancelled --dry-run",
        "durablejobs delete --queue test --yes",
    ],
)
@selection_options
def delete(database: str | None, **given: Any) -> int:
    """Delete jobs that do not run, with all that is known about them."""
    selection = Selection(**given)
    return _perform("delete", selection, selection.statuses, database)


def _perform(act: str, selection: Selection, statuses: tuple[Status, ...], database: str | None) -> int:
    if selection.ids and selection.has_filter:
        raise click.UsageError("give ids or a filter, not both", click.get_current_context())
    if not selection.ids and not selection.has_filter:
        hint = "give ids, or a filter: --status, --handler, --queue or --all"
        raise click.UsageError(hint, click.get_current_context())
    with opened_store(database) as store:
        if selection.ids:
            return _act_on_ids(store, act, selection.ids, selection.dry_run)
        from ..records import JobFilter

        wanted = JobFilter(statuses, selection.handler, selection.queue)
        return _act_on_filter(store, act, wanted, selection)


# By id


def _act_on_ids(store: Store, act: str, ids: Sequence[str], dry_run: bool) -> int:
    """Do what can be done and say what cannot; that an id is unknown weighs most in the exit code."""
    worst = ExitCode.OK
    for text in dict.fromkeys(ids):
        try:
            number = job_id(text)
            if dry_run:
                show(_would(store, act, number))
            else:
                say(_do(store, act, number))
        except (JobNotFoundError, IllegalActError, DuplicateJobError) as error:
            say(f"durablejobs: {error}")
            worst = max(worst, code_of(error))
    return worst


def _would(store: Store, act: str, number: int) -> str:
    """Return what the act would do. Raises `JobNotFoundError`, `IllegalActError`."""
    from ..store import acts

    applies_to = {"retry": acts.RETRYABLE, "cancel": acts.CANCELLABLE, "delete": acts.DELETABLE}[act]
    job = store.reads.get(number)
    if job is None:
        raise JobNotFoundError(number)
    if job.status not in applies_to:
        raise IllegalActError(act, number, job.status)
    return f"job {number} would be {DONE[act]}"


def _do(store: Store, act: str, number: int) -> str:
    if act == "retry":
        store.acts.retry(number)
    elif act == "delete":
        store.acts.delete(number)
    elif store.acts.cancel(number).status is Status.RUNNING:
        return f"job {number} runs; it is asked to stop"
    return f"job {number} {DONE[act]}"


# By filter


def _act_on_filter(store: Store, act: str, wanted: JobFilter, selection: Selection) -> int:
    count = store.acts.count(act, wanted)
    jobs = f"{counted(count, 'job')} ({wanted})"
    if selection.dry_run:
        show(f"{jobs} would be {DONE[act]}")
    elif not count:
        say(f"no job to {act} ({wanted})")
    elif not _is_confirmed(f"{act} {jobs}", selection.yes):
        raise Refusal("nothing was done")
    else:
        _act_in_batches(store, act, wanted, count)
    return ExitCode.OK


def _is_confirmed(what: str, yes: bool) -> bool:
    if yes:
        return True
    if not can_ask():
        raise Refusal(f"without a terminal to ask on, --yes is needed to {what}", ExitCode.USAGE)
    return ask(f"{what}?")


def _act_in_batches(store: Store, act: str, wanted: JobFilter, count: int) -> None:
    """Act in small transactions, so that workers go on in between; say what was done also when interrupted."""
    done = 0
    try:
        with progress(act, count) as advance:
            for changed in store.acts.on_batches(act, wanted):
                done += changed
                advance(changed)
    finally:
        say(f"{counted(done, 'job')} {DONE[act]}")
