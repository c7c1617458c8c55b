"""The state of the schema in a database, and how it is brought up to date.

Alembic costs some 150 ms to import; a database that is up to date is recognised without it.
"""

from __future__ import annotations

import io
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import Column, Connection, MetaData, Table, Text, select
from sqlalchemy.exc import DBAPIError

from ..errors import SchemaError
from .database import Database
from .hot import is_postgres, schema_of
from .tables import VERSION_TABLE

if TYPE_CHECKING:
    from alembic.config import Config

HEAD: Final = "0001"
"""The revision that this version works with; a test compares it with the migrations."""

KNOWN: Final = frozenset({HEAD})
"""The revisions that this version can upgrade from, and HEAD."""


_ELSEWHERE: Final = "give the queue a file or a schema of its own"


class SchemaState(Enum):
    """What a database holds, as far as durablejobs is concerned."""

    CURRENT = "up to date"
    EMPTY = "empty"
    MISSING = "without a job queue"
    FOREIGN = "with a table `jobs` of another program"
    OLDER = "older"
    NEWER = "newer"


class SchemaReport(NamedTuple):
    """The state and, where there is one, the revision and the version of durablejobs that it needs."""

    state: SchemaState
    revision: str | None = None
    needs: str | None = None


# Alembic's table, and so none of `metadata`; a Table all the same: SQLAlchemy looks for a plain `table()` in whatever
# schema the connection finds first.
_version: Final = Table(VERSION_TABLE, MetaData(), Column("version_num", Text), Column("needs", Text))


def _tables(connection: Connection) -> set[str]:
    """Return the names of the tables: in PostgreSQL only those of ours, there may be thousands of others."""
    if is_postgres(connection):
        query = "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename IN (%s, %s)"
        rows = connection.exec_driver_sql(query, (schema_of(connection), VERSION_TABLE, "jobs"))
    else:
        rows = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {row[0] for row in rows}


def inspect_schema(connection: Connection) -> SchemaReport:
    """Return what the database holds; costs two small reads."""
    names = _tables(connection)
    if VERSION_TABLE not in names:
        if "jobs" in names:
            return SchemaReport(SchemaState.FOREIGN)
        # In a server's database nothing is created unasked, though it be empty.
        return SchemaReport(SchemaState.MISSING if names or is_postgres(connection) else SchemaState.EMPTY)
    row = connection.execute(select(_version.c.version_num, _version.c.needs)).first()
    if row is None:
        return SchemaReport(SchemaState.MISSING)
    revision, needs = row
    if revision == HEAD:
        return SchemaReport(SchemaState.CURRENT, revision, needs)
    return SchemaReport(SchemaState.OLDER if revision in KNOWN else SchemaState.NEWER, revision, needs)


def ensure_schema(database: Database, create: bool) -> bool:
    """Check that the database holds our schema; in an empty file, and if allowed, create it. Return whether it did.

    Raises `SchemaError` with the way out for every other state.
    """
    with database.read() as connection:
        report = inspect_schema(connection)
    if report.state is SchemaState.EMPTY and create:
        return upgrade(database)
    if report.state is not SchemaState.CURRENT:
        raise SchemaError(database.location, way_out(report, database.location))
    return False


def upgrade(database: Database) -> bool:
    """Bring the schema up to date, in one transaction; return whether there was anything to do.

    Also adds the queue to another application's file. Raises `SchemaError` for a newer schema, or where something of
    another program has a name of ours.
    """
    from alembic import command

    with database.migration() as connection:
        report = inspect_schema(connection)
        if report.state is SchemaState.CURRENT:  # another process was faster
            return False
        if report.state in (SchemaState.FOREIGN, SchemaState.NEWER):
            raise SchemaError(database.location, way_out(report, database.location))
        config = _alembic_config()
        config.attributes["connection"] = connection
        config.attributes["schema"] = database.schema
        try:
            command.upgrade(config, "head")
        except DBAPIError as error:
            found = database.in_the_way(error)
            if found is None:
                raise
            raise SchemaError(
                database.location,
                f"has something that is not durablejobs' own where the queue's belongs ({found}); {_ELSEWHERE}",
            ) from error
        return True


def upgrade_script(database: Database) -> str:
    """Return all migrations as SQL text, for who applies them by hand; the database is not opened."""
    from alembic import command

    buffer = io.StringIO()
    config = _alembic_config(buffer)
    config.attributes["schema"] = database.schema
    command.upgrade(config, "head", sql=True)
    return buffer.getvalue()


def _alembic_config(output: io.StringIO | None = None) -> Config:
    from alembic.config import Config

    config = Config(output_buffer=output) if output is not None else Config()
    config.set_main_option("script_location", str(migrations_directory()).replace("%", "%%"))
    return config


def migrations_directory() -> Path:
    """Return where the migrations are: in the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def way_out(report: SchemaReport, location: str) -> str:
    """Return what is the matter with a schema that is not up to date, and what to do."""
    match report.state:
        case SchemaState.EMPTY:
            return (
                f"is an empty file; `durablejobs migrate --db {location}` or the first enqueue creates the queue in it"
            )
        case SchemaState.MISSING:
            return f"is a database without a job queue; `durablejobs migrate --db {location}` adds it"
        case SchemaState.FOREIGN:
            return f"has a table `jobs` that is not durablejobs' own; {_ELSEWHERE}"
        case SchemaState.OLDER:
            return (
                f"has the older schema {report.revision}, this version needs {HEAD}; stop the workers, "
                f"then run `durablejobs migrate --db {location}`"
            )
        case _:
            return (
                f"has the newer schema {report.revision}, this version knows {HEAD}; "
                f"install durablejobs {report.needs or 'in a newer version'} or newer"
            )
