"""Connections, and the form in which values come back: times and JSON as text, as from SQLite."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import psycopg
from psycopg.adapt import AdaptersMap, Buffer, Loader
from psycopg.types.string import TextLoader

from .silence import WatchedConnection

DriverConnection = WatchedConnection


class _MomentLoader(Loader):
    """Reads a timestamp as `clock.to_text` writes it; our transactions ask for UTC and ISO."""

    def load(self, data: Buffer) -> str:
        text = bytes(data).decode()
        if text[-3:] != "+00":  # of a year that Python does not know; the checks of `jobs` admit none
            return text
        return text[:-3].ljust(20, ".").ljust(26, "0")


@cache
def _adapters() -> AdaptersMap:
    adapters = AdaptersMap(psycopg.adapters)
    adapters.register_loader("timestamptz", _MomentLoader)
    adapters.register_loader("json", TextLoader)
    return adapters


def connect(parameters: dict[str, Any], prepares: bool) -> DriverConnection:
    """Return a connection on which transactions are begun and ended by statements of ours.

    `prepares` is False behind a pooler, which gives each transaction another session.
    """
    connection = WatchedConnection.connect(
        **parameters,
        autocommit=True,
        prepare_threshold=5 if prepares else None,
        context=_SOURCE,
    )
    connection.parameters = parameters
    connection.has_own_session = prepares
    connection.made_at = time.monotonic()
    return connection


class _Source:
    """What psycopg takes adapters from."""

    connection = None

    @property
    def adapters(self) -> AdaptersMap:
        return _adapters()


_SOURCE = _Source()
