"""What stands here is about SQLite."""

from __future__ import annotations

import pytest


@pytest.fixture
def dialect() -> str:
    return "sqlite"
