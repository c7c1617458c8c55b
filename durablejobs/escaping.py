"""Text of strangers, fit to be shown: nothing in it can move a cursor, hide, or turn the reading direction."""

from __future__ import annotations

import unicodedata
from typing import Final

_HARMFUL: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Unicode categories: controls, formats (bidi among them), surrogates, private use, line and paragraph ends."""


def escaped(text: str) -> str:
    """Return the text in one line, with every character that a terminal may obey written as `\\x1b`, `\\u202e` …"""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped_character(character) for character in text)


def _escaped_character(character: str) -> str:
    if unicodedata.category(character) not in _HARMFUL:
        return character
    return character.encode("unicode_escape").decode("ascii")
