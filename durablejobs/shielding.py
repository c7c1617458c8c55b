"""Threads that must not be interrupted at this moment: what they have taken would never be given back.

A timeout raises an exception between any two steps of a thread. In the midst of taking the write lock it would leave
the lock taken for ever. So our own code that a handler calls is shielded from before it takes something until after it
has given it back, and an interruption that comes meanwhile is held back: it arrives when the last shield is gone.

What was sent before the shield arrives before it protects: `shield` takes a step at which that happens.
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

allow = _interruptible.add
"""From now on this thread may be interrupted."""
forbid = _interruptible.discard
"""Nobody will interrupt this thread any more."""


def shield(thread: int) -> None:
    """Let nobody interrupt the calling thread, whose identifier this is; shields may be nested."""
    if thread not in _interruptible:
        return
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


def unshield(thread: int) -> None:
    """Take one shield away, and let arrive what was held back, if it was the last one."""
    if thread not in _depths:
        return
    with _lock:
        depth = _depths.get(thread, 1) - 1
        if depth:
            _depths[thread] = depth
            return
        _depths.pop(thread, None)
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


class Shield:
    """A context manager: the thread that enters it is not interrupted in it."""

    __slots__ = ("_thread",)

    def __enter__(self) -> None:
        self._thread = threading.get_ident()
        shield(self._thread)

    def __exit__(self, *_: object) -> None:
        unshield(self._thread)
