"""The URL of a database: what it says to the driver, what to us, and what of it may be shown."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy import URL, make_url
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import ArgumentError

from ...config import DatabaseConfig
from ...errors import ConfigurationError

_DRIVERS: Final = ("postgres", "postgresql", "postgresql+psycopg")
_SHOWN: Final = frozenset({"host", "port"})
"""Options of a URL that messages repeat, besides the schema; others may be secrets."""

_UNREADABLE: Final = (
    "the URL cannot be read; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, "
    "with special characters of a password percent-encoded (@ as %40)"
)

_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,47}")

# A silent network is noticed within 25 s, before a lease of 30 s is over: an idle connection by keepalives, one that
# has sent something by the missing acknowledgement.
_PATIENCE: Final[dict[str, Any]] = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "application_name": "durablejobs",
}
# Arguments and results hold any character. As parameters of the connection they win over the environment, `options`,
# and what the database or the role has by default.
_ALWAYS: Final[dict[str, Any]] = {"client_encoding": "UTF8"}


class Address(NamedTuple):
    """Where the tables are."""

    parameters: dict[str, Any]
    """For the driver, with the password."""
    schema: str
    listens: bool
    """Whether a connection may wait for notifications, and statements be prepared: not behind a pooler that gives
    each transaction another connection."""
    location: str
    """For people and messages, without the password."""


def address_of(target: str, config: DatabaseConfig) -> Address:
    """Read a URL; its options `schema` and `listen` win over the settings. Raises `ConfigurationError`."""
    url = _parsed(target)
    schema = str(url.query.get("schema", config.schema or "public"))
    if not _SCHEMA.fullmatch(schema):
        raise ConfigurationError("schema", f"must be 1-48 of a-z 0-9 _ , not {schema[:60]!r}")
    if schema.startswith("pg_") or schema == "information_schema":
        raise ConfigurationError("schema", f"'{schema}' is PostgreSQL's own; name one that does not begin with pg_")
    listens = _is_yes(str(url.query["listen"])) if "listen" in url.query else config.listen
    dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]
    _, parameters = dialect.create_connect_args(  # type: ignore[no-untyped-call]
        url.difference_update_query(["schema", "listen"])
    )
    parameters = _PATIENCE | parameters | _ALWAYS
    _check_options(parameters)
    return Address(parameters, schema, listens, _shown(url, schema))


def _check_options(parameters: dict[str, Any]) -> None:
    """Refuse what the driver would refuse at the first connection, by an error that is not about the server."""
    if "conninfo" in parameters:  # to the driver it is all of them in one, and not an option
        raise ConfigurationError("database", 'the URL has an invalid connection option "conninfo"')
    try:
        make_conninfo("", **parameters)
    except psycopg.ProgrammingError as error:
        raise ConfigurationError("database", f"the URL has an {str(error).strip()}") from None
    if not str(parameters["connect_timeout"]).isdecimal():
        raise ConfigurationError("database", "connect_timeout in the URL must be a whole number of seconds")


def _parsed(target: str) -> URL:
    if "%00" in target or "\0" in target:
        raise ConfigurationError(
            "database", "the URL has a NUL character (%00), which PostgreSQL cannot take; leave it out"
        )
    try:
        url = make_url(target)
    except (ArgumentError, ValueError):  # their messages may repeat the password
        raise ConfigurationError("database", _UNREADABLE) from None
    if target.count("@") > 1:  # what follows the first one would be taken for the host, and shown
        raise ConfigurationError("database", _UNREADABLE)
    if url.drivername not in _DRIVERS:
        raise ConfigurationError(
            "database", f"'{url.drivername}://' is not supported; use a path, sqlite:///path or postgresql+psycopg://"
        )
    return url


def _shown(url: URL, schema: str) -> str:
    query = {name: value for name, value in url.query.items() if name in _SHOWN}
    if schema != "public":
        query["schema"] = schema
    shown = URL.create("postgresql", url.username, None, url.host, url.port, url.database, query)
    return shown.render_as_string()


def _is_yes(text: str) -> bool:
    known = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
    if text.lower() not in known:
        raise ConfigurationError("listen", f"must be yes or no, not {text[:60]!r}")
    return known[text.lower()]
