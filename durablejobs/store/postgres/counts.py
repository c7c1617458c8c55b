"""Folding the counts of ended jobs: each transaction writes parts of its own, which are added up here now and then."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

from ..hot import driver_of

_MAY_FOLD: Final = "SELECT pg_try_advisory_xact_lock(hashtext(%s))"
# Parts that are seen here are committed, and nobody writes them again.
_FOLD: Final = """
    WITH parts AS (DELETE FROM "{schema}".job_counts WHERE part <> 0 RETURNING queue, status, number)
    INSERT INTO "{schema}".job_counts AS kept (queue, status, part, number)
    SELECT queue, status, 0, sum(number) FROM parts GROUP BY queue, status HAVING sum(number) <> 0
    ON CONFLICT (queue, status, part) DO UPDATE SET number = kept.number + excluded.number
"""


def fold(connection: Connection, schema: str) -> None:
    """Add all parts up, unless another does so at this moment."""
    driver = driver_of(connection)
    if driver.execute(_MAY_FOLD, (f"{schema}.job_counts",)).fetchone()[0]:
        driver.execute(_FOLD.format(schema=schema))
