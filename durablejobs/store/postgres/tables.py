"""What the tables and indexes have beside what they have in both databases.

Not in `store.tables`: SQLAlchemy imports its dialect for PostgreSQL when it meets an option of that dialect, which
takes a third of the start of a command that enqueues into SQLite.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import MetaData

from ..tables import metadata

STORAGE: Final[dict[str, dict[str, Any]]] = {
    "jobs": {
        # Room for the next version of a row on its own page: a lease that is extended writes no index.
        "fillfactor": 80,
        # Each job leaves two dead rows. Not a share of the table: ten million ended jobs must not let two million
        # dead rows gather where the claims read.
        "autovacuum_vacuum_scale_factor": "0.01",
        "autovacuum_vacuum_threshold": 5000,
        "autovacuum_analyze_scale_factor": "0.02",
    }
}


def described() -> MetaData:
    """Return our tables with these options, which they keep from now on."""
    for table in metadata.sorted_tables:
        if table.name in STORAGE:
            table.dialect_kwargs["postgresql_with"] = STORAGE[table.name]
        for index in table.indexes:
            index.dialect_kwargs["postgresql_where"] = index.dialect_options["sqlite"]["where"]
    return metadata
