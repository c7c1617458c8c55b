"""The limits of handlers as the workers have noted them, for those who show jobs and do not know the handlers."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, select

from ..jobs import Job
from ..records import LimitState
from ..running_limits import RunningLimit, group_text
from .running_limits import Places, running
from .tables import job_handlers
from .upserts import upsert

PublishedLimit = tuple[int | None, str | None]
"""`max_running` and the template of `running_key`."""


def publish(connection: Connection, limits: Mapping[str, PublishedLimit]) -> None:
    """Note the limits of handlers."""
    for handler, (max_running, template) in sorted(
        limits.items()
    ):  # in one order: two workers wait, and lock in no circle
        upsert(connection, job_handlers, {"handler": handler}, {"max_running": max_running, "running_key": template})


def published(connection: Connection) -> dict[str, PublishedLimit]:
    """Return the limits that the workers' handlers had, as far as a worker has begun with them."""
    columns = (job_handlers.c.handler, job_handlers.c.max_running, job_handlers.c.running_key)
    rows = connection.execute(select(*columns).where(job_handlers.c.max_running.is_not(None)))
    return {handler: (max_running, template) for handler, max_running, template in rows}


def state(connection: Connection, job: Job) -> LimitState | None:
    """Return the places that a job shares; None: it is not limited, as far as somebody has noted that."""
    max_running, template = published(connection).get(job.handler, (None, None))
    if max_running is None or job.running_key is None:
        return None
    limit = RunningLimit(job.handler, max_running, template)
    taken = max_running - Places({job.handler: limit}, running(connection)).left(job.running_key)
    return LimitState(group_text(job.running_key, template), max_running, taken)
