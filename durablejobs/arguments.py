"""Args and kwargs become JSON text, or a clear answer about what in them cannot.

JSON only: None, bool, int, float, str, list, dict with string keys. A tuple is stored as a list, and comes back
as one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from .errors import ArgumentsError

DEEPEST: Final = 100
"""Lists and dicts may be nested this deep."""

_PLAIN: Final = frozenset({str, int, bool, type(None)})


def _encoder() -> Callable[[Any], str]:
    """Return what writes a value that was checked as `json.dumps` does, in a third of the time.

    `JSONEncoder.encode` makes a new encoder for each value, and one that looks for circles, which the check refuses.
    """
    plain = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # an interpreter that has it not in C
        return plain.encode
    separators = plain.key_separator, plain.item_separator
    encode = make(None, plain.default, json.encoder.encode_basestring, None, *separators, False, False, False)
    return lambda value: "".join(encode(value, 0))


_encode: Final = _encoder()

_HINTS: Final = {
    "datetime": "pass a string, for example .isoformat()",
    "date": "pass a string, for example .isoformat()",
    "timedelta": "pass a number of seconds",
    "bytes": "pass a string, for example base64",
    "set": "pass a list",
    "frozenset": "pass a list",
    "Decimal": "pass a string",
    "UUID": "pass a string",
}


def encode_json(value: Any, path: str, limit: int) -> str:
    """Return `value` as JSON text that can be stored and comes back equal (tuples as lists).

    `path` names the value in errors (`args`, `kwargs`, `result`), `limit` is the most bytes of UTF-8.
    Raises `ArgumentsError` that leads to the first culprit: `kwargs.user.born: datetime is not JSON`.
    """
    _check(value, path)
    try:
        text = _encode(value)
    except ValueError:  # all else was checked
        raise ArgumentsError(path, "an integer of more than 4,300 digits cannot be written: pass a string") from None
    size = len(text)
    if not text.isascii():
        size = len(text.encode("utf-8", "surrogatepass"))
    if size > limit:
        raise ArgumentsError(
            path,
            f"{size:,} bytes of JSON are over the limit of {limit:,}: store it elsewhere, pass a reference instead",
        )
    return text


def _check(value: Any, path: str, depth: int = 0) -> None:
    """Walk the value; paths are built only on the way to a culprit, because this runs at every enqueue."""
    kind = type(value)
    if kind is str:
        _check_text(value, path)
    elif kind in _PLAIN:
        return
    elif isinstance(value, dict | list | tuple):
        if depth >= DEEPEST:
            raise ArgumentsError(path[:80], f"nested deeper than {DEEPEST}: pass a reference instead")
        _check_members(value, path, depth + 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ArgumentsError(path, f"{value!r} is not JSON: pass None or a string")
    elif isinstance(value, str):
        _check_text(value, path)
    elif not isinstance(value, int):
        hint = _HINTS.get(kind.__name__, "pass None, bool, int, float, str, list or dict")
        raise ArgumentsError(path, f"{kind.__name__} is not JSON: {hint}")


def _check_members(value: Mapping[Any, Any] | Sequence[Any], path: str, depth: int) -> None:
    if isinstance(value, Mapping):
        for key, member in value.items():
            if not isinstance(key, str):
                raise ArgumentsError(path, f"the key {key!r} is {type(key).__name__}, JSON keys are strings")
            _check_text(key, path)
            if type(member) is not int:
                _check(member, f"{path}.{key}", depth)
        return
    for index, member in enumerate(value):
        if type(member) is not int:
            _check(member, f"{path}[{index}]", depth)


def _check_text(text: str, path: str) -> None:
    if "\0" in text:
        raise ArgumentsError(path, "text with a NUL character cannot be stored")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ArgumentsError(
                path, f"character {error.start} is a lone surrogate, which is no text: decode it properly first"
            ) from None
