"""A queue that moves to another database takes no more jobs and starts none; what runs may end.

Then its jobs are sealed: workers that are still alive promote, rescue and prune, and no copy is right of rows that
change behind it.

Triggers keep it so, and not a look before each statement: they hold for every program that writes jobs, and cost
nothing where there is no move. `job_moves` tells people why.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import DDL, Connection, delete, insert, select, update

from ..errors import QueueMovedError
from .tables import job_moves

MARK: Final = "durablejobs: "
"""How the message of a refused INSERT begins; the errors of both databases are known by it."""


class Move(NamedTuple):
    """The row of a move: this database is its source (`to`) or its target (`from`)."""

    id: int
    direction: str
    other: str
    finished_at: datetime | None


def latest_move(connection: Connection) -> Move | None:
    """Return the move that this database has last taken part in."""
    columns = [job_moves.c[name] for name in Move._fields]
    row = connection.execute(select(*columns).order_by(job_moves.c.id.desc()).limit(1)).first()
    return Move._make(row) if row is not None else None


def is_frozen(move: Move | None) -> bool:
    """Whether this database starts no jobs: it has moved away, or is still being filled."""
    return move is not None and (move.direction == "to" or move.finished_at is None)


def explanation(move: Move) -> str:
    """Return why a frozen database starts no jobs, and what to do."""
    if move.direction == "to":
        return f"the queue has moved to {move.other}; enqueue and work there"
    return f"the queue is being copied here from {move.other}; let `durablejobs copy` come to its end"


def refuse_if_moved(connection: Connection, location: str) -> None:
    """Raise `QueueMovedError` where the database of this location starts no jobs."""
    move = latest_move(connection)
    if move is not None and is_frozen(move):
        raise QueueMovedError(location, explanation(move))


def begin_move(connection: Connection, direction: str, other: str, now: datetime, schema: str | None) -> None:
    """Note a move, and freeze: the source takes no new jobs, and neither side starts any."""
    connection.execute(insert(job_moves).values(direction=direction, other=other, started_at=now))
    _run(connection, _SKIP_CLAIMS, schema)
    if direction == "to":
        message = f"{MARK}the queue has moved to {other}; enqueue and work there"
        _run(connection, _REFUSE_JOBS, schema, message.replace("'", "''"))


def seal(connection: Connection, schema: str | None) -> None:
    """Let no job of the source change any more: whoever tries changes nothing, as if its claim were lost."""
    _run(connection, _SEAL, schema)


def end_move(connection: Connection, move: Move, now: datetime) -> None:
    """Note that a move is complete."""
    its_own = job_moves.c.id == move.id, job_moves.c.finished_at.is_(None)
    connection.execute(update(job_moves).where(*its_own).values(finished_at=now))


def forget(connection: Connection, move: Move) -> None:
    """Take a move back."""
    connection.execute(delete(job_moves).where(job_moves.c.id == move.id))


def thaw(connection: Connection, schema: str | None) -> None:
    """Let jobs be taken and started again."""
    _run(connection, _THAW, schema)


def _run(connection: Connection, statements: dict[str, str], schema: str | None, message: str = "") -> None:
    prefix = f'"{schema}".' if schema is not None else ""
    for statement in statements[connection.dialect.name].split("\n\n"):
        # Not as parameters: a trigger's text cannot have any.
        text = statement.replace("{prefix}", prefix).replace("{message}", message)
        connection.execute(DDL(text.replace("%", "%%")))  # type: ignore[no-untyped-call]


_REFUSE_JOBS: Final = {
    "sqlite": """
        CREATE TRIGGER jobs_moved_refuse BEFORE INSERT ON jobs
        BEGIN SELECT RAISE(ABORT, '{message}'); END
    """,
    "postgresql": """
        CREATE OR REPLACE FUNCTION {prefix}jobs_moved_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION USING MESSAGE = '{message}', ERRCODE = 'restrict_violation'; END $$

        CREATE TRIGGER jobs_moved_refuse BEFORE INSERT ON {prefix}jobs
        FOR EACH STATEMENT EXECUTE FUNCTION {prefix}jobs_moved_refuse()
    """,
}

# Skipped and not refused: a worker settles and claims in one transaction, and its endings are welcome.
_SKIP_CLAIMS: Final = {
    "sqlite": """
        CREATE TRIGGER jobs_moved_skip BEFORE UPDATE OF status ON jobs
        WHEN NEW.status = 'running' AND OLD.status <> 'running'
        BEGIN SELECT RAISE(IGNORE); END
    """,
    "postgresql": """
        CREATE OR REPLACE FUNCTION {prefix}jobs_moved_skip() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RETURN NULL; END $$

        CREATE TRIGGER jobs_moved_skip BEFORE UPDATE OF status ON {prefix}jobs
        FOR EACH ROW WHEN (NEW.status = 'running' AND OLD.status <> 'running')
        EXECUTE FUNCTION {prefix}jobs_moved_skip()
    """,
}

# Skipped too: workers go on as they do when another was faster.
_SEAL: Final = {
    "sqlite": """
        CREATE TRIGGER IF NOT EXISTS jobs_moved_seal_update BEFORE UPDATE ON jobs BEGIN SELECT RAISE(IGNORE); END

        CREATE TRIGGER IF NOT EXISTS jobs_moved_seal_delete BEFORE DELETE ON jobs BEGIN SELECT RAISE(IGNORE); END
    """,
    "postgresql": """
        CREATE OR REPLACE TRIGGER jobs_moved_seal BEFORE UPDATE OR DELETE ON {prefix}jobs
        FOR EACH ROW EXECUTE FUNCTION {prefix}jobs_moved_skip()
    """,
}

_THAW: Final = {
    "sqlite": """
        DROP TRIGGER IF EXISTS jobs_moved_seal_update

        DROP TRIGGER IF EXISTS jobs_moved_seal_delete

        DROP TRIGGER IF EXISTS jobs_moved_refuse

        DROP TRIGGER IF EXISTS jobs_moved_skip
    """,
    "postgresql": """
        DROP TRIGGER IF EXISTS jobs_moved_seal ON {prefix}jobs

        DROP TRIGGER IF EXISTS jobs_moved_refuse ON {prefix}jobs

        DROP FUNCTION IF EXISTS {prefix}jobs_moved_refuse()

        DROP TRIGGER IF EXISTS jobs_moved_skip ON {prefix}jobs

        DROP FUNCTION IF EXISTS {prefix}jobs_moved_skip()
    """,
}
