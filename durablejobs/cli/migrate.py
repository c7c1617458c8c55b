"""`durablejobs migrate`: the schema of a database."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import click

from .commands import Command
from .errors import ExitCode
from .opening import opened_store
from .parameters import database_option
from .settings import database_of, database_or_none
from .terminal import say, show

if TYPE_CHECKING:
    from ..store.schema import SchemaReport


@click.command(
    cls=Command,
    short_help="Create or upgrade the tables.",
    examples=[
        "durablejobs migrate --db jobs.db",
        "durablejobs migrate --db jobs.db --check      # exits with 5 when there is something to do",
        "durablejobs migrate --sql > jobs.sql          # for who applies it by hand",
        "durablejobs migrate --sql --db postgresql://admin@db/app > jobs.sql",
    ],
)
@click.option("--check", is_flag=True, help="Change nothing; print the state, exit with 5 unless it is up to date.")
@click.option("--sql", is_flag=True, help="Print the migrations as SQL; opens no database.")
@database_option
def migrate(check: bool, sql: bool, database: str | None) -> int:
    """Create the database or bring its tables up to date, in one transaction.

    In another application's file the queue's tables are added beside its own. Stop the workers before an upgrade.
    """
    if check and sql:
        raise click.UsageError("--check and --sql exclude each other", click.get_current_context())
    if sql:
        _print_script(database)
    elif check:
        return _check(database)
    else:
        _migrate(database)
    return ExitCode.OK


def _print_script(database: str | None) -> None:
    from ..store import Store

    with closing(Store(database_or_none(database) or "jobs.db")) as store:
        click.echo(store.migration_script(), nl=False)


def _check(database: str | None) -> int:
    from ..store.schema import SchemaState

    with opened_store(database) as store:
        report = store.schema_report()
        show(f"{store.location}: {_described(report)}")
    return ExitCode.OK if report.state is SchemaState.CURRENT else ExitCode.NOT_READY


def _described(report: SchemaReport) -> str:
    return report.state.value + (f" (schema {report.revision})" if report.revision else "")


def _migrate(database: str | None) -> None:
    path = database_of(database)
    from ..store import Store
    from ..store.schema import HEAD

    with closing(Store(path)) as store:
        is_new = store.database.path is not None and not store.database.path.exists()
        changed = store.migrate()
        if is_new:
            say(f"created {store.location} (schema {HEAD})")
        elif changed:
            say(f"{store.location}: upgraded to schema {HEAD}")
        else:
            say(f"{store.location}: up to date (schema {HEAD})")
