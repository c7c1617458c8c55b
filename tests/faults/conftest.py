"""Fixtures of the harnesses: the real workers of `tests/worker`, and programs whose system calls fail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..worker.conftest import empty_database, nursery, queue
from .victims import Victims

__all__ = ["empty_database", "nursery", "queue"]


@pytest.fixture(scope="session")
def victims() -> Iterator[Victims]:
    """Where programs come from whose system calls are made to fail."""
    started = Victims()
    yield started
    started.close()
