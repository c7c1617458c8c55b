"""What of the jobs' arguments is not to be shown, kept where those can read it who do not know the handlers."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.dialects.sqlite import insert

from ..redaction import Redaction
from .hot import HotStatement
from .inserts import AnyConnection, execute
from .tables import job_handlers

_new = insert(job_handlers).values(handler=bindparam("handler"), redact=bindparam("redact"))
_PUBLISH: Final = HotStatement(
    _new.on_conflict_do_update(index_elements=[job_handlers.c.handler], set_={"redact": _new.excluded.redact})
)


def publish(connection: AnyConnection, handler: str, redaction: Redaction) -> None:
    """Note what of a handler's arguments is hidden."""
    execute(connection, _PUBLISH.sql, _PUBLISH.positional({"handler": handler, "redact": redaction.to_json()}))


def published(connection: Connection) -> dict[str, Redaction]:
    """Return what is hidden, by handler."""
    rows = connection.execute(
        select(job_handlers.c.handler, job_handlers.c.redact).where(job_handlers.c.redact.is_not(None))
    )
    return {handler: Redaction.from_json(redact) for handler, redact in rows}
