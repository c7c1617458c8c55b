"""The schema: what the migrations add up to, who may create it, and what is said when it is not ours."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from durablejobs import DatabaseUnusableError, DurableJobs, SchemaError
from durablejobs.store import schema
from durablejobs.store.tables import TRIGGERS, VERSION_TABLE, VIEWS, metadata


def schema_of(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
        )
        return {name: _normal(sql) for name, sql in rows if name != VERSION_TABLE}


def _normal(sql: str) -> str:
    """Parts in any order: constraints are listed in another one."""
    return " ".join(sorted(re.split(r"[\s,]+", sql)))


def test_the_migrations_add_up_to_the_tables(tmp_path: Path) -> None:
    with closing(DurableJobs(tmp_path / "migrated.db")) as jobs:
        jobs.migrate()
    engine = create_engine(f"sqlite:///{tmp_path / 'created.db'}")
    with engine.begin() as connection:
        metadata.create_all(connection)
        for sql in [*TRIGGERS.values(), *VIEWS.values()]:
            connection.exec_driver_sql(sql)
    engine.dispose()
    assert schema_of(tmp_path / "migrated.db") == schema_of(tmp_path / "created.db")


def test_head_is_the_last_migration() -> None:
    versions = sorted(path.name[:4] for path in (schema.migrations_directory() / "versions").glob("0*.py"))
    assert versions[-1] == schema.HEAD
    assert set(versions) == schema.KNOWN


def test_another_programs_database_gets_the_queue_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders(id INTEGER PRIMARY KEY)")
    with closing(DurableJobs(path)) as jobs:
        with pytest.raises(SchemaError, match=r"without a job queue.*durablejobs migrate"):
            jobs.enqueue("mail")
        assert jobs.migrate()
        assert jobs.enqueue("mail").id == 1
    assert {"orders", "jobs"} <= set(schema_of(path))


def test_a_foreign_table_of_our_name_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE jobs(id INTEGER PRIMARY KEY, title TEXT)")
    with closing(DurableJobs(path)) as jobs, pytest.raises(SchemaError, match="not durablejobs' own"):
        jobs.migrate()


def test_a_newer_schema_names_the_version_that_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with closing(DurableJobs(path)) as jobs:
        jobs.migrate()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999', needs = '7.8.9'")
    with closing(DurableJobs(path)) as jobs, pytest.raises(SchemaError, match=r"newer schema 9999.*7\.8\.9"):
        jobs.enqueue("mail")


def test_a_directory_and_a_text_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnusableError, match="is a directory"):
        DurableJobs(tmp_path).enqueue("mail")
    (tmp_path / "notes.txt").write_text("this is not a database, whatever its name says " * 100)
    with pytest.raises(DatabaseUnusableError, match="is not a SQLite database"):
        DurableJobs(tmp_path / "notes.txt").enqueue("mail")


def test_the_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    with closing(DurableJobs(tmp_path / "jobs.db")) as jobs:
        jobs.enqueue("mail")
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(["jobs.db", "jobs.db-wal", "jobs.db-shm", "jobs.db-lock"], 0o600)


def test_a_database_that_is_up_to_date_is_opened_without_alembic(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with closing(DurableJobs(path)) as jobs:
        jobs.migrate()
    use = f"import sys, durablejobs; durablejobs.DurableJobs({str(path)!r}).enqueue('mail')"
    code = f"{use}; print('alembic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"


@pytest.mark.slow
def test_32_processes_that_start_at_once_make_one_schema(tmp_path: Path) -> None:
    code = f"import durablejobs; durablejobs.DurableJobs({str(tmp_path / 'jobs.db')!r}).enqueue('mail')"
    started = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(32)]
    started[7].kill()
    errors = [process.communicate(timeout=100)[1] for process in started]
    assert [error for error in errors if error] == []
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection:
        assert connection.execute("SELECT count(*) FROM jobs").fetchone()[0] in (31, 32)
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
