"""What the doors have in common."""

from __future__ import annotations

from ..access import Access


class Door:
    """Transactions on one subject, for those who ask about it: each method is one, and calls statements."""

    def __init__(self, access: Access) -> None:
        self._open = access.open
        self._read = access.read
        self._ask = access.ask
        self._write = access.write
        self._write_hot = access.write_hot
        self._write_at_once = access.write_at_once
        self._database = access.database
        self._clock = access.clock
