"""Arrays in the form in which PostgreSQL reads them as text.

Many rows go to it as one array for each column. The driver would turn lists into arrays an element at a time, which
takes a third of what storing the rows takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_SEPARATOR: Final = "\0"
"""Cannot be in a text of PostgreSQL."""


def array_text(values: Sequence[str | None] | Sequence[float | None]) -> str:
    """Return an array of one dimension, of texts or of numbers; None becomes NULL."""
    texts = [value for value in values if isinstance(value, str)]
    if not texts:
        return "{" + repr(list(values))[1:-1].replace("None", "NULL") + "}"
    if len(texts) < len(values):
        return "{" + ",".join(_element(value) if isinstance(value, str) else "NULL" for value in values) + "}"
    joined = _SEPARATOR.join(texts)
    if joined.count(_SEPARATOR) >= len(texts):  # the server refuses it, and says why
        return "{" + ",".join(map(_element, texts)) + "}"
    return '{"' + _escaped(joined).replace(_SEPARATOR, '","') + '"}'


def _element(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
