"""Fixtures: a database of the tests' server, and the proxy through which it is reached."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import DictRow, dict_row
from sqlalchemy import URL, make_url

from durablejobs import DurableJobs

from .proxy import Proxy


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[Proxy]:
    """A proxy in front of the server of `postgres_url`."""
    with Proxy(_endpoint(make_url(postgres_url))) as opened:
        yield opened


@pytest.fixture
def proxied_url(postgres_url: str, proxy: Proxy) -> str:
    """The URL of the database of `postgres_url`, by way of the proxy."""
    url = make_url(postgres_url).set(host="127.0.0.1", port=proxy.port)
    return url.difference_update_query(["host", "port"]).render_as_string(hide_password=False)


@pytest.fixture
def jobs(proxied_url: str) -> Iterator[DurableJobs]:
    """The application whose network has faults."""
    app = DurableJobs(proxied_url)
    yield app
    app.close()


@pytest.fixture
def direct(postgres_url: str) -> Iterator[psycopg.Connection[DictRow]]:
    """A plain connection past the proxy; each statement commits by itself."""
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True, row_factory=dict_row) as connection:
        yield connection


def _endpoint(url: URL) -> Path | tuple[str, int]:
    host, port = str(url.query.get("host") or url.host or "/tmp"), int(str(url.query.get("port") or url.port or 5432))
    return Path(host) / f".s.PGSQL.{port}" if host.startswith("/") else (host, port)
