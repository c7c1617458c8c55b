"""What a check has found."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    ADVICE = "advice"
    """It works, but something could be better, or will matter one day."""
    WRONG = "wrong"
    """A promise does not hold, or jobs wait in vain."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of one check."""

    check: str
    """What was looked at, in a word or two."""
    level: Level
    what: str
    why: str = ""
    """Why it matters; empty where all is well."""
    remedy: str = ""
    """What to do about it."""

    @property
    def severity(self) -> int:
        """The level for a log."""
        return logging.WARNING if self.level is Level.WRONG else logging.INFO


def ok(check: str, what: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, what)


def advice(check: str, what: str, why: str, remedy: str) -> Finding:
    """It works, but."""
    return Finding(check, Level.ADVICE, what, why, remedy)


def wrong(check: str, what: str, why: str, remedy: str) -> Finding:
    """It has to be mended."""
    return Finding(check, Level.WRONG, what, why, remedy)


def size(count: float) -> str:
    """Return a number of bytes as people say it: `4.1 MB`."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"
