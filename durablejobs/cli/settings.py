"""Settings from the environment and from `[tool.durablejobs]` in the working directory's pyproject.toml.

An option wins over the environment, which wins over pyproject.toml, which wins over the defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ..spelling import nearest
from .errors import ExitCode, Refusal
from .parameters import parse_duration, parse_retention

FILE: Final = "pyproject.toml"
TABLE: Final = "tool.durablejobs"

_WAYS_TO_NAME_A_DATABASE: Final = (
    f'no database: give --db PATH, set DURABLEJOBS_DB, or write db = "jobs.db" under [{TABLE}] in {FILE}'
)


def _text(value: object) -> str:
    if isinstance(value, str) and value:
        return value
    raise ValueError(f"must be a text in quotes, not {value!r}")


def _whole_number(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"must be a whole number, not {value!r}")


def _seconds(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    return parse_duration(_text(value))


def _retention(value: object) -> float:
    return parse_retention(value) if isinstance(value, str) else _seconds(value)


KEYS: Final[Mapping[str, Callable[[object], Any]]] = {
    "db": _text,
    "app": _text,
    "queues": _text,
    "concurrency": _whole_number,
    "async-concurrency": _whole_number,
    "process-concurrency": _whole_number,
    "processes": _whole_number,
    "interval": _seconds,
    "grace": _seconds,
    "lease": _seconds,
    "max-crashes": _whole_number,
    "keep-succeeded": _retention,
    "keep-cancelled": _retention,
    "keep-failed": _retention,
}
"""What may stand in the table, and how it is read."""


def read_settings(directory: Path | None = None) -> dict[str, Any]:
    """Return the checked table of the working directory's pyproject.toml; empty without one.

    Raises `Refusal` that names the key that is unknown or of the wrong type.
    """
    path = (directory or Path()) / FILE
    try:
        text = path.read_text(encoding="utf-8")
        import tomllib  # takes a while, and most directories have no such file

        document = tomllib.loads(text)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Refusal(f"{FILE}: {reason}", ExitCode.USAGE) from None
    tool = document.get("tool", {})
    table = tool.get("durablejobs", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        raise Refusal(f"{FILE}: [{TABLE}] must be a table", ExitCode.USAGE)
    return {key: _checked(key, value) for key, value in table.items()}


def _checked(key: str, value: object) -> Any:
    place = f"{FILE}: [{TABLE}] {key}"
    if key not in KEYS:
        near = nearest(key.replace("_", "-"), KEYS)
        hint = f"; did you mean {near}?" if near else f"; known are {', '.join(KEYS)}"
        raise Refusal(f"{place}: no such key{hint}", ExitCode.USAGE)
    try:
        return KEYS[key](value)
    except ValueError as error:
        raise Refusal(f"{place}: {error}", ExitCode.USAGE) from None


def database_or_none(given: str | None) -> str | None:
    """Return the database that was named on the command line, in the environment, or in pyproject.toml."""
    settings = read_settings()
    chosen: str | None = settings.get("db") if given is None else given
    return chosen


def database_of(given: str | None) -> str:
    """Return the database that was named. Raises `Refusal` when none was."""
    chosen = database_or_none(given)
    if chosen is None:
        raise Refusal(_WAYS_TO_NAME_A_DATABASE, ExitCode.USAGE)
    return chosen
