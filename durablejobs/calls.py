"""A job's call as text, for lists, logs and messages."""

from __future__ import annotations

import json
from typing import Any


def call_text(args: Any, kwargs: Any) -> str:
    """Return args and kwargs as they would stand in a call, JSON each.

    Either is text where somebody forced broken JSON into the row.
    """
    parts = [compact(value) for value in (args if isinstance(args, list) else [args])]
    named = kwargs if isinstance(kwargs, dict) else {"": kwargs}
    return ", ".join([*parts, *(f"{name}={compact(value)}" for name, value in named.items())])


def compact(value: Any) -> str:
    """Return JSON for people."""
    return json.dumps(value, ensure_ascii=False)
