"""What somebody who has misspelt a name may have meant."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """Return the known name that is most like this one, from 0 not at all to 1 the same; None: no one is so much."""
    import difflib  # what is spelt right has no use for it

    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=likeness)), None)
