"""Threads that must not be interrupted at this moment: what they have taken would never be given back.

A timeout raises an exception between any two steps of a thread. In the midst of taking the write lock it would leave
the lock taken for ever. So who takes it is shielded before, until after it is given back, and whoever interrupts asks
first. Both happen under the interpreter lock: an exception that was sent before the shield arrives before the lock is
taken.
"""

from __future__ import annotations

from typing import Final

_shielded: Final[set[int]] = set()

shield = _shielded.add
"""Let nobody interrupt the thread with this identifier."""
unshield = _shielded.discard
"""Let it be interrupted again."""
is_shielded = _shielded.__contains__
