"""`durablejobs stats`: the queues in numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from ..statuses import Status
from .commands import Command
from .opening import opened_reader
from .parameters import database_option, json_option
from .records import STYLES, json_object
from .terminal import Cell, Column, brief, say, show_json, show_table

if TYPE_CHECKING:
    from ..records import QueueStatistics


@click.command(
    cls=Command,
    short_help="Count the jobs of each queue.",
    examples=[
        "durablejobs stats --db jobs.db",
        "durablejobs stats --minutes 60 --json",
    ],
)
@click.option("--minutes", type=float, default=5.0, show_default=True, help="The window of the rates.")
@database_option
@json_option
def stats(minutes: float, database: str | None, as_json: bool) -> None:
    """Count the jobs of each queue by status, with the longest wait and the endings per minute."""
    with opened_reader(database) as reader:
        queues = reader.statistics(minutes)
    if as_json:
        for queue in queues:
            show_json(json_object(queue))
    elif queues:
        _show(queues)
    else:
        say("no jobs")


def _show(queues: list[QueueStatistics]) -> None:
    statuses = [status for status in Status if any(queue.counts.get(status) for queue in queues)]
    columns = [
        Column("queue"),
        *(Column(status.value, is_number=True) for status in statuses),
        Column("longest wait", is_number=True),
        Column("succeeded/min", is_number=True),
        Column("failed/min", is_number=True),
    ]
    now = datetime.now(UTC)
    show_table(columns, [_row(queue, statuses, now) for queue in queues])


def _row(queue: QueueStatistics, statuses: list[Status], now: datetime) -> list[str | Cell]:
    waited = brief((now - queue.oldest_waiting).total_seconds()) if queue.oldest_waiting else ""
    return [
        queue.queue,
        *(_count(queue.counts.get(status, 0), status) for status in statuses),
        waited,
        _rate(queue, Status.SUCCEEDED),
        _rate(queue, Status.FAILED),
    ]


def _count(number: int, status: Status) -> Cell:
    return Cell(str(number), STYLES.get(status, "") if number else "dim")


def _rate(queue: QueueStatistics, status: Status) -> str:
    return f"{queue.finished_per_minute.get(status, 0.0):.1f}"
