"""Alembic's entry: runs the migrations on the connection that durablejobs hands over, or as SQL text."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine

from durablejobs.store.tables import VERSION_TABLE, metadata

options = {
    "target_metadata": metadata,
    "version_table": VERSION_TABLE,
    "render_as_batch": True,
}

connection = context.config.attributes.get("connection")

schema = context.config.attributes.get("schema")

if context.is_offline_mode():
    context.configure(dialect_name="postgresql" if schema else "sqlite", literal_binds=True, **options)
    with context.begin_transaction():
        if schema:
            context.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
            context.execute(f'SET LOCAL search_path TO "{schema}"')
        context.run_migrations()
elif connection is not None:
    # The caller holds the transaction: all migrations, or none.
    context.configure(connection=connection, **options)
    context.run_migrations()
else:
    # A developer's `alembic …` on the command line: -x db=PATH names the database.
    path = context.get_x_argument(as_dictionary=True).get("db", "jobs.db")
    with create_engine(f"sqlite:///{path}").connect() as developers_connection:
        context.configure(connection=developers_connection, **options)
        with context.begin_transaction():
            context.run_migrations()
