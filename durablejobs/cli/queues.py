"""`durablejobs queues`, `pause`, `resume` and `limit`: what an operator says about queues."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import click

from ..backoff import LONGEST_DELAY
from ..config import checked_integer, checked_name, checked_number, checked_reason
from .commands import Command
from .opening import opened_reader, opened_store
from .parameters import DURATION, DURATION_FORMS, MOMENT, Parsed, database_option, json_option
from .records import absolute, json_object, relative
from .terminal import Cell, Column, counted, say, show_json, show_table

if TYPE_CHECKING:
    from ..records import QueueState
    from ..store import Store

_COLUMNS: Final = (
    Column("queue"),
    Column("state"),
    Column("running", is_number=True),
    Column("pending", is_number=True),
    Column("scheduled", is_number=True),
    Column("resumes"),
    Column("reason", is_flexible=True),
)


@click.command(
    cls=Command,
    short_help="List the queues: paused, limited, and what waits in them.",
    examples=[
        "durablejobs queues --db jobs.db",
        "durablejobs queues --json",
    ],
)
@database_option
@json_option
def queues(database: str | None, as_json: bool) -> None:
    """List the queues that are paused or limited or have jobs that have not ended.

    'running' is shown as 2/5 where at most five jobs of the queue run at once.
    """
    with opened_reader(database) as reader:
        found = reader.queues()
    if as_json:
        for queue in found:
            show_json(json_object(queue))
    elif found:
        now = datetime.now(UTC)
        show_table(_COLUMNS, [_row(queue, now) for queue in found])
    else:
        say("no queue is paused or limited or has jobs that have not ended")


def _row(queue: QueueState, now: datetime) -> list[str | Cell]:
    until = "when told to" if queue.paused_until is None else relative(queue.paused_until, now)
    return [
        queue.queue,
        Cell("paused", "yellow") if queue.is_paused else Cell("open", "green"),
        str(queue.running) if queue.max_running is None else f"{queue.running}/{queue.max_running}",
        str(queue.pending),
        str(queue.scheduled),
        until if queue.is_paused else "",
        queue.reason or "",
    ]


@click.command(
    cls=Command,
    short_help="Let no job of a queue begin.",
    examples=[
        'durablejobs pause mail --reason "the mail server is down" --db jobs.db',
        "durablejobs pause mail reports --for 30m",
        "durablejobs pause bulk --until 2026-01-31T06:00Z",
    ],
)
@click.argument("names", nargs=-1, required=True, metavar="QUEUE...")
@click.option("--reason", metavar="TEXT", help="Why; shown by `queues`.")
@click.option("--for", "length", type=DURATION, help=f"Resume by itself after so long: {DURATION_FORMS}.")
@click.option("--until", type=MOMENT, help="Resume by itself at this time, with its zone: 2026-01-31T12:00Z.")
@database_option
def pause(
    names: tuple[str, ...], reason: str | None, length: float | None, until: datetime | None, database: str | None
) -> None:
    """Let no job of these queues begin, in any worker; those that run go on.

    Jobs are still taken in. Pausing a paused queue again replaces the reason and the time.
    """
    if length is not None and until is not None:
        raise click.UsageError("--for and --until exclude each other", click.get_current_context())
    if length is not None:
        checked_number(length, "--for", 0, LONGEST_DELAY)
    if reason is not None:
        checked_reason(reason)
    with opened_store(database) as store:
        end = store.clock.now() + timedelta(seconds=length) if length is not None else until
        for name in _checked(names):
            store.acts.pause(name, end.astimezone(UTC) if end is not None else None, reason)
            when = f"until {absolute(end)} UTC" if end is not None else "until it is resumed"
            say(f"queue {name} is paused {when}; {_waiting(store, name)}")


def _waiting(store: Store, name: str) -> str:
    state = next(state for state in store.reads.queues() if state.queue == name)
    return f"{counted(state.pending, 'job')} waiting, {state.running:,} still running"


@click.command(
    cls=Command,
    short_help="Let jobs of a paused queue begin again.",
    examples=["durablejobs resume mail --db jobs.db"],
)
@click.argument("names", nargs=-1, required=True, metavar="QUEUE...")
@database_option
def resume(names: tuple[str, ...], database: str | None) -> None:
    """Let jobs of paused queues begin again."""
    with opened_store(database) as store:
        for name in _checked(names):
            say(f"queue {name} is resumed" if store.acts.resume(name) else f"queue {name} was not paused")


def _parse_limit(text: str) -> int | None:
    if text == "none":
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ValueError(f"must be a whole number from 1, or 'none', not {text[:60]!r}")
    return checked_integer(int(text), "most", 1, 1_000_000)


@click.command(
    cls=Command,
    short_help="Limit how many jobs of a queue run at once.",
    examples=[
        "durablejobs limit mail 5 --db jobs.db",
        "durablejobs limit mail none",
    ],
)
@click.argument("name", metavar="QUEUE")
@click.argument("most", type=Parsed("number", _parse_limit), metavar="N|none")
@database_option
def limit(name: str, most: int | None, database: str | None) -> None:
    """Let at most N jobs of a queue run at once, all workers together; 'none' lifts the limit.

    Jobs that run already go on.
    """
    with opened_store(database) as store:
        store.acts.limit(checked_name(name, "queue"), most)
    if most is None:
        say(f"queue {name} has no limit")
    else:
        say(f"of queue {name} at most {counted(most, 'job')} at once")


def _checked(names: tuple[str, ...]) -> list[str]:
    """Return each name once. Raises `ConfigurationError` before anything is changed."""
    return [checked_name(name, "queue") for name in dict.fromkeys(names)]
