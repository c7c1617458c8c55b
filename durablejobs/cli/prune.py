"""`durablejobs prune`: delete old jobs that have ended."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from ..config import Retention
from ..statuses import FINAL, Status
from .commands import Command
from .opening import opened_store
from .parameters import DURATION, FINAL_STATUS, database_option
from .settings import read_settings
from .terminal import counted, progress, say, show

if TYPE_CHECKING:
    from ..store import Store


@click.command(
    cls=Command,
    short_help="Delete old jobs that have ended.",
    examples=[
        "durablejobs prune --db jobs.db",
        "durablejobs prune --older-than 30d --status succeeded",
        "durablejobs prune --older-than 0 --dry-run",
    ],
)
@click.option("--older-than", type=DURATION, help="Only jobs that ended so long ago, whatever their status.")
@click.option("--status", "statuses", type=FINAL_STATUS, multiple=True, help="Only these; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Only say how many.")
@database_option
def prune(older_than: float | None, statuses: tuple[Status, ...], dry_run: bool, database: str | None) -> None:
    """Delete old jobs that have ended, in small batches, so that workers go on.

    Without --older-than the worker's own retention holds: keep-succeeded, keep-cancelled and keep-failed of
    pyproject.toml, else 7, 7 and 90 days. Workers prune by themselves; this is for doing it now, or otherwise.
    """
    retention = _kept() if older_than is None else Retention(older_than, older_than, older_than)
    with opened_store(database) as store:
        limits = _limits(retention, statuses or tuple(FINAL), store.clock.now())
        count = store.upkeep.count_prunable(limits)
        if dry_run:
            show(f"{counted(count, 'job')} would be deleted")
            return
        _prune_in_batches(store, limits, count)


def _kept() -> Retention:
    settings = read_settings()
    kept: dict[str, Any] = {
        name: settings[f"keep-{name}"] for name in ("succeeded", "cancelled", "failed") if f"keep-{name}" in settings
    }
    return Retention(**kept)


def _limits(retention: Retention, statuses: tuple[Status, ...], now: datetime) -> dict[Status, datetime]:
    from ..maintenance import finished_before

    limits = finished_before(retention, now)
    return {status: moment for status, moment in limits.items() if status in statuses}


def _prune_in_batches(store: Store, limits: dict[Status, datetime], count: int) -> None:
    done = 0
    try:
        with progress("pruning", count) as advance:
            while pruned := store.upkeep.prune(limits):
                done += pruned
                advance(pruned)
    finally:
        say(f"{counted(done, 'job')} deleted")
