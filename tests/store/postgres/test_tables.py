"""The tables that the migrations make are the tables that the code describes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url

from durablejobs.store import Store
from durablejobs.store.postgres.tables import described
from durablejobs.store.tables import VERSION_TABLE

from ...conftest import Sql

_DEFINITIONS = """
    SELECT relname::text AS name, pg_get_indexdef(oid) AS definition FROM pg_class
    WHERE relnamespace = '{schema}'::regnamespace AND relkind = 'i'
    UNION ALL SELECT conrelid::regclass || '.' || conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = '{schema}'::regnamespace
    UNION ALL SELECT relname::text, array_to_string(reloptions, ' ') FROM pg_class
    WHERE relnamespace = '{schema}'::regnamespace AND relkind = 'r'
    UNION ALL SELECT table_name || '.' || column_name, concat_ws(' ', data_type, is_nullable, column_default)
    FROM information_schema.columns WHERE table_schema = '{schema}' AND table_name IN (
        SELECT relname FROM pg_class WHERE relnamespace = '{schema}'::regnamespace AND relkind = 'r'
    )
"""


@pytest.fixture
def dialect() -> str:
    return "postgresql"


def definitions(sql: Sql, schema: str) -> set[tuple[Any, Any]]:
    rows = sql(_DEFINITIONS.format(schema=schema))
    plain = {tuple(str(part).replace(f"{schema}.", "") for part in row.values()) for row in rows}
    return {(name, definition) for name, definition in plain if VERSION_TABLE not in name}


@pytest.fixture
def schemas(postgres_url: str, sql: Sql) -> Iterator[tuple[str, str]]:
    """The tables as the migrations make them, and as the code describes them."""
    sql("CREATE SCHEMA described")
    url = make_url(postgres_url).update_query_dict({"schema": "migrated"}).render_as_string(hide_password=False)
    with closing(Store(url)) as store:
        store.migrate()
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        described().create_all(connection.execution_options(schema_translate_map={None: "described"}))
    engine.dispose()
    yield "migrated", "described"
    sql("DROP SCHEMA described, migrated CASCADE")


def test_the_sum_of_the_migrations_is_what_the_code_describes(schemas: tuple[str, str], sql: Sql) -> None:
    migrated, written = (definitions(sql, schema) for schema in schemas)
    assert (written - migrated, migrated - written) == (set(), set())
    assert any("WHERE" in definition for _, definition in written)
    assert any("fillfactor=80" in definition for _, definition in written)


def test_who_works_on_sqlite_does_not_import_the_other_dialect() -> None:
    program = "import sys, durablejobs; durablejobs.DurableJobs('jobs.db'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "sqlalchemy.dialects.sqlite" in loaded
    assert [name for name in loaded if "postgresql" in name] == []
