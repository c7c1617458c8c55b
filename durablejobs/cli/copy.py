"""`durablejobs copy`: move a whole queue to another database."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Final

import click

from ..config import checked_text
from .commands import Command
from .errors import ExitCode, Refusal
from .opening import opened_store
from .terminal import counted, progress, say, show, show_json

if TYPE_CHECKING:
    from ..store import Store
    from ..store.moving import QueueMove

_LOOK_EVERY: Final = 0.1
"""Seconds between two looks at what still runs."""


@click.command(
    cls=Command,
    short_help="Move all jobs to another database.",
    examples=[
        "durablejobs copy jobs.db /mnt/larger/jobs.db",
        "durablejobs copy jobs.db /mnt/larger/jobs.db --drain   # let running jobs end first",
        "durablejobs copy jobs.db postgresql+psycopg://jobs@db.example/app",
        "durablejobs copy jobs.db --reopen                      # the old one again, after a change of mind",
    ],
)
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET", required=False)
@click.option("--drain", is_flag=True, help="Workers may be alive: they start nothing more, and what runs may end.")
@click.option("--reopen", is_flag=True, help="Open SOURCE again, which has moved; copy nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def copy(source: str, target: str | None, drain: bool, reopen: bool, as_json: bool) -> int:
    """Move all jobs, their ids, errors and history from SOURCE to TARGET, paths or URLs.

    SOURCE takes no jobs from then on, and starts none: it says where the queue is. TARGET is created or must be
    empty. If the copy is interrupted, the same command goes on from there; when it was complete, it changes nothing.
    In the end all rows of both sides are compared; only then TARGET starts jobs. Exits with 4 when they differ, with 5
    while workers are alive on SOURCE.
    """
    if reopen:
        if target is not None:
            raise click.UsageError("--reopen takes no TARGET", click.get_current_context())
        return _reopen(source)
    if target is None:
        raise click.UsageError("Missing argument 'TARGET'", click.get_current_context())
    with opened_store(source) as from_store:
        checked_text(from_store.location, "SOURCE")  # each side keeps the other's place as a text
        from_store.open()
        with closing(_new_store(target)) as to_store:
            return _move(from_store, to_store, drain, as_json)


def _new_store(target: str) -> Store:
    from ..store import Store

    store = Store(target)
    checked_text(store.location, "TARGET")
    store.migrate()
    return store


def _move(source: Store, target: Store, drain: bool, as_json: bool) -> int:
    from ..store.moving import QueueMove

    began = time.monotonic()
    move = QueueMove(source, target)
    if move.begin(drain):
        rows, copied = _copy(move)
        took = time.monotonic() - began
        done = f"{counted(rows, 'row')} compared, the same on both sides; {copied:,} copied now, in {took:.1f} s"
    else:
        rows = copied = 0
        done = "the queue had moved there before; nothing was copied now"
    say(done)  # first: stdout may be full
    say(f"{source.location} is closed; start workers with --db on the other side")
    if as_json:
        show_json({"source": source.location, "target": target.location, "rows": rows, "copied": copied})
    else:
        show(target.location)
    return ExitCode.OK


def _copy(move: QueueMove) -> tuple[int, int]:
    """Return how many rows there are in all, and how many of them were copied now."""
    _wait_for_running(move)
    move.seal()
    rows = move.count()
    with progress("copying rows", rows) as advance:
        copied = move.copy(advance)
    with progress("comparing rows", 2 * rows) as advance:
        move.compare(advance)
    move.finish()
    return rows, copied


def _wait_for_running(move: QueueMove) -> None:
    """Let the jobs end that still run; new ones do not start."""
    running = move.running()
    if running:
        say(f"waiting for {counted(running, 'running job')} to end; Ctrl-C, and the same command later, is fine too")
    while move.running():
        time.sleep(_LOOK_EVERY)


def _reopen(source: str) -> int:
    from ..store.moving import reopen

    with opened_store(source) as store:
        store.open()
        other = reopen(store)
        if other is None:
            raise Refusal(f"{store.location} has not moved; there is nothing to open again")
        say(f"{store.location} is open again; jobs that {other} has run meanwhile would run twice")
    return ExitCode.OK
