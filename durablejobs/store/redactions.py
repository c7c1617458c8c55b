"""What of the jobs' arguments is not to be shown, kept where those can read it who do not know the handlers."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.dialects import sqlite

from ..redaction import Redaction
from .hot import HotStatement, Run, Statement
from .tables import job_handlers


def _with_conflict_clause(insert: Any) -> Statement:
    """Return the INSERT that replaces; SQLAlchemy has the clause once for each database."""
    new = insert(job_handlers).values(handler=bindparam("handler"), redact=bindparam("redact"))
    replaced: Statement = new.on_conflict_do_update(
        index_elements=[job_handlers.c.handler], set_={"redact": new.excluded.redact}
    )
    return replaced


def _in_postgres() -> Statement:
    from sqlalchemy.dialects import postgresql

    return _with_conflict_clause(postgresql.insert)


_PUBLISH: Final = HotStatement(_with_conflict_clause(sqlite.insert), _in_postgres)


def publish(run: Run, handler: str, redaction: Redaction) -> None:
    """Note what of a handler's arguments is hidden."""
    run(_PUBLISH, {"handler": handler, "redact": redaction.to_json()})


def published(connection: Connection) -> dict[str, Redaction]:
    """Return what is hidden, by handler."""
    rows = connection.execute(
        select(job_handlers.c.handler, job_handlers.c.redact).where(job_handlers.c.redact.is_not(None))
    )
    return {handler: Redaction.from_json(redact) for handler, redact in rows}
