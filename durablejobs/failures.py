"""What went wrong in a run, as text that is safe to store and to show, whatever the error does when it is read."""

from __future__ import annotations

import traceback
from typing import Final

LONGEST_MESSAGE: Final = 10_000
LONGEST_TRACEBACK: Final = 64_000
"""Characters of an error that are kept; what is cut is said."""


def safe_text(error: BaseException) -> str:
    """Return `Type: message` of any exception, even one whose `__str__` raises, fit to be stored and shown."""
    message = _safe_str(error)
    name = type(error).__name__
    return cut(storable(f"{name}: {message}" if message else name))


def _safe_str(value: object) -> str:
    try:
        return str(value)
    except BaseException:  # noqa: BLE001 - its author's mistake must not become the worker's
        return "(its __str__ raised)"


def safe_traceback(error: BaseException) -> str:
    """Return the traceback of any exception, without the executor's own frame."""
    try:
        inner = error.__traceback__.tb_next if error.__traceback__ else None
        text = "".join(traceback.format_exception(type(error), error, inner))
    except BaseException:  # noqa: BLE001 - as above
        text = "(the traceback could not be formatted)"
    return cut(storable(text), LONGEST_TRACEBACK)


def storable(text: object) -> str:
    """Replace what UTF-8 or SQLite's shell cannot carry: lone surrogates and NUL."""
    return _safe_str(text).encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def cut(text: str, most: int = LONGEST_MESSAGE) -> str:
    """Keep the beginning and the end, and say how much is left out."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"
