"""Asking the server for its state, in one statement."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

from ..hot import driver_of
from ..server_state import ServerState

# Of each setting `reset_val`: what a new session has, whatever our own transaction has set.
_ASK: Final = """
    WITH setting AS (SELECT name, reset_val AS value FROM pg_settings)
    SELECT
        current_setting('server_version'),
        current_setting('server_version_num')::int >= %(oldest)s,
        pg_is_in_recovery(),
        (SELECT value = 'on' FROM setting WHERE name = 'default_transaction_read_only'),
        (SELECT value FROM setting WHERE name = 'synchronous_commit'),
        (SELECT value = 'on' FROM setting WHERE name = 'fsync'),
        (SELECT value = 'on' FROM setting WHERE name = 'full_page_writes'),
        (SELECT value = 'on' FROM setting WHERE name = 'autovacuum')
            AND coalesce((SELECT NOT 'autovacuum_enabled=false' = ANY(reloptions) FROM pg_class
                          WHERE oid = to_regclass(%(jobs)s)), true),
        (SELECT value::float8 / 1000 FROM setting WHERE name = 'statement_timeout'),
        (SELECT value::float8 / 1000 FROM setting WHERE name = 'idle_in_transaction_session_timeout'),
        (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
        (SELECT sum(CASE name WHEN 'max_connections' THEN value::int ELSE -value::int END)::int FROM setting
         WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')),
        (SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8 FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()),
        extract(epoch FROM clock_timestamp())::float8
"""


def server_state(connection: Connection, schema: str, oldest: int) -> ServerState:
    """Return the server's state; `oldest` is the number of the oldest version that we work with."""
    values = {"oldest": oldest, "jobs": f'"{schema}".jobs'}
    return ServerState._make(driver_of(connection).execute(_ASK, values).fetchone())
