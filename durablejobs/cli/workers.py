"""`durablejobs workers`: who is there, and who is alive."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from .commands import Command
from .opening import opened_reader
from .parameters import database_option, json_option
from .records import json_object, relative
from .terminal import Cell, Column, say, show_json, show_table

if TYPE_CHECKING:
    from ..jobs import WorkerRecord

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
_STYLES: Final = {"alive": "green", "dead": "red"}


@click.command(
    cls=Command,
    short_help="List the workers and who of them is alive.",
    examples=[
        "durablejobs workers --db jobs.db",
        "durablejobs workers --json",
    ],
)
@database_option
@json_option
def workers(database: str | None, as_json: bool) -> None:
    """List the workers.

    'dead' means that the process is gone; the next look of another worker gives its jobs back. 'unknown' means that
    this machine cannot tell, and the heartbeat has to.
    """
    with opened_reader(database) as reader:
        found = reader.workers()
        states = reader.worker_states()
    if as_json:
        for record in found:
            show_json({**json_object(record), "state": states.get(record.id, "unknown")})
    elif found:
        now = datetime.now(UTC)
        show_table(_COLUMNS, [_row(record, states.get(record.id, "unknown"), now) for record in found])
    else:
        say("no workers")


def _row(record: WorkerRecord, state: str, now: datetime) -> list[str | Cell]:
    return [
        str(record.id),
        Cell(state, _STYLES.get(state, "")),
        record.name,
        record.host,
        str(record.pid),
        record.queues,
        f"{record.running}/{record.concurrency}" + (f", {len(record.stuck)} stuck" if record.stuck else ""),
        relative(record.started_at, now),
        relative(record.heartbeat_at, now),
        record.version,
    ]
