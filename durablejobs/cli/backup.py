"""`durablejobs backup`: a sound copy of a database in use."""

from __future__ import annotations

from pathlib import Path

import click

from .commands import Command
from .opening import opened_store
from .parameters import database_option
from .terminal import progress, say, show


@click.command(
    cls=Command,
    short_help="Copy the database while workers go on.",
    examples=[
        "durablejobs backup backup.db --db jobs.db",
        "durablejobs backup /backups/jobs-$(date +%F).db --db jobs.db",
        "durablejobs backup backup.db --db jobs.db --replace",
    ],
)
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="OUT may be there already; it is replaced when the copy is complete.")
@database_option
def backup(target: Path, replace: bool, database: str | None) -> None:
    """Copy the database to the file OUT, as of one moment, while workers and enqueuers go on.

    The copy is checked, synced to the disk and only then given its name: OUT is complete or not there.
    """
    done = 0

    with opened_store(database) as store, progress("copying pages") as advance:

        def tell(pages: int, _total: int) -> None:
            nonlocal done
            advance(pages - done)
            done = pages

        store.back_up(target, replace, tell)
    say(f"{target} is complete and sound")  # first: stdout may be full
    show(str(target))
