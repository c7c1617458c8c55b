"""Reading and writing whole tables, for a queue that moves to another database: rows, sequences, checksums."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Table, delete, func, insert, select, text, update

from ..statuses import Status
from .tables import job_counts, job_moves, job_workers, jobs, metadata

BATCH: Final = 500
"""Rows read, and rows stored in one transaction."""

# Workers stay where they are, triggers count what is put in, and each side has its own moves.
_LEFT_OUT: Final = frozenset({job_workers, job_counts, job_moves})

TABLES: Final = [table for table in metadata.sorted_tables if table not in _LEFT_OUT]
"""What is copied, each table behind those that it refers to."""

Row = dict[str, Any]


def has_ids(table: Table) -> bool:
    """Whether rows are told apart by a number that only grows, so that a copy can go on where it stopped."""
    return "id" in table.c


def rows_after(connection: Connection, table: Table, after: int, up_to: int) -> list[Row]:
    """Return the next rows by id; of a table without ids, which is small, all rows."""
    statement = select(table)
    if has_ids(table):
        statement = statement.where(table.c.id > after, table.c.id <= up_to).order_by(table.c.id).limit(BATCH)
    else:
        statement = statement.order_by(*table.primary_key.columns)
    return [dict(row) for row in connection.execute(statement).mappings()]


def add_rows(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Store rows as they are; those of a table without ids replace what is there."""
    if not has_ids(table):
        connection.execute(delete(table))
    if not rows:
        return
    connection.execute(insert(table), rows)
    if table is jobs:  # a trigger makes a job with a `run_at` behind its `created_at` scheduled, but it was due already
        pending = [row["id"] for row in rows if row["status"] == Status.PENDING]
        connection.execute(
            update(jobs).where(jobs.c.id.in_(pending), jobs.c.status == Status.SCHEDULED).values(status=Status.PENDING)
        )


def count_rows(connection: Connection, table: Table, up_to: int | None = None) -> int:
    """Return the number of rows, with ids up to this one."""
    statement = select(func.count()).select_from(table)
    if up_to is not None and has_ids(table):
        statement = statement.where(table.c.id <= up_to)
    return connection.execute(statement).scalar_one()


def highest_id(connection: Connection, table: Table, up_to: int | None = None) -> int:
    """Return the highest id that is there; 0: none."""
    statement = select(func.coalesce(func.max(table.c.id), 0))
    if up_to is not None:
        statement = statement.where(table.c.id <= up_to)
    return int(connection.execute(statement).scalar_one())


def checksum(rows: Iterator[Row]) -> tuple[int, str]:
    """Return the number of rows and a checksum over all their values, the same whatever database they come from."""
    count, digest = 0, hashlib.sha256()
    for row in rows:
        count += 1
        digest.update(repr(sorted(row.items())).encode("utf-8", "surrogatepass"))
    return count, digest.hexdigest()


# Ids are never used again, those of deleted jobs neither: so the sequence goes along, not the highest id that is left.


def last_used_id(connection: Connection, table: Table, schema: str | None) -> int:
    """Return the highest id that was ever given in this table."""
    there = highest_id(connection, table)
    if connection.dialect.name == "sqlite":
        found = connection.execute(text("SELECT seq FROM sqlite_sequence WHERE name = :name"), {"name": table.name})
        return max(there, found.scalar() or 0)
    sequence = _sequence(connection, table, schema)
    last, is_called = connection.exec_driver_sql(f"SELECT last_value, is_called FROM {sequence}").one()  # noqa: S608
    return max(there, last if is_called else 0)


def set_last_used_id(connection: Connection, table: Table, schema: str | None, last: int) -> None:
    """Give no id up to this one in this table."""
    if connection.dialect.name == "sqlite":
        values = {"name": table.name, "last": last}
        known = text("UPDATE sqlite_sequence SET seq = max(seq, :last) WHERE name = :name")
        if not connection.execute(known, values).rowcount:
            connection.execute(text("INSERT INTO sqlite_sequence(name, seq) VALUES (:name, :last)"), values)
    elif last:
        sequence = _sequence(connection, table, schema)
        connection.execute(
            text("SELECT setval(CAST(:sequence AS regclass), greatest(:last, :there))"),
            {"sequence": sequence, "last": last, "there": last_used_id(connection, table, schema)},
        )


def _sequence(connection: Connection, table: Table, schema: str | None) -> str:
    name = f'"{schema}"."{table.name}"' if schema is not None else table.name
    found = connection.execute(text("SELECT pg_get_serial_sequence(:table, 'id')"), {"table": name}).scalar_one()
    return str(found)
