"""What of a job's arguments is not shown: in lists, in logs, in the errors that are kept.

The row itself holds the arguments as they are, because the handler needs them.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

HIDDEN: Final = "[redacted]"
_SHORTEST: Final = 3
"""Characters of a value that is looked for in texts; "a" would be found everywhere."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """The arguments of a handler that are hidden, by name and by position."""

    names: frozenset[str]
    positions: frozenset[int]

    @classmethod
    def of(cls, names: Sequence[str], signature: inspect.Signature | None) -> Self:
        """Return the redaction of these parameters of a function."""
        parameters = list(signature.parameters.values()) if signature is not None else []
        positional = [each.name for each in parameters if each.kind is not each.KEYWORD_ONLY]
        return cls(frozenset(names), frozenset(positional.index(name) for name in names if name in positional))

    def applied(self, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Return args and kwargs as they may be shown; what is no list or object, broken JSON say, is hidden."""
        shown_args: Any = HIDDEN
        shown_kwargs: Any = HIDDEN
        if isinstance(args, list):
            shown_args = [HIDDEN if index in self.positions else value for index, value in enumerate(args)]
        if isinstance(kwargs, dict):
            shown_kwargs = {name: HIDDEN if name in self.names else value for name, value in kwargs.items()}
        return shown_args, shown_kwargs

    def in_text(self, text: str, args: Sequence[Any], kwargs: dict[str, Any]) -> str:
        """Return a text, of an error say, without the hidden values of these arguments."""
        hidden = [value for index, value in enumerate(args) if index in self.positions]
        hidden += [value for name, value in kwargs.items() if name in self.names]
        for secret in sorted(_texts(hidden), key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        return text

    def to_json(self) -> str:
        """Return it as it is stored."""
        return json.dumps({"names": sorted(self.names), "positions": sorted(self.positions)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what was stored."""
        stored = json.loads(text)
        return cls(frozenset(stored["names"]), frozenset(stored["positions"]))


def _texts(values: Iterable[Any]) -> set[str]:
    """Return the texts and numbers in JSON values, as they would stand in a message."""
    found: set[str] = set()
    for value in values:
        if isinstance(value, dict):
            found |= _texts(value.values())
        elif isinstance(value, list):
            found |= _texts(value)
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            text = str(value)
            # A message may have it as it is, or as `repr` writes it.
            found |= {each for each in (text, repr(text)[1:-1]) if len(each) >= _SHORTEST}
    return found
