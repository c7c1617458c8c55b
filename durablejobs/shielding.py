"""Threads that must not be interrupted at this moment: what they have taken would never be given back.

A timeout raises an exception between any two steps of a thread. In the midst of taking the write lock it would leave
the lock taken for ever. So our own code that a handler calls is shielded from before it takes something until after it
has given it back, and an interruption that comes meanwhile is held back: it arrives when the last shield is gone.

What was sent before the shield arrives before it protects: raising it takes a step at which that happens.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

_lock: Final = threading.RLock()
"""Reentrant, for signals arrive in the midst of it in the same thread."""
_depths: Final[dict[int, int]] = {}
"""How many shields a thread has."""
_held_back: Final[dict[int, Callable[[], None]]] = {}
_interruptible: Final[set[int]] = set()
"""Threads that somebody may interrupt now: all others need no shield, and pay for none."""

begin_to_interrupt = _interruptible.add
"""From now on somebody may interrupt this thread."""
end_to_interrupt = _interruptible.discard
"""Nobody will interrupt this thread any more."""


class Shield:
    """Keeps the thread that raises it from being interrupted until it is lowered; a context manager that does both."""

    __slots__ = ("_thread",)

    def __init__(self) -> None:
        self._thread: int | None = None

    def up(self) -> None:
        """Raise it, in the thread that it is for; there may be others above and beneath."""
        thread = threading.get_ident()
        if thread in _interruptible:
            _shield(thread)
            self._thread = thread

    def down(self) -> None:
        """Lower it, if it is up."""
        thread, self._thread = self._thread, None
        if thread is not None:
            _unshield(thread)

    def __enter__(self) -> None:
        self.up()

    def __exit__(self, *_: object) -> None:
        self.down()


def _shield(thread: int) -> None:
    before = _depths.get(thread, 0)
    try:
        with _lock:
            _depths[thread] = before + 1
        _let_arrive()
    except BaseException:
        with _lock:
            if before:
                _depths[thread] = before
            else:
                _depths.pop(thread, None)
        raise


def _let_arrive() -> None:
    """Nothing: with each call the interpreter looks for exceptions that others have sent."""


def _unshield(thread: int) -> None:
    """Take one shield away, and let arrive what was held back, if it was the last one."""
    with _lock:
        depth = _depths[thread] - 1
        if depth:
            _depths[thread] = depth
            return
        del _depths[thread]  # first: a signal that comes now raises by itself
        deliver = _held_back.pop(thread, None)
    if deliver is not None:
        deliver()


def hold_back(thread: int, deliver: Callable[[], None]) -> bool:
    """If the thread is shielded, call this when it is not any more; return whether it is."""
    with _lock:
        if thread not in _depths:
            return False
        _held_back[thread] = deliver
        return True


def send(thread: int, deliver: Callable[[], None]) -> None:
    """Interrupt a thread by calling this: at once, or when it is shielded no more."""
    with _lock:  # nobody is shielded between the look and the call
        if not hold_back(thread, deliver):
            deliver()


def forget(thread: int) -> None:
    """Drop what is held back from a thread."""
    with _lock:
        _held_back.pop(thread, None)
